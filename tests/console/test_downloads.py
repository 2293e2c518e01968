"""config.xml, admin API tokens, pins, push apps: what leaves the console or opens a door."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import Settings

from apps.administrators import api_tokens
from apps.administrators.models import AdminApiToken
from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.cns.models import Pin, SecureChannelKey, Site
from apps.cns.site import current_site
from apps.lab.ca import LabCa, ServerFiles
from apps.operations import config_xml
from apps.relay.models import Deployment, PushApp
from apps.wire.pins import spki_pin
from tests.console.people import BASE, World, signed_in


@contextmanager
def tls_server(files: ServerFiles) -> Iterator[int]:
    """Shakes hands with whoever comes, and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = files.server_context()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


GOOD = "Correct-Horse 42 Battery"
DOWNLOAD = f"{BASE}download-configuration/"


@pytest.fixture
def chief(world: World) -> Client:
    return signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])


@pytest.fixture(autouse=True)
def cns(settings: Settings) -> None:
    here = "https://cns.example.com"
    settings.ENS = settings.ENS.model_copy(update={"cns_url": here, "relay_audience": here})


def download(client: Client, **form: Any) -> Any:
    return client.post(DOWNLOAD, {"password": GOOD, "again": GOOD} | form)


def test_config_xml_opens_with_its_password_only(world: World) -> None:
    client = signed_in(world.people[Role.OG_ADMINISTRATOR])
    file = download(client, with_master_key="on").content
    content = config_xml.unseal(file, GOOD)
    assert (content.og_guid, content.cns_url) == (world.mine.guid, "https://cns.example.com")
    # Not an OG administrator's to take, whatever the form says.
    assert content.master_key == ""
    # Nor may a key of theirs push to everybody's apps.
    assert not content.registered and not Deployment.objects.exists()
    with pytest.raises(config_xml.ConfigRefused, match="password"):
        config_xml.unseal(file, GOOD + "x")
    entry = AuditEntry.objects.get(action="config.download")
    assert GOOD not in str(vars(entry))
    assert SecureChannelKey.objects.get().sealed_key is None


def test_a_system_administrator_may_take_the_master_key_along(chief: Client) -> None:
    assert config_xml.unseal(download(chief, with_master_key="on").content, GOOD).master_key
    content = config_xml.unseal(download(chief).content, GOOD)
    assert not content.master_key and content.registered


@pytest.mark.parametrize(
    "form", [{"again": "another"}, {"password": "short", "again": "short"}, {"password": ""}]
)
def test_no_file_under_a_weak_or_misspelt_password(chief: Client, form: dict[str, str]) -> None:
    page = download(chief, **form)
    assert page["Content-Type"].startswith("text/html")
    assert not SecureChannelKey.objects.exists()


@pytest.mark.parametrize("role", [Role.HELP_DESK, Role.AUDITOR])
def test_who_may_not_download(world: World, role: str) -> None:
    assert download(signed_in(world.people[role])).status_code == 403


def test_an_admin_api_token_is_shown_once_and_reaches_as_far_as_its_owner(world: World) -> None:
    client = signed_in(world.people[Role.HELP_DESK])
    url = f"{BASE}administrators/adminapitoken/"
    page = client.post(f"{url}add/", {"label": "UEM", "scopes": ["devices.act"], "days": "90"})
    found = re.search(r'value="(ens[A-Za-z0-9_-]{40,})"', page.content.decode())
    assert found is not None
    caller = api_tokens.authenticate(found[1])
    assert caller is not None and caller.has("devices.act") and not caller.has("tokens.manage")
    row = AdminApiToken.objects.get()
    assert found[1] not in client.get(f"{url}{row.pk}/change/").content.decode()
    # Another's token is not to be seen, but by who manages administrators.
    other = signed_in(world.people[Role.OG_ADMINISTRATOR])
    assert b"UEM" not in other.get(url).content
    assert other.post(f"{url}{row.pk}/revoke/").status_code == 404
    signed_in(world.people[Role.SYSTEM_ADMINISTRATOR]).post(f"{url}{row.pk}/revoke/")
    assert api_tokens.authenticate(found[1]) is None


def test_pins_and_site(chief: Client, tmp_path: Path) -> None:
    pem = LabCa(tmp_path).issue("cns").certificate.read_text("ascii")
    chief.post(f"{BASE}ssl-pinning/", {"host": "cns.example.com", "certificate": pem})
    pin = Pin.objects.get()
    assert current_site().pins == (pin.spki,)
    assert pin.spki in chief.get(f"{BASE}ssl-pinning/").content.decode()
    chief.post(f"{BASE}ssl-pinning/{pin.pk}/remove/")
    assert not Pin.objects.exists()
    chief.post(f"{BASE}site-urls/", {"url": "https://other.example.com/cns", "ca_pem": ""})
    assert current_site().url == "https://other.example.com/cns"
    for bad in (
        "http://x.example.com",
        "https://u:p@x.example.com",
        "https://x/?a=b",
        "javascript:1",
    ):
        answer = chief.post(f"{BASE}site-urls/", {"url": bad, "ca_pem": ""})
        assert current_site().url == "https://other.example.com/cns"
        assert b"https://" in answer.content
        assert (b"by https:// only" in answer.content) == bad.startswith("http:")


def test_a_proxys_password_is_kept_until_another_is_typed(chief: Client) -> None:
    url = f"{BASE}cns-proxy/"
    form = {"url": "http://proxy.example.com:8080", "auth": "basic", "user": "ens"}
    chief.post(url, {**form, "password": "pass-word-9"})
    chief.post(url, {**form, "url": "http://proxy.example.com:8081", "password": ""})
    proxy = current_site().proxy
    assert proxy is not None and (proxy.port, proxy.password) == (8081, "pass-word-9")
    assert b"pass-word-9" not in chief.get(url).content
    assert "pass-word-9" not in str([vars(e) for e in AuditEntry.objects.all()])
    assert "pass-word-9" not in str(Site.objects.values().get())
    chief.post(url, {"url": "", "auth": "none", "user": "", "password": ""})
    assert current_site().proxy is None


def test_a_proxys_password_is_told_to_no_other_proxy(chief: Client) -> None:
    url = f"{BASE}cns-proxy/"
    form = {"url": "http://proxy.example.com:8080", "auth": "ntlm", "user": "ens"}
    chief.post(url, {**form, "password": "pass-word-9"})
    for other in ({"url": "http://evil.example.net:8080"}, {"auth": "basic"}):
        answer = chief.post(url, {**form, **other, "password": ""})
        assert b"Type it once more" in answer.content
        proxy = current_site().proxy
        assert proxy is not None and (proxy.host, proxy.auth) == ("proxy.example.com", "ntlm")
    assert chief.post(url, {**form, "auth": "basic", "password": "other-9"}).status_code == 302


def test_where_pushes_go_and_what_is_pinned_are_changed_after_a_step_up_only(
    chief: Client, tmp_path: Path, settings: Settings
) -> None:
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = -1
    pem = LabCa(tmp_path).issue("cns").certificate.read_text("ascii")
    for page, form in (
        ("site-urls/", {"url": "https://evil.example.net", "ca_pem": ""}),
        ("ssl-pinning/", {"host": "cns.example.com", "certificate": pem}),
    ):
        assert chief.get(f"{BASE}{page}").status_code == 200
        answer = chief.post(f"{BASE}{page}", form)
        assert answer.status_code == 302 and "/account/again/" in answer["Location"]
    assert current_site().url == "https://cns.example.com" and not Pin.objects.exists()


def test_a_push_app_is_checked_and_sealed(chief: Client) -> None:
    deployment = Deployment.objects.create(name="here", thumbprint="A" * 43, certificate="x")
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    url = f"{BASE}push-apps/"
    form = {
        "kind": "key",
        "app": "com.example.mail",
        "key_id": "ABCDE12345",
        "team_id": "TEAM123456",
        "deployments": [str(deployment.pk)],
    }
    page = chief.post(f"{url}add/", form | {"file": SimpleUploadedFile("k.p8", b"no key")})
    assert b"Not a private key" in page.content and not PushApp.objects.exists()
    chief.post(f"{url}add/", form | {"file": SimpleUploadedFile("k.p8", key)})
    app = PushApp.objects.get()
    assert list(app.deployments.all()) == [deployment]
    secret = key.decode().splitlines()[1]
    assert secret.encode() not in bytes(app.sealed_key)
    assert secret not in chief.get(url).content.decode()
    assert secret not in str([vars(e) for e in AuditEntry.objects.all()])
    chief.post(f"{url}{app.pk}/remove/")
    assert not PushApp.objects.exists()


def test_a_hosts_certificate_is_fetched_looked_at_and_then_pinned(
    chief: Client, settings: Settings, tmp_path: Path
) -> None:
    files = LabCa(tmp_path).issue("cns")
    with tls_server(files) as port:
        allowed = [IPv4Network("127.0.0.0/8")]
        settings.ENS = settings.ENS.model_copy(update={"guard_exceptions": allowed})
        form = {"host": f"127.0.0.1:{port}", "certificate": "", "fetch": "yes"}
        page = chief.post(f"{BASE}ssl-pinning/", form).content.decode()
    pem = files.certificate.read_text("ascii")
    assert spki_pin(x509.load_pem_x509_certificate(pem.encode())) in page.replace("&#x2B;", "+")
    assert not Pin.objects.exists()
    for bad in ("", "127.0.0.1:1", "169.254.169.254", "no such host"):
        page = chief.post(f"{BASE}ssl-pinning/", {"host": bad, "fetch": "yes"}).content.decode()
        assert "Traceback" not in page and not Pin.objects.exists()
