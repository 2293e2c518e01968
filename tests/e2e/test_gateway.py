"""A gateway in front of Exchange refuses one of a user's two phones, and lets it in again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from apps.lab.gateway import LabGateway, in_thread
from apps.lab.stand.stand import OG
from apps.lab.stand.waiting import until
from tests.e2e.road import RING_S, Road

pytestmark = pytest.mark.timeout(120)


@contextmanager
def gateway_before(road: Road) -> Iterator[LabGateway]:
    """A gateway before the stand's Exchange, listed as a mail system of its own."""
    stand = road.stand
    with in_thread(LabGateway(stand.ews_url, stand.exchange_ca.read_text("ascii"))) as gateway:
        stand.manage(
            [
                *("ens_mail_system", "add", "--og", OG, "--name", secrets.token_hex(4)),
                *("--host", urlsplit(gateway.url).netloc, "--ca-file", str(gateway.ca_file)),
                *("--gateway", "--gateway-header", "X-Device-Id: {eas_id}"),
            ]
        )
        yield gateway


def test_the_phone_that_the_gateway_refuses_is_silent_until_it_passes(road: Road) -> None:
    user = road.user("anna")
    with gateway_before(road) as gateway:
        account = replace(road.stand.account(user), ews_url=gateway.url)
        names = [secrets.token_hex(8) for _ in range(2)]
        one, two = (
            road.stand.phone(account, label, eas_id=name)
            for label, name in zip(("refused", "kept"), names, strict=True)
        )
        for phone in (one, two):
            assert phone.join() == "active", phone.code
        road.exchange.deliver(user, "Before")
        road.rings(one, "Before")
        road.rings(two, "Before")

        gateway.refuse(names[0])
        one.check_in(credentials=True)
        until("the block", lambda: one.check_in().code == "gateway", RING_S)
        assert (one.state, one.check_in().do) == ("blocked", "nothing")
        # It was the owner: the other one is asked for its credentials.
        road.renews(two)
        # As long as Exchange calls the old subscription, too, a mail may be fetched with the
        # credentials that the gateway refuses: then it is told as «New mail».
        road.holds(user, 1)
        road.exchange.deliver(user, "Meanwhile")
        road.rings(two, "Meanwhile")
        road.quiet()
        assert "Meanwhile" not in road.subjects(one) and not road.plain_ones(one)
        assert one.device is not None
        (story,) = road.stand.manage(["ens_story", str(one.device.device_id)])
        assert "blocked" in story and "gateway" in story

        gateway.admit(names[0])
        one.check_in(credentials=True)
        until("the way in", lambda: one.check_in().state == "active", RING_S)
        road.rings(one, "Meanwhile")
        road.exchange.deliver(user, "After")
        road.rings(one, "After")
        road.rings(two, "After")
        assert set(gateway.passes) == set(names) and set(gateway.refusals) == {names[0]}
