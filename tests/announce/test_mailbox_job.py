"""What a mailbox's job leaves to be done again, and what it must never try again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from django.db import transaction
from joserfc.jwk import ECKey

from apps import clock
from apps.announce.context import Context, Target
from apps.announce.envelope import Envelope
from apps.announce.mailbox_job import MailboxJob, Outcome
from apps.announce.policy import Rules, vip_hmac
from apps.announce.pushing import Pusher
from apps.cns.answer import Result
from apps.cns.client import Push
from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.devices.registry import Description
from apps.eventlog.interface import Entry
from apps.eventlog.table import TableLog
from apps.exchange import errors
from apps.exchange.ews.notification import Event
from apps.exchange.interface import Credentials, Described, Endpoint, Extras, Item
from apps.keypairs.signing import Signer
from apps.subscriptions import refusals
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import MAIL, MailWork
from apps.subscriptions.models import RefusedCredential, Subscription, WakeUp
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.vault.lookup import lookup_hmac

pytestmark = pytest.mark.django_db(transaction=True)


class Exchange:
    """Answers with nothing new, unless it is told to fail or given items."""

    def __init__(self) -> None:
        self.error: errors.ExchangeError | None = None
        self.calls = 0
        self.items: dict[str, Item] = {}
        self.asked: list[Extras] = []

    async def describe(self, *asked: Any) -> Described:
        self.calls += 1
        self.asked.append(asked[-1])
        if self.error:
            raise self.error
        return Described(items=self.items, unread_count=len(self.items))

    async def newest_unread(self, *_: Any) -> list[Any]:
        self.calls += 1
        if self.error:
            raise self.error
        return []


class Relay:
    """Accepts every push."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.reached: set[tuple[str, str]] = set()
        self.payloads: list[dict[str, Any]] = []
        self.answers_for = 1000
        self.hangs = asyncio.Event()

    async def send(
        self, service: str, pushes: Sequence[Push], on_result: Callable[[Result], None]
    ) -> None:
        for number, push in enumerate(pushes):
            if number >= self.answers_for:
                self.hangs.set()
                await asyncio.sleep(30)
            self.reached.add((service, push.token))
            self.payloads.append(push.payload)
            said = push.payload["data"] if service == "fcm" else push.payload["aps"].get("alert")
            self.titles += [(said or {}).get("title", "")]
            on_result(Result(push.id, "accepted"))


OPEN = Rules("sender_subject", vips=None, sound="default", group_conversations=True)
PHONE = Target(uuid.uuid4(), "apns", "com.example", "ab" * 32, OPEN)


def mail(item_id: str, sender: str, **more: str) -> Item:
    return Item(
        item_id, "message", sender, f"{sender}@Example.com", "Lunch?", None, False, "", **more
    )


class Site:
    """A mailbox with one subscription and one phone."""

    def __init__(self) -> None:
        lookup_hmac("warm-up", "")
        system = add_mail_system(create_group("Example"), "Exchange", ["mail.example.com"])
        mailbox = Mailbox.objects.create(mail_system=system, user_hmac="anna")
        self.subscription = Subscription.objects.create(
            mailbox=mailbox, state="active", ews_url="https://mail.example.com/"
        )
        self.endpoint = Endpoint("https://mail.example.com/")
        self.credentials = Credentials("basic", "anna", "secret")
        self.exchange, self.relay = Exchange(), Relay()
        self.standing: refusals.Standing | None = None
        self.pushers = {name: Pusher(self.relay, name) for name in ("apns", "fcm")}  # type: ignore
        self.job = MailboxJob(TableLog(), self.exchange, self.pushers)  # type: ignore[arg-type]

    async def run(
        self,
        work: MailWork,
        targets: tuple[Target, ...] = (PHONE,),
        outcome: Outcome | None = None,
    ) -> Outcome:
        outcome = outcome or Outcome()
        context = Context(
            subscription=self.subscription,
            mailbox=self.subscription.mailbox,
            endpoint=self.endpoint,
            credentials=self.credentials,
            standing=self.standing,
            unlisted=False,
            works=(work,),
            targets=targets,
            missed_since=None,
            dead_letters=(),
            catch_up_limit=10,
        )
        await self.job.run(context, [Entry(1, MAIL, "p", b"", time.time(), 1)], outcome)
        return outcome


@pytest.fixture
async def site() -> Site:
    return await in_database(Site)


NEW = MailWork("c", events=(Event("NewMail", item_id="i", timestamp=clock.now()),))
MOVED_IN = MailWork("c", events=(Event("Moved", item_id="i", timestamp=clock.now()),))
GAP = MailWork("c", catch_up_since=clock.now())


async def test_new_mail_is_announced_without_its_details_and_done(site: Site) -> None:
    site.exchange.error = errors.Unreachable()
    outcome = await site.run(NEW)
    assert site.relay.titles == ["New mail"]
    assert (len(outcome.seen), outcome.retry_after_s) == (1, None)


@pytest.mark.parametrize("work", [GAP, MOVED_IN], ids=["gap", "moved in"])
async def test_what_only_a_fetch_can_find_is_looked_for_again(site: Site, work: MailWork) -> None:
    site.exchange.error = errors.ServerBusy(40.0)
    assert (await site.run(work)).retry_after_s == 40.0
    site.exchange.error = errors.Unreachable()
    assert (await site.run(work)).retry_after_s is not None
    site.exchange.error = None
    assert (await site.run(work)).retry_after_s is None


async def test_no_more_is_announced_than_may_be_repeated(site: Site) -> None:
    site.exchange.error = errors.Unreachable()
    site.job = MailboxJob(TableLog(), site.exchange, site.pushers, at_once=2)  # type: ignore
    phones = tuple(
        replace(PHONE, device_id=uuid.uuid4(), token=f"{number:02x}" * 32) for number in range(5)
    )
    outcome = Outcome()
    job = asyncio.create_task(site.run(NEW, phones, outcome))
    told = 0
    while told < 5:
        while len(outcome.seen) < min(told + 2, 5):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(site.relay.reached) == len(outcome.seen) == min(told + 2, 5)
        marks = site.job.take_marks()
        told += len(marks)
        site.job.marks_written(marks)
    await job
    assert site.job.take_marks() == []


async def test_what_was_accepted_before_the_job_is_given_up_is_known(site: Site) -> None:
    site.exchange.error = errors.Unreachable()
    site.relay.answers_for = 1
    both = (PHONE, replace(PHONE, device_id=uuid.uuid4(), token="cd" * 32))
    outcome = Outcome()
    job = asyncio.create_task(site.run(NEW, both, outcome))
    await asyncio.wait_for(site.relay.hangs.wait(), 10)
    while not outcome.seen:
        await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert len(outcome.seen) == 1


@pytest.mark.parametrize("work", [GAP, NEW], ids=["gap", "new"])
async def test_a_refused_password_is_not_tried_again(site: Site, work: MailWork) -> None:
    site.exchange.error = errors.CredentialsRefused()
    assert (await site.run(work)).retry_after_s is None
    assert site.exchange.calls == 1
    await in_database(site.subscription.refresh_from_db)
    assert (site.subscription.state, site.subscription.reason) == ("suspect", "credentials_refused")


@pytest.mark.parametrize("work", [GAP, NEW], ids=["gap", "new"])
async def test_an_expired_token_is_announced_plainly_and_nobody_s_wrong_password(
    site: Site, work: MailWork
) -> None:
    site.exchange.error = errors.CredentialsExpired()
    assert (await site.run(work)).retry_after_s is None
    assert site.relay.titles == (["New mail"] if work is NEW else [])
    assert not await in_database(RefusedCredential.objects.exists)
    await in_database(site.subscription.refresh_from_db)
    assert (site.subscription.state, site.subscription.reason) == ("suspect", "credentials_expired")
    assert (site.subscription.silent_since is not None) == (work is GAP)


async def test_a_device_that_was_blocked_while_exchange_was_slow_hears_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.announce.mailbox_job.TARGETS_FRESH_S", -1.0)
    site.exchange.error = errors.Unreachable()
    await site.run(NEW)  # its only device is in no table: gone
    assert site.relay.titles == []


async def test_a_device_that_was_blocked_while_its_push_waited_hears_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.exchange.error = errors.Unreachable()
    site.job = MailboxJob(TableLog(), site.exchange, site.pushers, at_once=1)  # type: ignore
    both = (PHONE, replace(PHONE, device_id=uuid.uuid4(), token="cd" * 32))
    outcome = Outcome()
    job = asyncio.create_task(site.run(NEW, both, outcome))
    while not outcome.seen:
        await asyncio.sleep(0.01)
    # The second waits for its place, and what was known of it is no longer fresh.
    monkeypatch.setattr("apps.announce.mailbox_job.TARGETS_FRESH_S", -1.0)
    site.job.marks_written(site.job.take_marks())
    await asyncio.wait_for(job, 10)
    assert site.relay.reached == {("apns", PHONE.token)}
    assert len(outcome.seen) == 1 and outcome.retry_after_s is None


async def test_each_phone_is_reached_through_its_own_push_service(site: Site) -> None:
    site.exchange.error = errors.Unreachable()
    phones = (
        Target(uuid.uuid4(), "apns", "com.example", "ab" * 32, OPEN),
        Target(uuid.uuid4(), "fcm", "com.example", "cd" * 32, OPEN),
    )
    await site.run(NEW, phones)
    assert site.relay.reached == {("apns", "ab" * 32), ("fcm", "cd" * 32)}


def with_rules(**changes: Any) -> Target:
    return replace(PHONE, device_id=uuid.uuid4(), rules=replace(OPEN, **changes))


async def test_who_may_hear_nothing_gets_the_badge_and_is_not_told_later(site: Site) -> None:
    site.exchange.items = {"i": mail("i", "Ben")}
    outcome = await site.run(NEW, (with_rules(level="none"),))
    assert site.relay.payloads == [{"aps": {"badge": 1}, "ens": {"v": 1, "kind": "badge"}}]
    assert (outcome.seen, len(outcome.hushed)) == ([], 1)


async def test_only_vips_ring_where_only_they_may(site: Site) -> None:
    site.exchange.items = {"i": mail("i", "Ben"), "j": mail("j", "Boss")}
    vips = frozenset({await in_database(vip_hmac, "boss@example.com")})
    two = MailWork("c", events=tuple(Event("NewMail", item_id=id) for id in ("i", "j")))
    outcome = await site.run(two, (with_rules(vips=vips),))
    assert site.relay.titles == ["Boss"]
    assert (len(outcome.seen), len(outcome.hushed)) == (1, 1)


async def test_mail_whose_sender_is_not_known_in_time_may_be_a_vips(site: Site) -> None:
    site.exchange.error = errors.Unreachable()
    await site.run(NEW, (with_rules(vips=frozenset()),))
    assert site.relay.titles == ["New mail"]


async def test_exchange_is_asked_only_for_what_some_phone_may_hear(site: Site) -> None:
    await site.run(NEW, (with_rules(group_conversations=False), with_rules(level="none")))
    await site.run(NEW, (with_rules(group_conversations=False), with_rules(level="preview")))
    assert site.exchange.asked == [Extras(False, True), Extras(True, True)]


async def test_mails_of_one_conversation_have_one_thread_on_a_device(site: Site) -> None:
    site.exchange.items = {"i": mail("i", "Ben", conversation_id="secret-conversation")}
    for target in (one := with_rules(), one, with_rules(), with_rules(group_conversations=False)):
        await site.run(replace(NEW), (replace(target, device_id=target.device_id),))
        site.job.marks_written(list(site.job._unwritten))
    threads = [payload["aps"].get("thread-id") for payload in site.relay.payloads]
    assert threads[0] == threads[1] != threads[2] != threads[3] is None
    assert "secret" not in str(site.relay.payloads)


async def test_a_damaged_content_key_costs_that_phone_the_details_only(site: Site) -> None:
    site.exchange.items = {"i": mail("i", "Ben")}
    signer = Signer("k", ECKey.generate_key("P-256"))
    broken = replace(PHONE, envelope=Envelope(PHONE.device_id, "{}", signer))
    await site.run(NEW, (broken, with_rules()))
    assert sorted(site.relay.titles) == ["Ben", "New mail"]


async def test_a_gap_counts_as_looked_for_only_once_exchange_has_answered(site: Site) -> None:
    assert (await site.run(GAP)).caught_up
    assert not (await site.run(NEW)).caught_up
    assert not (await site.run(GAP, targets=())).caught_up
    for error in (errors.Unreachable(), errors.CredentialsRefused()):
        site.exchange.error = error
        assert not (await site.run(GAP)).caught_up
    # The subscription that takes over looks back as far.
    await in_database(site.subscription.refresh_from_db)
    assert site.subscription.silent_since == GAP.catch_up_since


async def test_a_fetch_waits_for_who_tries_the_same_credentials_and_hears_of_a_refusal(
    site: Site,
) -> None:
    mailbox, credentials = site.subscription.mailbox, Credentials("basic", "anna", "secret")
    assert await in_database(refusals.begin_trial, mailbox, credentials)
    site.standing = refusals.ON_TRIAL
    run = asyncio.create_task(site.run(NEW))
    await asyncio.sleep(0.5)
    assert site.exchange.calls == 0
    await in_database(refusals.remember, mailbox, credentials)
    await run
    assert site.exchange.calls == 0
    assert site.relay.titles == ["New mail"]


async def test_a_fetch_that_the_gateway_refuses_silences_whose_credentials_it_used(
    site: Site,
) -> None:
    owner, other = await in_database(_two_phones, site)
    site.exchange.error = errors.GatewayRefused()
    site.credentials = replace(site.credentials, identity=(("eas_id", "owner's"),))
    targets = (
        replace(PHONE, device_id=owner, token="01" * 32),
        replace(PHONE, device_id=other, token="02" * 32),
    )
    await site.run(NEW, targets)
    # At once: the owner does not even hear of the mail that found it out.
    assert site.relay.reached == {("apns", "02" * 32)}
    assert site.relay.titles == ["New mail"]
    blocked = await in_database(Device.objects.get, id=owner)
    assert (blocked.state, blocked.reason) == ("blocked", "gateway")
    assert blocked.silent_since is not None and blocked.secret_hash
    now = await in_database(Subscription.objects.get, id=site.subscription.id)
    assert (now.state, now.reason) == ("suspect", "gateway")
    assert await in_database(WakeUp.objects.filter(device_id=other).exists)


async def test_credentials_from_before_the_gateway_block_nobody(site: Site) -> None:
    owner, other = await in_database(_two_phones, site)
    site.exchange.error = errors.GatewayRefused()
    await site.run(NEW)
    assert (await in_database(Device.objects.get, id=owner)).state == "active"
    assert await in_database(WakeUp.objects.filter(device_id__in=[owner, other]).count) == 2


@transaction.atomic
def _two_phones(site: Site) -> tuple[uuid.UUID, uuid.UUID]:
    """Two proved phones of the mailbox; the first owns its subscription."""
    mailbox = site.subscription.mailbox
    made = []
    for token in ("01" * 32, "02" * 32):
        said = Description("ios", "com.example", token, "https://mail.example.com/")
        enrolled = registry.enrol(mailbox.mail_system.og, mailbox, said)
        assert enrolled is not None
        registry.proved(enrolled[0].id)
        made.append(enrolled[0])
    site.subscription.owner = made[0]
    site.subscription.save()
    mailbox.current_subscription = site.subscription.id
    mailbox.save()
    return made[0].id, made[1].id
