"""Joins against the lab's Exchange: real TLS, real SOAP, and a webhook that Exchange really calls.

A worker may die between any two steps; here a step fails and the entry is worked on again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.utils import timezone

from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.interface import Entry, NewEntry
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials
from apps.keypairs.models import SealedCredential
from apps.lab.exchange import LabExchange
from apps.subscriptions import joining, refusals
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import MAIL, MailWork
from apps.subscriptions.joining import Joiner
from apps.subscriptions.models import RefusedCredential, Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.vault import lookup

pytestmark = pytest.mark.django_db(transaction=True)

ANNA = Credentials("basic", "EXAMPLE\\anna", "anna-lab-1")
BEN = Credentials("basic", "EXAMPLE\\ben", "ben-lab-2")


class Site:
    """One organization whose Exchange is the lab's."""

    def __init__(self, lab: LabExchange, server: EwsServer) -> None:
        self.lab = lab
        self.poked = 0
        self.joiner = Joiner(get_log(), server, self._poke)
        self.og: OrganizationGroup
        self.mailbox: Mailbox

    def _poke(self) -> None:
        self.poked += 1

    def set_up(self) -> None:
        self.og = create_group("Example")
        system = add_mail_system(
            self.og, "Exchange", [self.lab.url.split("/")[2]], ca_pem=self.lab.ca_pem
        )
        self.mailbox = registry.mailbox_for(system, "anna@example.com")

    def enrol(self, push_token: str = "ab" * 32, address: str = "anna@example.com") -> Device:
        made = registry.enrol(
            self.og,
            registry.mailbox_for(self.mailbox.mail_system, address),
            Description(
                platform="ios",
                app_id="com.example.mail",
                push_token=push_token,
                ews_url=self.lab.url,
            ),
        )
        assert made is not None
        return made[0]

    def begin(self, device: Device, credentials: Credentials = ANNA) -> Entry:
        new = joining.begin(device, "anna@example.com", credentials)
        return as_claimed(new)

    def deliver(self) -> None:
        self.lab.deliver(
            "anna@example.com", from_name="Ben", from_address="ben@example.com", subject="x"
        )

    def held(self) -> int:
        """How many subscriptions Exchange holds for the mailbox."""
        held: int = self.lab.subscriptions()["by_mailbox"].get("anna@example.com", 0)
        return held


def as_claimed(new: NewEntry) -> Entry:
    return Entry(1, new.kind, new.partition, new.payload, time.time(), 1)


def state(device: Device) -> tuple[str, str]:
    device.refresh_from_db()
    return device.state, device.reason


@pytest.fixture
async def site(live_server: Any, settings: Any) -> AsyncIterator[Site]:
    settings.ENS = settings.ENS.model_copy(
        update={
            "link_address": f"{live_server.url}/MailNotificationService/api/ens",
            "guard_exceptions": [ip_network("127.0.0.0/8")],
        }
    )
    lab, server = LabExchange(), EwsServer("0.1.0")
    lab.add_demo_accounts()
    async with lab:
        made = Site(lab, server)
        await in_database(made.set_up)
        yield made
        await server.close()


async def test_a_join_proves_subscribes_and_looks_for_what_came_before(site: Site) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("active", "")
    assert site.held() == 1
    subscription = await in_database(Subscription.objects.get)
    mailbox = await in_database(Mailbox.objects.get)
    assert subscription.state == "active"
    assert mailbox.current_subscription == subscription.id
    assert mailbox.inbox_hmac
    works = await in_database(_mail_works)
    # Exchange's first call named the subscription; after it the gap is looked through.
    assert [bool(work.foreign_hmac) for work in works] == [True, False]
    assert works[1].catch_up_since == subscription.created_at
    assert site.poked == 1


async def test_the_first_join_of_a_process_reads_its_keys_off_the_event_loop(site: Site) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    lookup.forget()
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("active", "")


async def test_a_join_that_is_repeated_subscribes_once(site: Site) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    assert await site.joiner.finish(entry) is None
    assert await site.joiner.finish(entry) is None
    assert site.held() == 1


async def test_a_worker_that_dies_after_subscribe_leaves_no_second_one_for_long(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(site.joiner, "_complete", die)
        with pytest.raises(Killed):
            await site.joiner.finish(entry)
    assert site.held() == 1
    assert await site.joiner.finish(entry) is None
    assert site.held() == 2
    # The first one's next call has another SubscriptionId and is told to end.
    site.deliver()
    await _until(lambda: site.held() == 1)
    assert await in_database(state, device) == ("active", "")


async def test_a_second_device_is_proved_and_shares(site: Site) -> None:
    for token in ("aa" * 32, "bb" * 32):
        device = await in_database(site.enrol, token)
        entry = await in_database(site.begin, device)
        assert await site.joiner.finish(entry) is None
        assert await in_database(state, device) == ("active", "")
    assert site.held() == 1
    assert await in_database(SealedCredential.objects.count) == 1


async def test_two_at_once_share_one_subscription(site: Site) -> None:
    entries = []
    for token in ("aa" * 32, "bb" * 32):
        device = await in_database(site.enrol, token)
        entries.append(await in_database(site.begin, device))
    again = await asyncio.gather(*(site.joiner.finish(entry) for entry in entries))
    for entry, seconds in zip(entries, again, strict=True):
        if seconds is not None:
            assert await site.joiner.finish(entry) is None
    assert site.held() == 1
    states = await in_database(lambda: set(Device.objects.values_list("state", flat=True)))
    assert states == {"active"}


async def test_a_wrong_password_is_tried_once(site: Site) -> None:
    device = await in_database(site.enrol)
    wrong = Credentials("basic", "EXAMPLE\\anna", "wrong")
    for _ in range(2):
        entry = await in_database(site.begin, device, wrong)
        assert await site.joiner.finish(entry) is None
        assert await in_database(state, device) == ("refused", "credentials_refused")
        await in_database(Device.objects.update, state=DeviceState.JOINING)
    assert sum(site.lab.counters()["unauthorized"].values()) == 1
    assert await in_database(RefusedCredential.objects.count) == 1
    assert await in_database(SealedCredential.objects.count) == 0
    assert site.held() == 0


@pytest.mark.parametrize("rights", [None, "inbox", ""], ids=["none", "reviewer", "full access"])
async def test_somebody_elses_credentials_are_not_enough(site: Site, rights: str | None) -> None:
    if rights is not None:
        site.lab.grant("anna@example.com", "ben@example.com", rights)
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device, BEN)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("refused", "not_this_mailbox")
    assert site.held() == 0


async def test_an_exchange_that_is_away_is_waited_for_and_then_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    await site.lab.stop()
    again = await site.joiner.finish(entry)
    assert again is not None
    assert 1 < again < 60
    assert await in_database(state, device) == ("joining", "")
    long_ago = timezone.now() - joining.PATIENCE - timedelta(seconds=1)
    await in_database(Subscription.objects.update, created_at=long_ago)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("refused", "unreachable")


async def test_a_new_subscription_takes_over_from_one_whose_credentials_failed(
    site: Site,
) -> None:
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    first = await in_database(Subscription.objects.get)
    await in_database(Subscription.objects.update, state="suspect")
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    await in_database(first.refresh_from_db)
    assert (first.state, first.reason) == ("ended", "superseded")
    mailbox = await in_database(Mailbox.objects.get)
    assert mailbox.current_subscription not in (None, first.id)
    # Exchange learns it with the superseded one's next call.
    site.deliver()
    await _until(lambda: site.held() == 1)


async def test_a_password_refused_at_a_check_in_makes_room_for_the_new_one(site: Site) -> None:
    """What serves the mailbox holds the old one, too, and no mail has come to show it."""
    first = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, first)) is None
    old = await in_database(Subscription.objects.get)
    site.lab.set_password("anna@example.com", "a new one")
    assert await site.joiner.finish(await in_database(site.begin, first)) is None
    await in_database(old.refresh_from_db)
    assert (old.state, old.reason) == ("suspect", "credentials_refused")

    second = await in_database(site.enrol, "cd" * 32)
    new = Credentials("basic", "EXAMPLE\\anna", "a new one")
    assert await site.joiner.finish(await in_database(site.begin, second, new)) is None
    mailbox = await in_database(Mailbox.objects.get)
    assert mailbox.current_subscription not in (None, old.id)


async def test_a_device_that_left_meanwhile_leaves_nothing(site: Site) -> None:
    from apps.subscriptions import ending

    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    await in_database(ending.leave, device)
    assert await site.joiner.finish(entry) is None
    assert site.held() == 0
    assert site.lab.counters()["calls"] == {}


async def test_made_up_passwords_neither_lock_an_account_nor_silence_its_owner(site: Site) -> None:
    owner = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, owner)) is None
    names = ["EXAMPLE\\anna", "anna", "Anna@example.com"]
    entries = []
    for number in range(8):
        stranger = await in_database(site.enrol, f"{number:064x}", f"user{number}@example.com")
        made_up = Credentials("basic", names[number % 3], f"guess-{number}")
        entries.append(await in_database(site.begin, stranger, made_up))
    again = await asyncio.gather(*(site.joiner.finish(entry) for entry in entries))
    assert sum(site.lab.counters()["unauthorized"].values()) == refusals.REFUSALS_AT_MOST
    assert sum(seconds is not None for seconds in again) == 8 - refusals.REFUSALS_AT_MOST
    await in_database(owner.refresh_from_db)
    assert owner.proved_at is not None


async def test_a_stranger_at_the_mailbox_does_not_unprove_its_devices(site: Site) -> None:
    owner = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, owner)) is None
    stranger = await in_database(site.enrol, "cd" * 32)
    wrong = Credentials("basic", "EXAMPLE\\anna", "wrong")
    assert await site.joiner.finish(await in_database(site.begin, stranger, wrong)) is None
    assert await in_database(state, stranger) == ("refused", "credentials_refused")
    await in_database(owner.refresh_from_db)
    assert owner.proved_at is not None


async def test_a_proof_is_not_given_to_who_took_the_row_over(site: Site) -> None:
    """A stranger with the address and the push token enrols while Exchange is being asked."""
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    prove = site.joiner._server.prove

    async def slow(*asked: Any) -> Any:
        proof = await prove(*asked)
        await in_database(site.enrol)
        return proof

    site.joiner._server.prove = slow  # type: ignore[method-assign]
    assert await site.joiner.finish(entry) is None
    await in_database(device.refresh_from_db)
    assert (device.state, device.proved_at) == ("joining", None)
    assert site.held() == 0
    # Nor later, when a worker that died comes back to the entry.
    assert await site.joiner.finish(entry) is None
    await in_database(device.refresh_from_db)
    assert device.proved_at is None


async def test_an_earlier_joins_refusal_leaves_the_later_one_alone(site: Site) -> None:
    device = await in_database(site.enrol)
    wrong = Credentials("basic", "EXAMPLE\\anna", "wrong")
    earlier = await in_database(site.begin, device, wrong)
    later: list[Entry] = []
    prove = site.joiner._server.prove

    async def slow(*asked: Any) -> Any:
        if not later:
            later.append(await in_database(site.begin, device))
        return await prove(*asked)

    site.joiner._server.prove = slow  # type: ignore[method-assign]
    assert await site.joiner.finish(earlier) is None
    assert await in_database(state, device) == ("joining", "")
    assert await site.joiner.finish(later[0]) is None
    assert await in_database(state, device) == ("active", "")


async def test_a_blocked_device_costs_no_call(site: Site) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    await in_database(Device.objects.update, state=DeviceState.BLOCKED)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("blocked", "")
    assert site.lab.counters()["calls"] == {}


async def test_a_host_that_is_listed_no_more_is_not_called(site: Site) -> None:
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    await in_database(MailSystem.objects.update, hosts=["other.example.com"])
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("refused", "ews_url_not_allowed")
    assert site.lab.counters()["calls"] == {}


async def _until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "it does not come true"
        await asyncio.sleep(0.05)


def _mail_works() -> list[MailWork]:
    return [MailWork.from_bytes(e.payload) for e in get_log().claim(MAIL, "test", 10, 30)]
