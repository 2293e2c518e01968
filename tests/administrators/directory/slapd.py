"""An OpenLDAP server of the tests' own, filled with people and groups, with TLS by a test CA.

Its entries look like OpenLDAP's and like Active Directory's at once. Unlike a sane server it takes
a bind without a password for an anonymous one, as Active Directory does: a client that lets an
empty password through lets everybody in.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SUFFIX = "dc=contoso,dc=example"
ADMIN = f"cn=root,{SUFFIX}"
SERVICE = f"cn=ens,ou=services,{SUFFIX}"
SERVICE_PASSWORD = "service-canary-7f3a"
PEOPLE = f"ou=people,{SUFFIX}"
CHIEFS = f"cn=ENS Admins,ou=groups,{SUFFIX}"
HELPERS = f"cn=Help Desk,ou=groups,{SUFFIX}"
READERS = f"cn=readers,ou=groups,{SUFFIX}"
_PATIENCE_S = 40.0
_SCHEMA = """
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.159 NAME 'accountExpires' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'adPerson' SUP top AUXILIARY
  MAY ( userAccountControl $ accountExpires $ objectGUID $ sAMAccountName $ userPrincipalName ) )
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def binary(name: str) -> str:
    """One of OpenLDAP's programs; skips where it, or our LDAP library, is absent."""
    pytest.importorskip("bonsai", reason="bonsai is not installed")
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip("no OpenLDAP on this machine")
    return found


class Slapd:
    """A server. It may be stopped and started again; ports and data stay."""

    def __init__(self, home: Path, about_nobody: str = "allow bind_anon_dn") -> None:
        self.home = home
        self.plain_port, self.tls_port = free_port(), free_port()
        self.ca_file = home / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None
        (home / "data").mkdir(parents=True)
        _certificates(home)
        (home / "ad.schema").write_text(_SCHEMA)
        (home / "slapd.conf").write_text(_configuration(home, about_nobody))

    @property
    def ldaps(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def starttls(self) -> str:
        return f"ldap://127.0.0.1:{self.plain_port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        urls = f"ldap://127.0.0.1:{self.plain_port}/ {self.ldaps}/"
        # A copy: where AppArmor confines the installed one, it may read nothing here.
        program = self.home / "slapd"
        if not program.exists():
            shutil.copy(binary("slapd"), program)
        words = [str(program), "-f", str(self.home / "slapd.conf"), "-h", urls, "-d", "0"]
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.tls_port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("slapd does not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def add(self, ldif: str) -> None:
        self._run("ldapadd", ldif)

    def change(self, dn: str, what: str) -> None:
        """Change an entry, as the lines of LDIF's `changetype: modify` say."""
        self._run("ldapmodify", f"dn: {dn}\nchangetype: modify\n{what}\n")

    def delete(self, dn: str) -> None:
        self._run("ldapmodify", f"dn: {dn}\nchangetype: delete\n")

    def join(self, group: str, name: str) -> None:
        self.change(group, f"add: member\nmember: uid={name},{PEOPLE}")

    def leave(self, group: str, name: str) -> None:
        self.change(group, f"delete: member\nmember: uid={name},{PEOPLE}")

    def _run(self, program: str, ldif: str) -> None:
        words = [binary(program), "-x", "-H", f"ldap://127.0.0.1:{self.plain_port}", "-D", ADMIN]
        done = subprocess.run(
            [*words, "-w", "root"], input=ldif, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def person(name: str, password: str, **more: str) -> str:
    """A person as LDIF; `guid=` gives them Active Directory's attributes, too."""
    lines = [f"dn: uid={name},{PEOPLE}", "objectClass: inetOrgPerson", "objectClass: adPerson"]
    lines += [f"uid: {name}", f"cn: {name.title()}", "sn: x", f"userPassword: {password}"]
    lines += [f"sAMAccountName: {name}", f"userPrincipalName: {name}@contoso.example"]
    if "guid" in more:
        lines.append(f"objectGUID:: {b64encode(UUID(more.pop('guid')).bytes_le).decode()}")
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in more.items())]) + "\n\n"


def tree() -> str:
    """The tree without people: a service account, three groups with a member that is nobody."""
    units = "".join(
        f"dn: ou={name},{SUFFIX}\nobjectClass: organizationalUnit\nou: {name}\n\n"
        for name in ("people", "groups", "services")
    )
    groups = "".join(
        f"dn: {dn}\nobjectClass: groupOfNames\ncn: {dn.split(',')[0][3:]}\nmember: cn=nobody\n\n"
        for dn in (CHIEFS, HELPERS, READERS)
    )
    return (
        f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Contoso\n"
        f"dc: contoso\n\n{units}{groups}dn: {SERVICE}\nobjectClass: organizationalRole\n"
        f"objectClass: simpleSecurityObject\ncn: ens\nuserPassword: {SERVICE_PASSWORD}\n\n"
    )


def _configuration(home: Path, about_nobody: str) -> str:
    return f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include {home}/ad.schema
pidfile {home}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
{about_nobody}
TLSCACertificateFile {home}/ca.pem
TLSCertificateFile {home}/server.pem
TLSCertificateKeyFile {home}/server.key
database mdb
suffix "{SUFFIX}"
rootdn "{ADMIN}"
rootpw root
directory {home}/data
maxsize 10485760
dbnosync
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""


def _certificates(home: Path) -> None:
    ca_key, ca = _certificate("ENS test CA", None)
    key, leaf = _certificate("127.0.0.1", (ca_key, ca))
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (home / "ca.pem").write_bytes(ca.public_bytes(pem))
    (home / "server.pem").write_bytes(leaf.public_bytes(pem))
    (home / "server.key").write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))


Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _certificate(name: str, by: Signer | None) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[1].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if by is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))])
        made = made.add_extension(names, critical=False)
    return key, made.sign(by[0] if by else key, hashes.SHA256())
