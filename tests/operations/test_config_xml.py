"""config.xml: opened by its password only, and not at all once it was changed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.core.management import CommandError, call_command
from lxml import etree
from pytest_django.fixtures import Settings

from apps.audit.models import AuditEntry
from apps.cns.channel import load_channel
from apps.cns.models import SecureChannelKey
from apps.operations import config_export, config_xml, password_key, secure_channel
from apps.operations.config_xml import ConfigRefused
from apps.operations.device_actions import By
from apps.relay.models import Deployment
from apps.tenants.groups import create_group
from apps.tenants.models import OrganizationGroup

BY = By("admin", "192.0.2.1")
PASSWORD = "correct horse battery"
PIN = base64.b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real derivation takes a third of a second; one test pays for it."""
    monkeypatch.setattr(password_key, "Scrypt", lambda **given: Scrypt(**(given | {"n": 2})))


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    return create_group('Müller & Söhne <"AG">')


@pytest.fixture
def made(og: OrganizationGroup, settings: Settings) -> bytes:
    settings.ENS = settings.ENS.model_copy(update={"cns_pins": [PIN]})
    return config_export.export(og, PASSWORD, BY).xml


def code_of(file: bytes, password: str = PASSWORD) -> str:
    with pytest.raises(ConfigRefused) as refused:
        config_xml.unseal(file, password)
    assert PASSWORD not in str(refused.value)
    return refused.value.code


def test_the_price_is_that_of_the_head(made: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    content = config_xml.unseal(made, PASSWORD)
    monkeypatch.setattr(password_key, "Scrypt", Scrypt)
    file = config_xml.seal(content, PASSWORD)
    assert b'n="131072" r="8" p="1"' in file
    assert config_xml.unseal(file, PASSWORD) == content
    salt = base64.b64decode(re.search(rb'salt="([^"]+)"', file)[1])  # type: ignore[index]
    check = base64.b64decode(re.search(rb'check="([^"]+)"', file)[1])  # type: ignore[index]
    derived = hashlib.scrypt(
        PASSWORD.encode(), salt=salt, n=2**17, r=8, p=1, maxmem=2**28, dklen=64
    )
    assert hmac.digest(derived[32:], b"ens-config check", "sha256")[:16] == check


def test_what_went_in_comes_out(made: bytes, og: OrganizationGroup) -> None:
    content = config_xml.unseal(made, PASSWORD)
    assert (content.og_guid, content.og_name) == (og.guid, og.name)
    assert content.cns_url == "https://cns.example" and content.cns_pins == (PIN,)
    pem = (content.private_key + content.certificate).encode()
    assert load_channel(pem).thumbprint == content.thumbprint
    assert (content.master_key, content.secret_key, content.link_address) == ("", "", "")
    assert content.private_key not in repr(content)


def test_the_file_follows_the_schema_and_shows_nothing(made: bytes, og: OrganizationGroup) -> None:
    assert config_xml.schema().validate(etree.fromstring(made))
    text = made.decode()
    for hidden in (og.name, "Müller", str(og.guid), "cns.example", "PRIVATE", "CERTIFICATE"):
        assert hidden not in text


def test_a_master_key_travels_only_when_asked_for(
    og: OrganizationGroup, settings: Settings
) -> None:
    file = config_export.export(og, PASSWORD, BY, with_master_key=True).xml
    key = settings.ENS.master_key_file.read_text()
    content = config_xml.unseal(file, PASSWORD)
    assert content.master_key == key
    # What else a further server of this deployment can't do without.
    assert content.link_address == settings.ENS.link_address
    assert content.secret_key == settings.ENS.secret_key.get_secret_value()
    assert content.secret_key not in repr(content)
    entry = AuditEntry.objects.latest("id")
    assert entry.after is not None and entry.after["with_the_master"] is True
    assert key.partition(":")[2].strip() not in json.dumps(entry.after)


def test_a_wrong_password_is_told_from_a_changed_file(made: bytes) -> None:
    assert code_of(made, PASSWORD + "!") == "wrong_password"
    assert code_of(made, "") == "wrong_password"
    # The same letters composed otherwise, as another keyboard sends them, are the same password.
    umlaut = config_xml.seal(config_xml.unseal(made, PASSWORD), "Schlüssel und Riegel")
    assert config_xml.unseal(umlaut, "Schlu\u0308ssel und Riegel")


def test_every_changed_part_is_noticed(made: bytes) -> None:
    text = made.decode()
    encrypted = re.search(r"<encrypted>(.+)</encrypted>", text)
    assert encrypted is not None
    raw = bytearray(base64.b64decode(encrypted[1]))
    raw[len(raw) // 2] ^= 1
    assert (
        code_of(text.replace(encrypted[1], base64.b64encode(raw).decode()).encode()) == "tampered"
    )
    raw = bytearray(base64.b64decode(encrypted[1]))[:-1]
    assert (
        code_of(text.replace(encrypted[1], base64.b64encode(raw).decode()).encode()) == "tampered"
    )
    other = re.sub(r"<created>\d{4}", "<created>1999", text)
    assert code_of(other.encode()) == "tampered"
    nonce = re.search(r'nonce="([^"]+)"', text)
    assert nonce is not None
    fresh = base64.b64encode(os.urandom(12)).decode()
    assert code_of(text.replace(nonce[1], fresh).encode()) == "tampered"
    for name in ("salt", "check"):
        found = re.search(rf'{name}="([^"]+)"', text)
        assert found is not None
        size = len(base64.b64decode(found[1]))
        fresh = base64.b64encode(os.urandom(size)).decode()
        assert code_of(text.replace(found[1], fresh).encode()) == "wrong_password"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('n="131072"', 'n="1073741824"'),
        lambda text: text.replace('n="131072"', 'n="1024"'),
        lambda text: text.replace('r="8"', 'r="800000"'),
        lambda text: text.replace('p="1"', 'p="4096"'),
        lambda text: text.replace("scrypt", "none"),
        lambda text: text.replace("<created>", "<!DOCTYPE x><created>"),
        lambda text: '<!DOCTYPE e [<!ENTITY a "b">]>' + text.partition("?>")[2],
        lambda text: text.replace("ensConfig", "other"),
        lambda text: "",
        lambda text: "not XML",
        lambda text: text + " " * config_xml.MAX_BYTES,
        lambda text: text.replace("urn:ens:config", "urn:other"),
        lambda text: text.replace("</ensConfig>", "<more/></ensConfig>"),
    ],
)
def test_what_would_cost_memory_or_is_no_such_file_is_refused_unread(
    made: bytes, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password_key, "derive", lambda *_: pytest.fail("a key was derived"))
    assert code_of(change(made.decode()).encode()) == "not_a_config_file"


def test_a_later_version_says_so(made: bytes) -> None:
    later = made.replace(b'version="1">', b'version="2">')
    assert later != made
    assert code_of(later) == "unknown_version"


@pytest.mark.parametrize(
    "password", ["short 1!", "123456789012345", "aaaabbbbaaaabbbb", "qwerty123456", ""]
)
def test_weak_passwords_are_refused_before_anything_is_made(
    og: OrganizationGroup, password: str
) -> None:
    with pytest.raises(ConfigRefused) as refused:
        config_export.export(og, password, BY)
    assert refused.value.code == "password_weak"
    assert not SecureChannelKey.objects.exists() and not AuditEntry.objects.exists()


def test_without_a_cns_there_is_nothing_to_hand_out(
    og: OrganizationGroup, settings: Settings
) -> None:
    settings.ENS = settings.ENS.model_copy(update={"cns_url": None})
    with pytest.raises(ConfigRefused) as refused:
        config_export.export(og, PASSWORD, BY)
    assert refused.value.code == "cns_url_missing"


def test_each_file_has_a_key_of_its_own_registered_and_revocable(og: OrganizationGroup) -> None:
    one, two = (config_export.export(og, PASSWORD, BY) for _ in range(2))
    assert one.thumbprint != two.thumbprint
    # The relay of the tests is beside: the same database, the same audience.
    assert one.registered and Deployment.objects.get(thumbprint=one.thumbprint).revoked_at is None
    row = SecureChannelKey.objects.get(thumbprint=one.thumbprint)
    assert row.use == "exported" and row.sealed_key is None
    assert secure_channel.revoke(one.thumbprint, BY) is True
    assert Deployment.objects.get(thumbprint=one.thumbprint).revoked_at is not None
    assert Deployment.objects.get(thumbprint=two.thumbprint).revoked_at is None
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["config.download", "config.download", "secure_channel.revoke"]


def test_a_relay_elsewhere_needs_the_certificate(og: OrganizationGroup, settings: Settings) -> None:
    settings.ENS = settings.ENS.model_copy(update={"cns_url": "https://relay.example/nws"})
    made = config_export.export(og, PASSWORD, BY)
    assert not made.registered and not Deployment.objects.exists()
    assert "BEGIN CERTIFICATE" in made.certificate and "PRIVATE" not in made.certificate


def test_export_show_and_import_by_command(
    og: OrganizationGroup, settings: Settings, tmp_path: Path
) -> None:
    password, file = tmp_path / "password", tmp_path / "config.xml"
    password.write_text(PASSWORD + "\n")
    out = StringIO()
    asked = {"password_file": password, "stdout": out, "stderr": StringIO()}
    call_command("ens_config", "export", str(file), og=str(og.guid), with_master_key=True, **asked)
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(CommandError, match="exists already"):
        call_command("ens_config", "export", str(file), og=str(og.guid), **asked)
    call_command("ens_config", "show", str(file), **asked)
    assert og.name in out.getvalue() and "PRIVATE" not in out.getvalue()
    assert AuditEntry.objects.get().actor.startswith("command line (")
    key, master = tmp_path / "new" / "cns.pem", tmp_path / "new" / "master.key"
    master_before = settings.ENS.master_key_file.read_text()
    settings.ENS = settings.ENS.model_copy(update={"cns_key_file": key, "master_key_file": master})
    call_command("ens_config", "import", str(file), **asked)
    assert load_channel(key.read_bytes()) and master.read_text() == master_before
    assert "ENS_CNS_URL=https://cns.example" in out.getvalue()
    with pytest.raises(CommandError, match="nothing was written"):
        call_command("ens_config", "import", str(file), **asked)
    password.write_text("some other password")
    with pytest.raises(CommandError, match="password is wrong"):
        call_command("ens_config", "show", str(file), **asked)


def test_a_weak_password_leaves_no_file_behind(og: OrganizationGroup, tmp_path: Path) -> None:
    password, file = tmp_path / "password", tmp_path / "config.xml"
    password.write_text("weak")
    with pytest.raises(CommandError, match="too short"):
        call_command("ens_config", "export", str(file), og=og.name, password_file=password)
    assert not file.exists()
