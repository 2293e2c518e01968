"""The drain: merges by mailbox, records after the effect, and hands back what it can't finish."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from apps.announce import drain as drain_module
from apps.announce.context import Context
from apps.announce.drain import Drain
from apps.announce.mailbox_job import Outcome
from apps.devices.models import Mailbox
from apps.eventlog.interface import Entry, EventLog, LogUnavailable, NewEntry
from apps.eventlog.models import DeadLetter, LogEntry
from apps.eventlog.table import TableLog
from apps.exchange.ews.notification import Event
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import MAIL, MailWork
from apps.subscriptions.models import Subscription
from apps.subscriptions.webhook_url import name_of
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system

pytestmark = pytest.mark.django_db(transaction=True)


class Job:
    """Stands where a mailbox's job would: notes what it is given and does what a test says."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[int]]] = []
        self.running: dict[int, int] = {}
        self.overlaps = 0
        self.does: Callable[[Sequence[Entry]], Outcome] = lambda _entries: Outcome()
        self.takes_s = 0.0
        self.at_once: list[str] = []
        self.announced: list[str] = []
        self.written: list[str] = []

    def take_marks(self) -> list[str]:
        taken, self.announced = self.announced, []
        return taken

    def marks_written(self, marks: Sequence[str]) -> None:
        self.written += marks

    async def run(self, context: Context, entries: Sequence[Entry], outcome: Outcome) -> None:
        key = context.mailbox.pk
        self.overlaps += self.running.get(key, 0)
        self.running[key] = self.running.get(key, 0) + 1
        self.batches.append((key, [entry.id for entry in entries]))
        self.announced += self.at_once
        await asyncio.sleep(self.takes_s)
        self.running[key] -= 1
        done = self.does(entries)
        self.announced += done.seen
        outcome.retry_after_s = done.retry_after_s
        outcome.caught_up = done.caught_up


class Site:
    """Two mailboxes with a subscription each, the log, and a drain on it."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.job = Job()
        self.drain = Drain(log, self.job, "worker", in_flight=20)  # type: ignore[arg-type]
        self.names: list[str] = []

    def set_up(self) -> None:
        system = add_mail_system(create_group("Example"), "Exchange", ["mail.example.com"])
        for user in ("anna", "ben"):
            mailbox = Mailbox.objects.create(mail_system=system, user_hmac=user)
            made = Subscription.objects.create(
                mailbox=mailbox, state="active", ews_url="https://mail.example.com/"
            )
            self.names.append(name_of(made.id))

    def append(self, name: str, times: int = 1) -> None:
        for number in range(times):
            work = MailWork(creds="c", events=(Event("NewMail", item_id=str(number)),))
            self.log.append(NewEntry(MAIL, name, work.to_bytes()))

    async def run(self, seconds: float = 5.0) -> int:
        return await self.drain.run(seconds, linger_s=0.2)


@pytest.fixture
async def site() -> Site:
    made = Site(TableLog())
    await in_database(made.set_up)
    return made


async def depth(site: Site) -> int:
    return await in_database(site.log.depth, MAIL)


async def test_what_waits_for_a_mailbox_is_one_job(site: Site) -> None:
    anna, ben = site.names
    await in_database(site.append, anna, 5)
    await in_database(site.append, ben, 2)
    assert await site.run() == 7
    assert sorted(len(ids) for _, ids in site.job.batches) == [2, 5]
    assert await depth(site) == 0


async def test_a_mailbox_has_one_job_at_a_time_and_others_do_not_wait(site: Site) -> None:
    anna, ben = site.names
    site.job.takes_s = 0.4
    await in_database(site.append, anna)
    running = asyncio.create_task(site.run())
    await asyncio.sleep(0.2)
    await in_database(site.append, anna)
    await in_database(site.append, ben)
    began = time.monotonic()
    while len(site.job.batches) < 2:
        await asyncio.sleep(0.01)
    assert time.monotonic() - began < 0.3
    await running
    assert len(site.job.batches) == 3
    assert site.job.overlaps == 0


async def test_two_subscriptions_of_one_mailbox_follow_each_other(site: Site) -> None:
    def second() -> str:
        mailbox = Mailbox.objects.get(user_hmac="anna")
        return name_of(
            Subscription.objects.create(
                mailbox=mailbox, state="active", ews_url="https://mail.example.com/"
            ).id
        )

    other = await in_database(second)
    site.job.takes_s = 0.2
    await in_database(site.append, site.names[0])
    await in_database(site.append, other)
    await site.run()
    assert len(site.job.batches) == 2
    assert site.job.overlaps == 0


async def test_marks_are_written_with_the_acknowledgement(site: Site) -> None:
    site.job.does = lambda _entries: Outcome(seen=["mark"])
    await in_database(site.append, site.names[0])
    await site.run()
    assert await in_database(site.log.seen, ["mark", "other"]) == {"mark"}
    assert site.job.written == ["mark"]


@pytest.mark.parametrize("error", [LogUnavailable("OperationalError"), RuntimeError("odd")])
async def test_what_a_log_could_not_take_is_recorded_later(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failures = 3
    real = site.log.acknowledge

    def sometimes(ids: Sequence[int]) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise error
        real(ids)

    monkeypatch.setattr(site.log, "acknowledge", sometimes)
    site.job.does = lambda _entries: Outcome(seen=["mark"])
    await in_database(site.append, site.names[0])
    await site.run()
    assert await depth(site) == 0
    assert len(site.job.batches) == 1


async def test_what_must_be_tried_again_stays_and_what_was_done_is_marked(site: Site) -> None:
    site.job.does = lambda _entries: Outcome(seen=["mark"], retry_after_s=0.5)
    await in_database(site.append, site.names[0])
    await site.run()
    assert await depth(site) == 1
    assert await in_database(site.log.seen, ["mark"]) == {"mark"}
    row = await in_database(LogEntry.objects.get)
    assert row.due_at - time.time() > 1.0  # the back-off is longer than what was asked for
    assert row.holder == ""


async def test_what_is_too_old_is_buried_without_content(site: Site) -> None:
    site.job.does = lambda _entries: Outcome(retry_after_s=1.0)
    await in_database(site.append, site.names[0])
    old = time.time() - drain_module.MAX_AGE_S - 1
    await in_database(LogEntry.objects.update, appended_at=old)
    await site.run()
    assert await depth(site) == 0
    letter = await in_database(DeadLetter.objects.get)
    assert (letter.partition, letter.reason) == (site.names[0], "too_old")
    assert not hasattr(letter, "payload")


async def test_a_job_that_fails_is_tried_again_and_stops_nobody(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    anna, ben = site.names

    def fail(entries: Sequence[Entry]) -> Outcome:
        if entries[0].partition == anna:
            raise RuntimeError("secret-in-an-exception")
        return Outcome()

    site.job.does = fail
    await in_database(site.append, anna)
    await in_database(site.append, ben)
    await site.run()
    assert await depth(site) == 1
    assert "RuntimeError" in caplog.text
    assert "secret-in-an-exception" not in caplog.text


async def test_an_entry_that_can_not_be_read_stops_nobody(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    anna, ben = site.names
    await in_database(site.log.append, NewEntry(MAIL, anna, b"secret-in-an-entry"))
    await in_database(site.log.append, NewEntry(MAIL, "no name of ours", b"{}"))
    await in_database(site.append, ben)
    await site.run()
    assert len(site.job.batches) == 1
    assert await depth(site) == 2
    assert "secret-in-an-entry" not in caplog.text


async def test_a_job_over_its_deadline_is_given_up_and_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "DEADLINE_S", 0.2)
    site.job.takes_s = 30.0
    site.job.at_once = ["mark"]
    await in_database(site.append, site.names[0])
    await site.run()
    assert await depth(site) == 1
    # What it had announced by then is not announced again.
    assert await in_database(site.log.seen, ["mark"]) == {"mark"}


async def test_what_is_done_is_recorded_while_a_claim_takes_its_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, claimed = threading.Event(), site.log.claim
    in_time: list[bool] = []

    def slow(*args: Any, **options: Any) -> list[Entry]:
        if site.job.batches:
            in_time.append(written.wait(5))
        return claimed(*args, **options)

    real = site.log.mark_seen
    monkeypatch.setattr(site.log, "claim", slow)
    monkeypatch.setattr(site.log, "mark_seen", lambda *args: (real(*args), written.set())[0])
    site.job.does = lambda _entries: Outcome(seen=["mark"])
    await in_database(site.append, site.names[0])
    await site.run()
    assert in_time and all(in_time)


async def test_entries_of_what_is_no_more_go_and_exchange_will_hear_it(site: Site) -> None:
    await in_database(site.append, site.names[0])
    await in_database(Subscription.objects.all().delete)
    await site.run()
    assert await depth(site) == 0
    assert site.job.batches == []
    assert await in_database(site.log.sign_of_life, site.names[0]) is False


async def test_a_run_whose_time_is_over_does_not_let_others_wait_for_a_slow_job(
    site: Site,
) -> None:
    hanging, other = site.names
    site.job.takes_s = 2.5
    await in_database(site.append, hanging)
    run = asyncio.create_task(site.run(seconds=0.2))
    await asyncio.sleep(1.0)  # the run's time is over
    site.job.takes_s = 0.0
    await in_database(site.append, other)
    await asyncio.sleep(0.5)
    assert len(site.job.batches) == 2
    assert sum(site.job.running.values()) == 1
    assert await run == 2
    assert await depth(site) == 0


async def test_a_drain_returns_with_nothing_held(site: Site) -> None:
    site.job.takes_s = 0.5
    await in_database(site.append, site.names[0], 3)
    await site.drain.run(0.1, linger_s=0.0)
    assert await depth(site) == 0
    assert not await in_database(LogEntry.objects.filter(holder="worker").exists)


@pytest.mark.parametrize("caught_up", [True, False])
async def test_dead_letters_are_kept_until_they_were_looked_for(
    site: Site, caught_up: bool
) -> None:
    anna, _ = site.names
    await in_database(site.append, anna)
    (entry,) = await in_database(site.log.claim, MAIL, "other", 1, 30)
    await in_database(site.log.bury, entry.id, "too_old")
    site.job.does = lambda _entries: Outcome(caught_up=caught_up)
    await in_database(site.append, anna)
    await site.run()
    assert (await in_database(site.log.dead_since, [anna]) == {}) is caught_up
