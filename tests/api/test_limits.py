"""Limits: who is counted as one caller, and whom others' failures leave alone."""

from __future__ import annotations

import time
import uuid
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import RequestFactory

from apps.api import limits
from apps.api.models import AttemptWindow
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9:50123", "203.0.113.9"),
        ("10.0.0.1", "9.9.9.9, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "", "2001:db8:1:2::/64"),
        ("10.0.0.1", "x" * 5000, "x" * 64),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_one_caller_has_one_name(peer: str, forwarded: str, caller: str, settings: Any) -> None:
    proxies = [ip_network("10.0.0.0/8")]
    settings.ENS = settings.ENS.model_copy(update={"trusted_proxies": proxies})
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)
    assert limits.client_address(request) == caller


def test_a_fleet_with_an_old_token_or_lost_devices_stops_nobody_else(api: Api) -> None:
    for _ in range(limits.FAILURES.attempts):
        api.post("publickey", {}, bearer="ens_old")
    assert api.post("publickey", {}, bearer="ens_old").status_code == 429
    for _ in range(limits.FAILURES.attempts + 1):
        lost = {"device_id": str(uuid.uuid4())}
        assert api.post("checkin", lost, bearer="ensd_lost").status_code == 401
    assert api.subscribe().status_code == 202


def test_claims_that_are_wrong_count_like_a_jwe_that_does_not_open(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BAD_JWES", limits.Limit("few", attempts=3, window_s=3600))
    for _ in range(3):
        assert api.subscribe(platform="toaster").status_code == 400
    assert api.subscribe().status_code == 429


def test_a_member_that_can_not_be_sent_back_is_refused(api: Api) -> None:
    assert api.post("subscribe", b'{"\\ud800": 1}').status_code == 400


def test_old_windows_are_forgotten() -> None:
    limits.JOINS.count("a")
    limits.forget()
    assert AttemptWindow.objects.count() == 1
    AttemptWindow.objects.update(window=int(time.time()) - 2 * 86400)
    limits.forget()
    assert AttemptWindow.objects.count() == 0
