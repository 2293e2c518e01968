"""Hostile EWS addresses through the device API: refused before anything is kept or called."""

from __future__ import annotations

import pytest

from apps.devices.models import Device
from apps.eventlog.factory import get_log
from apps.tenants.ews_urls import EwsUrlRefused, normal_url
from apps.tenants.models import MailSystem
from tests.api.conftest import Api, claims
from tests.exchange.hostile import HOSTILE_URLS, Canary, canary

pytestmark = pytest.mark.django_db


def refused(api: Api, url: str, caller: str) -> bool:
    jwe = api.encrypt(claims(ews_url=url))
    answer = api.post("subscribe", {"jwe": jwe}, REMOTE_ADDR=caller)
    return (answer.status_code, answer.json().get("code")) in (
        (400, "ews_url_not_allowed"),
        (400, "malformed"),
    )


def listed_anyway(listening: Canary) -> None:
    """An administrator who lists all of them, past every check of the console."""
    hosts = set()
    for url in listening.urls():
        try:
            hosts.add(normal_url(url)[0])
        except EwsUrlRefused:
            continue
    assert len(hosts) > 10
    MailSystem.objects.update(hosts=sorted(hosts))


@pytest.mark.parametrize("listed", [False, True])
def test_no_hostile_address_gets_past_the_device_api(api: Api, listed: bool) -> None:
    with canary() as listening:
        if listed:
            listed_anyway(listening)
        # Listed private and shared addresses are the guard's affair (tests/exchange/test_ssrf.py).
        asked = [url for url in HOSTILE_URLS if not listed or "{port}" in url]
        assert len(asked) >= 30
        for number, url in enumerate(asked):
            # From many places: whoever keeps trying is soon not listened to at all.
            caller = f"192.0.2.{number}"
            assert refused(api, url.replace("{port}", str(listening.port)), caller), url
        assert listening.calls == 0
    assert not Device.objects.exists()
    assert get_log().depth("join") == 0
