"""What the console decides about the CNS goes before `ens.env`, and is kept sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pytest_django.fixtures import Settings

from apps.cns import configured
from apps.cns.channel import make_channel
from apps.cns.models import Pin, Site
from apps.cns.site import (
    CnsNotConfigured,
    PinRefused,
    add_pin,
    current_site,
    save_proxy,
    site_row,
)
from apps.lab.ca import LabCa
from apps.wire.proxy import Proxy

pytestmark = pytest.mark.django_db

ENV_PIN = "A" * 43 + "="


@pytest.fixture
def env(settings: Settings) -> Settings:
    configure(settings, cns_url="https://env.example.com", cns_pins=[ENV_PIN])
    return settings


def configure(settings: Settings, **values: Any) -> None:
    settings.ENS = settings.ENS.model_copy(update=values)


def certificate(tmp_path: Path, name: str = "relay") -> str:
    return LabCa(tmp_path).issue(name).certificate.read_text("ascii")


def test_an_empty_row_changes_nothing(env: Settings) -> None:
    before = current_site()
    site_row().save()
    assert current_site() == before
    assert (before.url, before.pins) == ("https://env.example.com", (ENV_PIN,))


def test_another_address_leaves_the_pins_of_the_old_one_behind(env: Settings) -> None:
    row = site_row()
    row.url = "https://console.example.com/"
    row.save()
    assert current_site().pins == ()


def test_pins_count_for_their_host_only(env: Settings, tmp_path: Path) -> None:
    other = add_pin("other.example.com", certificate(tmp_path))
    assert current_site().pins == (ENV_PIN,)
    ours = add_pin("ENV.example.com ", certificate(tmp_path, "next"))
    assert current_site().pins == (ENV_PIN, ours.spki)
    assert ours.spki != other.spki


def test_pinned_twice_is_pinned_once(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    assert add_pin("a.example.com", pem) == add_pin("a.example.com", pem)
    assert Pin.objects.count() == 1


@pytest.mark.parametrize("host", ["", "a b", "https://a.example.com", "a.example.com/x", "a:443"])
def test_no_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(PinRefused):
        add_pin(host, certificate(tmp_path))


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAA==\n", "ü"])
def test_no_certificate(pem: str) -> None:
    with pytest.raises(PinRefused):
        add_pin("a.example.com", pem)


def test_a_proxys_login_is_sealed(env: Settings) -> None:
    configure(env, cns_proxy_url="http://old.example.com:1", cns_proxy_password=SecretStr("x"))
    row = site_row()
    save_proxy(row, "http://proxy.example.com:3128", "ntlm", ("EXAMPLE\\ens", "pass-word-9"))
    row.save()
    stored = str(Site.objects.values().get())
    assert "pass-word-9" not in stored and "EXAMPLE" not in stored
    assert current_site().proxy == Proxy(
        "proxy.example.com", 3128, "ntlm", "EXAMPLE\\ens", "pass-word-9"
    )
    row = site_row()
    save_proxy(row, "http://proxy.example.com:3129", "ntlm", None)
    row.save()
    proxy = current_site().proxy
    assert proxy is not None and (proxy.port, proxy.password) == (3129, "pass-word-9")
    save_proxy(row, "", "none", ("", ""))
    row.save()
    assert current_site().proxy is None
    assert Site.objects.get().sealed_proxy_login is None


def test_no_address_at_all(settings: Settings) -> None:
    configure(settings, cns_url=None)
    with pytest.raises(CnsNotConfigured, match="ENS_CNS_URL"):
        current_site()


def test_a_running_process_follows_within_seconds(
    env: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "cns.pem"
    key_file.write_bytes(b"".join(make_channel("x")))
    configure(env, cns_key_file=key_file)
    monkeypatch.setattr(configured, "LOOK_AGAIN_S", 0.0)
    configured.forget()
    first = configured.shared_client()
    assert configured.shared_client() is first
    row = site_row()
    row.url = "https://console.example.com"
    row.save()
    # Who has held it from the start calls the new address, too.
    assert configured.shared_client() is first
    assert first._audience == "https://console.example.com"
    configured.forget()


def test_nothing_configured_is_said_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    configure(settings, cns_url=None)
    configured.forget()
    assert [configured.usable_client() for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1 and caplog.records[0].levelname == "WARNING"
