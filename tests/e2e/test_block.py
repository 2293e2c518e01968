"""A compliance verdict through the admin API: the phone is silent at once, and stays out."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from apps.lab.phone import Phone
from apps.lab.phone.client import Refused
from apps.lab.stand.stand import OG, Stand
from apps.lab.stand.waiting import until
from tests.e2e.road import Road

pytestmark = pytest.mark.timeout(120)
# What DESIGN.md promises on every server.
TAKES_EFFECT_S = 5.0


class Gateway:
    """A program with a token of the admin API."""

    def __init__(self, stand: Stand, folder: Path) -> None:
        name, password = f"robot-{secrets.token_hex(4)}", folder / "password"
        password.write_text(secrets.token_urlsafe(24))
        create = ["ens_administrator", "create", name, "--password-file", str(password)]
        scopes = ["--scope", "devices.act", "--scope", "console.read"]
        made = ["ens_admin_token", "create", "--owner", name, "--label", "gateway", "--og", OG]
        *_, token = stand.manage(create, [*made, *scopes])
        self._base = stand.link_address.replace("/api/ens", "/api/admin/v1")
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {token.strip()}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, f"{self._base}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def gateway(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    return Gateway(stand, tmp_path_factory.mktemp("gateway"))


def refusal_of(phone: Phone) -> str:
    with pytest.raises(Refused) as refused:
        phone.subscribe()
    return str(refused.value.code)


def test_a_blocked_phone_is_silent_and_stays_out(road: Road, gateway: Gateway) -> None:
    user = road.user("anna")
    lost, kept = road.joined(user, "lost"), road.joined(user, "kept")
    road.exchange.deliver(user, "Before")
    road.rings(lost, "Before")
    road.rings(kept, "Before")
    assert lost.device is not None
    device_id = lost.device.device_id

    began = time.monotonic()
    blocked = gateway.call(
        "POST", f"devices/{device_id}/block", {"shred_now": True, "reason": "compliance"}
    )
    assert blocked == {"devices": [str(device_id)]}
    assert time.monotonic() - began < TAKES_EFFECT_S
    # At once, not in five seconds: the state is read before every push.
    road.renews(kept)
    road.exchange.deliver(user, "After")
    road.rings(kept, "After")
    road.quiet()
    assert "After" not in road.subjects(lost)
    with pytest.raises(Refused):
        lost.check_in()
    assert refusal_of(lost) == "device_blocked"
    detail = gateway.call("GET", f"devices/{device_id}")
    assert detail["state"] == "blocked"
    assert "blocked" in [entry["facts"].get("to") for entry in detail["story"]]

    assert gateway.call("DELETE", f"devices/{device_id}/block") == {"devices": [str(device_id)]}
    assert lost.join() == "active"
    road.exchange.deliver(user, "Found again")
    road.rings(lost, "Found again")


def test_a_test_notification_says_what_apns_said(road: Road, gateway: Gateway) -> None:
    phone = road.joined(road.user("anna"))
    assert phone.device is not None
    path = f"devices/{phone.device.device_id}"
    assert gateway.call("POST", f"{path}/test-notification") == {"done": True, "code": ""}
    until("the test", lambda: "test" in [push.kind for push in road.pushes(phone)], 10)
    assert gateway.call("POST", f"{path}/request-checkin") == {"done": True, "code": ""}
    until("the wake-up", lambda: "wakeup" in [push.kind for push in road.pushes(phone)], 10)
