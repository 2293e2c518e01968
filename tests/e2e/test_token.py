"""OAuth from end to end: a token announces mail until it ends, and then until there is another."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from apps.lab.exchange import LabExchange, in_thread
from apps.lab.phone import Account, Phone
from apps.lab.stand.waiting import until
from tests.e2e.road import OG, RING_S, Exchange, Road

pytestmark = pytest.mark.timeout(300)

LIFETIME_S = 15.0


@dataclass(frozen=True, slots=True)
class TokenAccount(Account):
    """A mail app that gets a new token whenever it is asked for credentials."""

    lab: LabExchange = field(default=None, repr=False)  # type: ignore[assignment]
    lifetime_s: float = 3600.0

    def credentials(self) -> Any:
        issued = self.lab.tokens.issue(self.email, self.lifetime_s)
        return {"type": "oauth", "token": issued.token, "expires_at": issued.expires_at}


@pytest.fixture
def exchange(road: Road) -> Iterator[LabExchange]:
    """One that takes nothing but tokens."""
    with in_thread(LabExchange(auth=("bearer",))) as lab:
        host = urlsplit(lab.url).netloc
        road.stand.manage(
            [
                *("ens_mail_system", "add", "--og", OG, "--name", secrets.token_hex(4)),
                *("--host", host, "--ca-file", str(lab.ca_file)),
            ]
        )
        yield lab


def test_a_token_that_ends_is_no_wrong_password(road: Road, exchange: LabExchange) -> None:
    there = Exchange(exchange.control)
    user = road.user("anna", at=there)
    account = TokenAccount(user.address, "", "", exchange.url, lab=exchange, lifetime_s=LIFETIME_S)
    phone: Phone = road.stand.phone(account, "phone")
    began = time.monotonic()
    assert phone.join() == "active", phone.code
    there.deliver(user, "While it holds")
    road.rings(phone, "While it holds")

    # Asked for another in time; this phone brings none.
    until("a wish for credentials", lambda: phone.check_in().do == "send_credentials", LIFETIME_S)
    assert time.monotonic() - began < LIFETIME_S
    time.sleep(max(0.0, began + LIFETIME_S + 1 - time.monotonic()))
    there.deliver(user, "Too late for details")
    road.plain(phone, 1)
    there.deliver(user, "This as well")
    road.plain(phone, 2)
    road.gets(phone, lambda push: push.kind == "wakeup", "a wake-up", 45.0)

    object.__setattr__(account, "lifetime_s", 3600.0)
    road.renews(phone)
    there.deliver(user, "With the new one")
    road.rings(phone, "With the new one")
    road.quiet()
    assert road.subjects(phone) == ["While it holds", "", "", "With the new one"]
    assert exchange.counters()["unauthorized"] == {}
    until("one subscription", lambda: len(there.subscriptions(user)) <= 2, RING_S)
