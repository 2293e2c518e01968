"""Private CAs are added to the system's, on every kind of system."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pycurl
import pytest

from apps.wire import trust
from apps.wire.client import Client, Request, Tls, TlsFailed
from tests.wire.servers import Authority, Seen, http_answer, http_site

# OpenSSL's X509_NAME_hash of "CN=System CA", by which it looks for files in a hashed folder.
NAME_HASH = "a631e9c0"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps its own store")


async def ok(_seen: Seen) -> bytes:
    return http_answer()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    trust.trust_options.cache_clear()
    yield
    trust.trust_options.cache_clear()


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("system"), "System CA")


def bundle(system: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    file = system.folder / "bundle.crt"
    file.write_text(system.pem)
    monkeypatch.setattr(trust, "_BUNDLES", ("/nowhere", str(file)))
    monkeypatch.setattr(trust, "_HASHED", ("/nowhere", str(system.folder)))


def hashed(system: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = system.folder / "certs"
    folder.mkdir()
    (folder / f"{NAME_HASH}.0").write_text(system.pem)
    monkeypatch.setattr(trust, "_BUNDLES", ("/nowhere",))
    monkeypatch.setattr(trust, "_HASHED", ("/nowhere", str(folder)))


@pytest.mark.parametrize("kind", [bundle, hashed])
async def test_both_are_trusted_and_no_third(
    kind: object,
    system: Authority,
    authority: Authority,
    client: Client,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind(system, monkeypatch)  # type: ignore[operator]
    private = Tls(authority.pem)
    for issuer in (system, authority):
        context, _ = issuer.context()
        async with http_site(ok, context) as site:
            assert (await client.perform(Request("GET", site.url(), tls=private))).status == 200
    context, _ = Authority(tmp_path_factory.mktemp("third")).context()
    async with http_site(ok, context) as site:
        with pytest.raises(TlsFailed):
            await client.perform(Request("GET", site.url(), tls=private))


async def test_the_system_s_alone(
    system: Authority, authority: Authority, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(system, monkeypatch)
    context, _ = system.context()
    async with http_site(ok, context) as site:
        assert (await client.perform(Request("GET", site.url()))).status == 200
    context, _ = authority.context()
    async with http_site(ok, context) as site:
        with pytest.raises(TlsFailed):
            await client.perform(Request("GET", site.url()))


def test_without_a_system_bundle_certifi_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", ())
    ((option, path),) = trust.trust_options("")
    assert option == pycurl.CAINFO
    assert Path(str(path)).is_file()
