"""`config.xml`: what another server or an installer needs to know, sealed under a password.

The form is in docs/config-file.md and formats/ens-config-1.xsd; the key comes from a password by
`password_key`. The installer reads it before there is a database, so nothing here needs one.
"""

from __future__ import annotations

import hmac
import os
import uuid
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree

from apps.cns.channel import ChannelUnusable, load_channel
from apps.operations import password_key
from apps.operations.password_key import N_READ, SALT_BYTES, N, P, PasswordWeak, R

VERSION: Final = "1"
NAMESPACE: Final = "urn:ens:config"
MAX_BYTES: Final = 256 * 1024
_NAMES: Final[Any] = {None: NAMESPACE}
_SCHEMA_FILE: Final = Path(__file__).parent / "formats" / "ens-config-1.xsd"
_LABEL: Final = "ens-config check"
_NONCE_BYTES: Final = 12


class ConfigRefused(Exception):
    """The file can't be made or read. The text is one line for an administrator; `code`:

    `password_weak`, `cns_url_missing` (making one); `not_a_config_file`, `unknown_version`,
    `wrong_password`, `tampered` (reading one).
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file holds.

    `master_key` is the content of the master key file. It, `link_address` and `secret_key` are for
    a further server of this deployment; else all three are empty.
    """

    og_guid: uuid.UUID
    og_name: str
    cns_url: str
    cns_pins: tuple[str, ...]
    key_label: str
    thumbprint: str
    certificate: str
    private_key: str = field(repr=False)
    # Whether the relay knows the certificate already.
    registered: bool
    link_address: str = ""
    secret_key: str = field(default="", repr=False)
    master_key: str = field(default="", repr=False)


def check_password(password: str, og_name: str = "") -> None:
    """Refuse a password under which a file must not leave the house.

    Raises:
        ConfigRefused: `password_weak`; the text says what is wrong with it.
    """
    try:
        password_key.check_password(password, og_name)
    except PasswordWeak as error:
        raise ConfigRefused("password_weak", str(error)) from None


def seal(content: Configuration, password: str) -> bytes:
    """The file: `content` encrypted under `password`, whose strength is the caller's to check."""
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(_NONCE_BYTES)
    key, check = password_key.derive(password, salt, N, _LABEL)
    head = _head(created, N, salt, check, nonce)
    encrypted = AESGCM(key).encrypt(nonce, _inner(content), head)
    root = etree.Element(_q("ensConfig"), {"version": VERSION}, nsmap=_NAMES)
    etree.SubElement(root, _q("created")).text = created
    etree.SubElement(
        root,
        _q("keyDerivation"),
        {
            "algorithm": "scrypt",
            "n": str(N),
            "r": str(R),
            "p": str(P),
            "salt": _b64(salt),
            "check": _b64(check),
        },
    )
    etree.SubElement(root, _q("encryption"), {"algorithm": "AES-256-GCM", "nonce": _b64(nonce)})
    etree.SubElement(root, _q("encrypted")).text = _b64(encrypted)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True))


def unseal(file: bytes, password: str) -> Configuration:
    """Open a file.

    Raises:
        ConfigRefused: `not_a_config_file`, `unknown_version`, `wrong_password` or `tampered`.
    """
    root = _parsed(file, "ensConfig")
    if root.get("version") != VERSION:
        raise ConfigRefused(
            "unknown_version", "this config.xml has a version that this release does not know"
        )
    _validate(root, "not_a_config_file")
    derivation, encryption = root.find(_q("keyDerivation")), root.find(_q("encryption"))
    created, encrypted = root.findtext(_q("created")), root.findtext(_q("encrypted"))
    if derivation is None or encryption is None or created is None or encrypted is None:
        raise ConfigRefused("not_a_config_file", "this is no config.xml of ENS")
    n = int(derivation.attrib["n"])
    if n not in N_READ:  # as the schema says; what costs memory is worth a second look
        raise ConfigRefused("not_a_config_file", "this is no config.xml of ENS")
    salt, check = b64decode(derivation.attrib["salt"]), b64decode(derivation.attrib["check"])
    nonce = b64decode(encryption.attrib["nonce"])
    key, expected = password_key.derive(password, salt, n, _LABEL)
    if not hmac.compare_digest(expected, check):
        raise ConfigRefused("wrong_password", "the password is wrong")
    try:
        inner = AESGCM(key).decrypt(
            nonce, b64decode(encrypted.strip()), _head(created.strip(), n, salt, check, nonce)
        )
    except InvalidTag:
        raise ConfigRefused(
            "tampered", "the password is right, but the file was changed after it was made"
        ) from None
    return _read_inner(inner)


def schema() -> etree.XMLSchema:
    """The XSD of the file and of what is inside it."""
    return _schema()


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(_SCHEMA_FILE), _parser()))


def _head(created: str, n: int, salt: bytes, check: bytes, nonce: bytes) -> bytes:
    """What is authenticated with the encrypted part: everything that stands before it."""
    lines = (
        NAMESPACE, VERSION, created,
        "scrypt", str(n), str(R), str(P), _b64(salt), _b64(check),
        "AES-256-GCM", _b64(nonce),
    )  # fmt: skip
    return "\n".join(lines).encode("ascii")


def _inner(content: Configuration) -> bytes:
    root = etree.Element(_q("configuration"), nsmap=_NAMES)
    etree.SubElement(
        root, _q("organizationGroup"), {"guid": str(content.og_guid), "name": content.og_name}
    )
    cns = etree.SubElement(root, _q("cloudNotificationService"), {"url": content.cns_url})
    for pin in content.cns_pins:
        etree.SubElement(cns, _q("pin")).text = pin
    channel = etree.SubElement(
        root,
        _q("secureChannel"),
        {
            "label": content.key_label,
            "thumbprint": content.thumbprint,
            "registered": "true" if content.registered else "false",
        },
    )
    etree.SubElement(channel, _q("certificate")).text = content.certificate
    etree.SubElement(channel, _q("privateKey")).text = content.private_key
    if content.link_address:
        server = etree.SubElement(root, _q("deployment"), {"linkAddress": content.link_address})
        etree.SubElement(server, _q("secretKey")).text = content.secret_key
    if content.master_key:
        etree.SubElement(root, _q("masterKey")).text = content.master_key
    _validate(root, "cns_url_missing")
    return bytes(etree.tostring(root, encoding="utf-8"))


def _read_inner(inner: bytes) -> Configuration:
    root = _parsed(inner, "configuration")
    _validate(root, "tampered")
    group, cns = root.find(_q("organizationGroup")), root.find(_q("cloudNotificationService"))
    channel, server = root.find(_q("secureChannel")), root.find(_q("deployment"))
    if group is None or cns is None or channel is None:
        raise ConfigRefused("tampered", "the file holds no configuration")
    certificate = channel.findtext(_q("certificate")) or ""
    private_key = channel.findtext(_q("privateKey")) or ""
    try:
        thumbprint = load_channel((private_key + certificate).encode("utf-8")).thumbprint
    except ChannelUnusable as error:
        raise ConfigRefused("tampered", f"its secure channel key can't be used: {error}") from None
    return Configuration(
        og_guid=uuid.UUID(str(group.attrib["guid"])),
        og_name=str(group.attrib["name"]),
        cns_url=str(cns.attrib["url"]),
        cns_pins=tuple(pin.text or "" for pin in cns.findall(_q("pin"))),
        key_label=str(channel.attrib["label"]),
        thumbprint=thumbprint,
        certificate=certificate,
        private_key=private_key,
        registered=channel.attrib["registered"] in ("true", "1"),
        link_address=str(server.attrib["linkAddress"]) if server is not None else "",
        secret_key=root.findtext(f"{_q('deployment')}/{_q('secretKey')}") or "",
        master_key=root.findtext(_q("masterKey")) or "",
    )


def _parsed(data: bytes, name: str) -> etree._Element:
    refused = ConfigRefused("not_a_config_file", "this is no config.xml of ENS")
    # In UTF-8 only: another encoding could hide a DOCTYPE from the search.
    if len(data) > MAX_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise refused
    try:
        root = etree.fromstring(data, _parser())
    except (etree.XMLSyntaxError, ValueError):
        raise refused from None
    if root.tag != _q(name):
        raise refused
    return root


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _validate(root: etree._Element, code: str) -> None:
    if not _schema().validate(root):
        raise ConfigRefused(code, "this does not follow the schema of config.xml")


def _q(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _b64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
