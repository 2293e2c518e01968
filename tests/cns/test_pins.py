"""The relay's host is known by its key: a certificate that is merely valid is not enough."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr
from pytest_django.fixtures import Settings

from apps.cns.client import CnsClient
from apps.cns.configured import configured_client
from apps.cns.errors import CnsUnavailable
from apps.lab.ca import LabCa
from tests.cns.test_client import CHANNEL, push
from tests.wire.proxies import ACCOUNTS, PASSWORD, USER, connect_proxy


@dataclass
class TlsRelay:
    url: str
    ca_pem: str
    pin: str


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[TlsRelay]:
    async def accept(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())["notifications"]
        results = [{"id": each["id"], "status": "accepted"} for each in asked]
        return web.json_response({"version": 1, "results": results})

    ca = LabCa(tmp_path)
    files = ca.issue("relay")
    public = x509.load_pem_x509_certificate(files.certificate.read_bytes()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    app = web.Application()
    app.router.add_post("/nws/notify/apns", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=files.server_context())
    await site.start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield TlsRelay(url, ca.pem, b64encode(sha256(spki).digest()).decode())
    await runner.cleanup()


OTHER_PIN = b64encode(sha256(b"another key").digest()).decode()


async def test_the_current_or_the_next_pin_must_match(relay: TlsRelay) -> None:
    for pins in ([], [relay.pin], [OTHER_PIN, relay.pin]):
        client = CnsClient(relay.url, CHANNEL, pins, relay.ca_pem)
        (result,) = await client.send("apns", [push()])
        assert result.status == "accepted"
        await client.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_another_host_is_not_spoken_to(relay: TlsRelay, trusted: bool) -> None:
    pins, ca_pem = ([OTHER_PIN], relay.ca_pem) if trusted else ([relay.pin], "")
    client = CnsClient(relay.url, CHANNEL, pins, ca_pem)
    with pytest.raises(CnsUnavailable) as failed:
        await client.send("apns", [push()])
    assert failed.value.code == ("tls_pin_mismatch" if trusted else "tls_untrusted")
    await client.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("auth", ["none", "basic", "ntlm", "negotiate"])
async def test_through_a_companys_proxy_to_the_pinned_host(
    relay: TlsRelay,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    auth: str,
) -> None:
    """As `ens.env` says, and whatever the environment says of proxies."""
    for name, content in {"accounts": ACCOUNTS.encode(), "cns.pem": CHANNEL}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "ca.pem").write_text(relay.ca_pem)
    monkeypatch.setenv("NTLM_USER_FILE", str(tmp_path / "accounts"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    port = int(relay.url.rpartition(":")[2])
    async with connect_proxy(auth, port) as proxy:
        settings.ENS = settings.ENS.model_copy(
            update={
                "cns_url": relay.url,
                "cns_key_file": tmp_path / "cns.pem",
                "cns_ca_file": tmp_path / "ca.pem",
                "cns_pins": [relay.pin],
                "cns_proxy_url": f"http://127.0.0.1:{proxy.port}",
                "cns_proxy_auth": auth,
                "cns_proxy_user": SecretStr(USER),
                "cns_proxy_password": SecretStr(PASSWORD),
            }
        )
        client = await sync_to_async(configured_client)()
        for _ in range(3):
            (result,) = await client.send("apns", [push()])
            assert result.status == "accepted"
        await client.close()
        assert proxy.targets == [f"127.0.0.1:{port}"]
        settings.ENS = settings.ENS.model_copy(
            update={"cns_proxy_password": SecretStr("wrong"), "cns_pins": [OTHER_PIN]}
        )
        client = await sync_to_async(configured_client)()
        with pytest.raises(CnsUnavailable) as failed:
            await client.send("apns", [push()])
        expected = "tls_pin_mismatch" if auth == "none" else "proxy_login_refused"
        assert failed.value.code == expected
        await client.close()
