"""Joins against the lab's Exchange: real TLS, real SOAP, and a webhook that Exchange really calls.

A worker may die between any two steps; here a step fails and the entry is worked on again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from apps import request_id
from apps.announce.context import load
from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.interface import Entry, NewEntry
from apps.eventlog.models import LogEntry
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials
from apps.keypairs.models import SealedCredential
from apps.lab.exchange import LabExchange
from apps.subscriptions import checkin, joining, refusals, webhook_url
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import CLOCKS_DIFFER, MAIL, JoinWork, MailWork
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

    @transaction.atomic
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

    def begin(
        self, device: Device, credentials: Credentials = ANNA, address: str = "anna@example.com"
    ) -> Entry:
        new = joining.begin(device, address, credentials)
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
    lab, server = LabExchange(auth=("basic", "bearer")), EwsServer("0.1.0")
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
    """The mailbox's subscription holds the old one, too: nobody knew until the next mail."""
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


def token(site: Site, lifetime_s: float = 3600.0) -> Credentials:
    issued = site.lab.tokens.issue("anna@example.com", lifetime_s)
    return Credentials("oauth", token=issued.token, expires_at=issued.expires_at)


async def test_a_new_token_takes_over_before_the_old_one_ends(site: Site) -> None:
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device, token(site))) is None
    first = await in_database(Subscription.objects.get)
    lasts = first.credentials_expire_at - timezone.now()
    assert timedelta(minutes=59) < lasts <= timedelta(hours=1)
    # Two thirds of its life it serves; then whoever brings another takes over.
    assert await site.joiner.finish(await in_database(site.begin, device, token(site))) is None
    mailbox = await in_database(Mailbox.objects.get)
    assert mailbox.current_subscription == first.id
    asked_from = first.credentials_renew_at - timezone.now()
    assert timedelta(minutes=38) < asked_from < timedelta(minutes=41)
    await in_database(
        Subscription.objects.filter(id=first.id).update, credentials_renew_at=timezone.now()
    )
    assert (await in_database(checkin.task_of, device)) == "send_credentials"
    assert await site.joiner.finish(await in_database(site.begin, device, token(site))) is None
    await in_database(mailbox.refresh_from_db)
    assert mailbox.current_subscription not in (None, first.id)
    await in_database(device.refresh_from_db)
    assert (await in_database(checkin.task_of, device)) == "nothing"


async def test_a_token_that_expires_on_the_way_is_nobodys_wrong_password(site: Site) -> None:
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device, token(site))) is None
    await in_database(Device.objects.update, proved_at=timezone.now() - timedelta(hours=23))
    spent = await in_database(site.begin, device, token(site, -1.0))
    assert await site.joiner.finish(spent) is None
    assert await in_database(state, device) == ("active", "")
    assert (await in_database(checkin.task_of, device)) == "send_credentials"
    newcomer = await in_database(site.enrol, "cd" * 32)
    spent = await in_database(site.begin, newcomer, token(site, -1.0))
    assert await site.joiner.finish(spent) is None
    assert await in_database(state, newcomer) == ("refused", "credentials_expired")
    assert not await in_database(RefusedCredential.objects.exists)
    assert site.lab.counters()["unauthorized"] == {}
    await in_database(device.refresh_from_db)
    assert device.proved_at is not None


async def test_a_way_to_log_in_that_is_not_offered_is_waited_for(site: Site) -> None:
    device = await in_database(site.enrol)
    by_ntlm = Credentials("ntlm", ANNA.username, ANNA.password)
    entry = await in_database(site.begin, device, by_ntlm)
    assert await site.joiner.finish(entry) is not None
    long_ago = timezone.now() - joining.PATIENCE - timedelta(seconds=1)
    await in_database(Subscription.objects.update, created_at=long_ago)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("refused", "login_not_offered")


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


async def test_two_workers_that_meet_the_same_old_password_make_one_refusal(site: Site) -> None:
    """A joiner is a process' own: what they share is the database."""
    workers = [Joiner(get_log(), site.joiner._server, lambda: None) for _ in range(3)]
    wrong = Credentials("basic", "EXAMPLE\\anna", "the old one")
    entries = []
    for number in range(6):
        device = await in_database(site.enrol, f"{number:064x}")
        entries.append(await in_database(site.begin, device, wrong))
    again = await asyncio.gather(
        *(workers[number % 3].finish(entry) for number, entry in enumerate(entries))
    )
    assert again == [None] * 6
    assert sum(site.lab.counters()["unauthorized"].values()) == 1
    reasons = await in_database(lambda: set(Device.objects.values_list("reason", flat=True)))
    assert reasons == {"credentials_refused"}


async def test_a_login_waits_for_a_fetch_that_is_under_way_but_not_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_FETCH_S", 0.1)
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    (held, *_) = await in_database(get_log().claim, MAIL, "a drain", 10, 30.0)
    entry = await in_database(site.begin, device)
    calls = sum(site.lab.counters()["calls"].values())
    run = asyncio.create_task(site.joiner.finish(entry))
    await asyncio.sleep(0.3)
    assert sum(site.lab.counters()["calls"].values()) == calls
    # The drain must not wait for us meanwhile, or both would.
    assert await in_database(RefusedCredential.objects.count) <= 1
    assert await run is None
    assert sum(site.lab.counters()["calls"].values()) > calls
    assert await in_database(RefusedCredential.objects.count) == 0
    assert held.kind == MAIL


async def test_a_silent_phones_proof_lets_it_hear_what_it_missed_and_only_it(site: Site) -> None:
    first, second = await in_database(site.enrol), await in_database(site.enrol, "cd" * 32)
    for device in (first, second):
        assert await site.joiner.finish(await in_database(site.begin, device)) is None
    await in_database(_mail_works)
    since = timezone.now() - timedelta(hours=2)
    await in_database(Device.objects.filter(id=second.id).update, silent_since=since)
    await in_database(second.refresh_from_db)
    assert await site.joiner.finish(await in_database(site.begin, second)) is None
    (work,) = await in_database(_mail_works)
    assert work.device == str(second.id)
    assert work.catch_up_since == since - CLOCKS_DIFFER
    await in_database(second.refresh_from_db)
    assert second.silent_since is None
    assert site.held() == 1
    # Its credentials still open for that, and the mailbox keeps its subscription.
    context = await in_database(_context_of_newest)
    assert context is not None and context.credentials is not None and context.may_fetch


async def test_credentials_replay_dead_letters_whose_own_can_not(site: Site) -> None:
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    (lost, *_) = await in_database(get_log().claim, MAIL, "test", 10, 30.0)
    await in_database(get_log().bury, lost.id, "too_old")
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    works = [MailWork.from_bytes(e.payload) for e in await in_database(_claim_again)]
    (replay,) = [work for work in works if work.replays]
    assert replay.replays == (lost.partition,)
    assert (replay.device, replay.catch_up_since is not None) == ("", True)


async def test_an_entry_before_its_rows_are_there_is_looked_at_again(site: Site) -> None:
    work = JoinWork(uuid.uuid4(), "creds", "enrolment")
    name = webhook_url.name_of(uuid.uuid4())
    entry = as_claimed(NewEntry("join", name, work.to_bytes()))
    assert await site.joiner.finish(entry) == pytest.approx(0.2)
    # Its transaction never came to its end.
    assert await site.joiner.finish(replace(entry, appended_at=time.time() - 61)) is None


async def test_a_join_is_followed_by_its_request_id(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    device = await in_database(site.enrol)
    request_id.work_on(["0123456789ab"])
    entry = await in_database(site.begin, device)
    request_id.work_on([])
    assert await site.joiner.finish(entry) is None
    assert [work.request_id for work in await in_database(_mail_works)][-1] == "0123456789ab"
    assert request_id.current() == "0123456789ab"


async def _until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "it does not come true"
        await asyncio.sleep(0.05)


def _mail_works() -> list[MailWork]:
    return [MailWork.from_bytes(e.payload) for e in get_log().claim(MAIL, "test", 10, 30)]


def _claim_again() -> list[Entry]:
    return get_log().claim(MAIL, "test", 10, 30.0)


def _context_of_newest() -> Any:
    newest = LogEntry.objects.latest("pk")
    entry = Entry(newest.pk, MAIL, newest.partition, bytes(newest.payload), time.time(), 1)
    return load([entry])[newest.partition]


# What Exchange says for a while, and the reason that the phone hears if it lasts.
PASSING = [
    ({"kind": "moving"}, "mailbox_moving"),
    ({"kind": "error", "code": "ErrorMailboxMoveInProgress", "wrapped": True}, "mailbox_moving"),
    ({"kind": "error", "code": "ErrorMailboxStoreUnavailable"}, "mailbox_store_unavailable"),
    ({"kind": "error", "code": "ErrorMailboxFailover"}, "mailbox_store_unavailable"),
    ({"kind": "busy"}, "server_busy"),
    ({"kind": "too_many_requests"}, "server_busy"),
    ({"kind": "unavailable"}, "server_busy"),
    ({"kind": "error", "code": "ErrorExceededConnectionCount"}, "too_many_connections"),
    ({"kind": "error", "code": "ErrorTooManyObjectsOpened"}, "too_many_objects"),
    ({"kind": "error", "code": "ErrorExceededSubscriptionCount"}, "too_many_subscriptions"),
]
WHEN = [("GetFolder", *one) for one in PASSING] + [("Subscribe", *one) for one in PASSING[::3]]
LASTING = [
    ("ErrorNonExistentMailbox", "mailbox_not_found"),
    ("ErrorMissingEmailAddress", "mailbox_not_found"),
    ("ErrorPasswordExpired", "credentials_refused"),
    ("ErrorAccessDenied", "exchange_forbidden"),
    ("ErrorInvalidServerVersion", "exchange_version"),
]


@pytest.mark.parametrize(("operation", "trouble", "reason"), WHEN)
async def test_passing_trouble_of_a_mailbox_is_waited_for(
    site: Site, operation: str, trouble: dict[str, Any], reason: str
) -> None:
    site.lab.faults.add(seconds=600, operations=[operation], **trouble)
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    again = await site.joiner.finish(entry)
    assert again is not None and 1 < again <= 60
    proved = operation == "Subscribe"
    assert await in_database(state, device) == ("active" if proved else "joining", "")
    site.lab.faults.clear()
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("active", "")
    assert site.held() == 1


@pytest.mark.parametrize(("trouble", "reason"), PASSING)
async def test_passing_trouble_that_lasts_is_told_by_its_name(
    site: Site, trouble: dict[str, Any], reason: str
) -> None:
    site.lab.faults.add(seconds=600, operations=["GetFolder"], **trouble)
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    long_ago = timezone.now() - joining.PATIENCE - timedelta(seconds=1)
    await in_database(Subscription.objects.update, created_at=long_ago)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("refused", reason)


@pytest.mark.parametrize(("code", "reason"), LASTING)
async def test_lasting_trouble_of_a_mailbox_is_told_at_once(
    site: Site, code: str, reason: str
) -> None:
    site.lab.faults.add("error", 600, code=code)
    device = await in_database(site.enrol)
    entry = await in_database(site.begin, device)
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("refused", reason)
    assert await in_database(SealedCredential.objects.count) == 0


async def test_a_device_that_was_fine_outlives_a_move_of_its_mailbox(site: Site) -> None:
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    site.lab.faults.add("moving", 600)
    proof = await in_database(site.begin, device)
    long_ago = timezone.now() - joining.PATIENCE - timedelta(seconds=1)
    await in_database(Subscription.objects.update, created_at=long_ago)
    assert await site.joiner.finish(proof) is None
    assert await in_database(state, device) == ("active", "")


@pytest.mark.parametrize("address", ["a.adler@example.com", "anna@example.com"])
async def test_an_alias_and_an_address_that_was_changed_join(site: Site, address: str) -> None:
    site.lab.change_address("anna@example.com", "anna.miller@example.com")
    device = await in_database(lambda: site.enrol(address=address))
    entry = await in_database(lambda: site.begin(device, ANNA, address))
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, device) == ("active", "")


async def test_an_address_that_was_changed_for_good_is_told(site: Site) -> None:
    site.lab.change_address("anna@example.com", "anna.miller@example.com", keep_old=False)
    device = await in_database(site.enrol)
    assert await site.joiner.finish(await in_database(site.begin, device)) is None
    assert await in_database(state, device) == ("refused", "mailbox_not_found")
