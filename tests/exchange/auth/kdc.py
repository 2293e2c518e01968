"""A real KDC (MIT krb5kdc) on loopback, with a realm of its own in a temporary directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from apps.exchange.auth import kerberos

REALM = "EXAMPLE.COM"
_SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/krb5kdc"


@dataclass
class Kdc:
    """A realm. `environment` is what clients and services need to know of it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5_KTNAME": str(self.folder / "http.keytab"),
        }

    @property
    def log(self) -> str:
        return (self.folder / "kdc.log").read_text()

    def add(self, users: dict[str, str], host: str) -> None:
        """Add users with their passwords, and the service HTTP/host."""
        keytab = self.folder / "http.keytab"
        lines = [f"addprinc -pw {users[name]} +requires_preauth {name}" for name in users]
        lines += [f"addprinc -randkey HTTP/{host}", f"ktadd -k {keytab} HTTP/{host}", "quit"]
        self._run("kadmin.local", "-r", REALM, say="\n".join([*lines, ""]))

    def change_key(self, host: str) -> str:
        """Give the service a new key; returns the keytab that holds this one only."""
        keytab = str(self.folder / "new.keytab")
        self._run("kadmin.local", "-r", REALM, say=f"ktadd -k {keytab} HTTP/{host}\nquit\n")
        return keytab

    def wrong_passwords(self, name: str) -> int:
        """How often a wrong password of this user came."""
        told = f"PREAUTH_FAILED: {name}@{REALM}"
        return sum(told in line for line in self.log.splitlines())

    def _run(self, *command: str, say: str = "") -> None:
        found = shutil.which(command[0], path=_SBIN)
        assert found is not None, command[0]
        done = subprocess.run(
            [found, *command[1:]],
            env=os.environ | self.environment,
            input=say.encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        found = shutil.which("krb5kdc", path=_SBIN)
        assert found is not None
        self.process = subprocess.Popen(
            [found, "-n", "-r", REALM],
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError("krb5kdc did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextmanager
def kdc(folder: Path, users: dict[str, str], host: str = "localhost") -> Iterator[Kdc]:
    """A running KDC with users and the service HTTP/host."""
    if shutil.which("krb5kdc", path=_SBIN) is None:
        pytest.skip("krb5kdc is not installed")
    if not kerberos.available():
        pytest.skip("gssapi and krb5 are not installed")
    made = Kdc(folder, _free_port())
    (folder / "krb5.conf").write_text(
        f"""[libdefaults]
 default_realm = {REALM}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {REALM} = {{
  kdc = 127.0.0.1:{made.port}
 }}
"""
    )
    (folder / "kdc.conf").write_text(
        f"""[kdcdefaults]
 kdc_listen = 127.0.0.1:{made.port}
 kdc_tcp_listen = 127.0.0.1:{made.port}
[realms]
 {REALM} = {{
  database_name = {folder / "principal"}
  key_stash_file = {folder / "stash"}
  acl_file = {folder / "kadm5.acl"}
  max_life = 10h
 }}
[logging]
 kdc = FILE:{folder / "kdc.log"}
"""
    )
    made._run("kdb5_util", "create", "-r", REALM, "-s", "-P", "master")
    made.add(users, host)
    made.start()
    try:
        yield made
    finally:
        made.stop()
