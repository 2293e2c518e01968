"""What a mailbox's job leaves to be done again, and what it must never try again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from apps import clock
from apps.announce.context import Context, Target
from apps.announce.mailbox_job import MailboxJob, Outcome
from apps.announce.policy import Rules
from apps.announce.pushing import Pusher
from apps.cns.answer import Result
from apps.cns.client import Push
from apps.devices.models import Mailbox
from apps.eventlog.interface import Entry
from apps.eventlog.table import TableLog
from apps.exchange import errors
from apps.exchange.ews.notification import Event
from apps.exchange.interface import Credentials, Described, Endpoint
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import MAIL, MailWork
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.vault.lookup import lookup_hmac

pytestmark = pytest.mark.django_db(transaction=True)


class Exchange:
    """Answers with nothing new, unless it is told to fail."""

    def __init__(self) -> None:
        self.error: errors.ExchangeError | None = None
        self.calls = 0

    async def describe(self, *_: Any) -> Described:
        self.calls += 1
        if self.error:
            raise self.error
        return Described(items={}, unread_count=0)

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
            said = push.payload["data"] if service == "fcm" else push.payload["aps"].get("alert")
            self.titles += [(said or {}).get("title", "")]
            on_result(Result(push.id, "accepted"))


OPEN = Rules("sender_subject", vips=None, sound="default", group_conversations=True)
PHONE = Target(uuid.uuid4(), "apns", "com.example", "ab" * 32, OPEN)


class Site:
    """A mailbox with one subscription and one phone."""

    def __init__(self) -> None:
        lookup_hmac("warm-up", "")
        system = add_mail_system(create_group("Example"), "Exchange", ["mail.example.com"])
        mailbox = Mailbox.objects.create(mail_system=system, user_hmac="anna")
        self.subscription = Subscription.objects.create(
            mailbox=mailbox, state="active", ews_url="https://mail.example.com/"
        )
        self.exchange, self.relay = Exchange(), Relay()
        pushers = {name: Pusher(self.relay, name) for name in ("apns", "fcm")}  # type: ignore
        self.job = MailboxJob(TableLog(), self.exchange, pushers)  # type: ignore[arg-type]

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
            endpoint=Endpoint("https://mail.example.com/"),
            credentials=Credentials("basic", "anna", "secret"),
            refused=False,
            unlisted=False,
            works=(work,),
            targets=targets,
            missed_since=None,
            has_dead_letters=False,
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


async def test_a_device_that_was_blocked_while_exchange_was_slow_hears_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.announce.mailbox_job.TARGETS_FRESH_S", -1.0)
    site.exchange.error = errors.Unreachable()
    await site.run(NEW)  # its only device is in no table: gone
    assert site.relay.titles == []


async def test_each_phone_is_reached_through_its_own_push_service(site: Site) -> None:
    site.exchange.error = errors.Unreachable()
    phones = (
        Target(uuid.uuid4(), "apns", "com.example", "ab" * 32, OPEN),
        Target(uuid.uuid4(), "fcm", "com.example", "cd" * 32, OPEN),
    )
    await site.run(NEW, phones)
    assert site.relay.reached == {("apns", "ab" * 32), ("fcm", "cd" * 32)}
