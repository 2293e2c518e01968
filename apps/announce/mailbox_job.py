"""Announces what happened in one mailbox: merge, fetch, push, and say what is to be recorded."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from joserfc.errors import JoseError

from apps.announce import payload, policy
from apps.announce.context import Context, Target
from apps.announce.gaps import last_watermark
from apps.announce.plan import Plan, is_news, plan
from apps.announce.pushing import Pusher
from apps.cns.answer import Result
from apps.cns.client import Push, Service
from apps.devices import registry
from apps.eventlog.interface import Entry, EventLog
from apps.exchange import errors
from apps.exchange.interface import Credentials, Described, Extras, Item, MailServer
from apps.history import counters, names, stories
from apps.subscriptions import ending, refusals, states, wakeups
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import MailWork
from apps.subscriptions.models import Subscription, SubscriptionState
from apps.vault.lookup import lookup_hmac

log = logging.getLogger(__name__)

# A fetch may take this long in all, in seconds; then the mail is announced without its details.
FETCH_DEADLINE_S: Final = 12.0
# How long APNs keeps a push for a phone that is off.
PUSH_LIVES_S: Final = 24 * 3600
# A device that was blocked or has left hears nothing more after 5 seconds (DESIGN.md, section 7).
TARGETS_FRESH_S: Final = 3.0
_ITEM_REF_LENGTH: Final = 32
# A login takes a fraction of a second, unless Exchange hangs.
_TRIAL_LOOKS: Final = 15
_TRIAL_S: Final = 0.3


@dataclass(slots=True)
class Outcome:
    """What a job leaves to record: marks of what was announced, and when to try the rest again.

    `hushed` are marks of what is not to be announced: it must not ring later either.
    """

    seen: list[str] = field(default_factory=list)
    hushed: list[str] = field(default_factory=list)
    retry_after_s: float | None = None
    watermark: str = ""
    # Whether what the job was to look for at Exchange was looked for, and told.
    caught_up: bool = False
    # Whether the job itself has silenced a device.
    silenced: bool = False

    def again(self, seconds: float) -> None:
        """Ask for another try, not before the latest time that anything asked for."""
        self.retry_after_s = max(self.retry_after_s or 0.0, seconds)


@dataclass(frozen=True, slots=True)
class _News:
    """One mail to announce; without content where its details could not be had.

    `sender` is an HMAC (policy.vip_hmac), empty where nobody asks for it.
    """

    item_id: str
    content: payload.Content | None = field(default=None, repr=False)
    sender: str = ""
    conversation_id: str = ""


class MailboxJob:
    """One mailbox, one batch of its log entries."""

    def __init__(
        self,
        event_log: EventLog,
        server: MailServer,
        pushers: Mapping[Service, Pusher],
        at_once: int = 64,
    ) -> None:
        self._log = event_log
        self._server = server
        self._pushers = pushers
        # Announced, but the mark may not be in the log yet: the mailbox's next job must know.
        self._unwritten: set[str] = set()
        # What is under way or not recorded when this process is killed is announced again. An
        # announcement keeps its place from its push until its mark is in the log.
        self._places = asyncio.Semaphore(at_once)
        self._keeping: set[str] = set()
        self._announced: list[str] = []

    def take_marks(self) -> list[str]:
        """The marks of what was announced since the last call, for the log."""
        taken, self._announced = self._announced, []
        return taken

    def marks_written(self, marks: Iterable[str]) -> None:
        """Take note that these marks are in the log now."""
        self._unwritten.difference_update(marks)
        for mark in self._keeping.intersection(marks):
            self._keeping.discard(mark)
            self._places.release()

    async def run(self, context: Context, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Announce what these entries, oldest first, report.

        `outcome` is true at any moment: what was announced before a failure or a deadline counts.
        """
        works = context.works
        await self._note_identity(context, works)
        since = [work.catch_up_since for work in works if work.catch_up_since]
        since += [context.missed_since] if context.missed_since else []
        todo = plan(
            (event for work in works for event in work.events),
            counts_are_fresh=all(entry.attempts <= 1 for entry in entries),
            catch_up_since=min(since) if since else None,
        )
        outcome.watermark = last_watermark(works)
        if todo.empty or not context.targets or context.replaced:
            return
        context = await _after_trial(context)
        news, unread = await self._gather(context, todo, outcome)
        taken_at = min(entry.appended_at for entry in entries)
        audience = _Audience(context.targets, 0.0 if outcome.silenced else context.loaded_at)
        await self._announce(context, news, unread, _Delivery(outcome, taken_at, audience))

    async def _note_identity(self, context: Context, works: Sequence[MailWork]) -> None:
        """Take what the entries say of the subscription itself."""
        subscription = context.subscription
        failed = next((work.error_code for work in works if work.error_code), "")
        if failed:
            log.warning("Exchange ended subscription %s: %s", subscription.id, failed[:60])
            lost = SubscriptionState.LOST
            await in_database(states.move, subscription.id, lost, "ended_by_exchange")
            return
        named = next((work.foreign_hmac for work in works if work.foreign_hmac), "")
        if subscription.state in (SubscriptionState.PENDING, SubscriptionState.LOST):
            await in_database(_promote, subscription.id, named)

    async def _gather(
        self, context: Context, todo: Plan, outcome: Outcome
    ) -> tuple[list[_News], int | None]:
        """Fetch details and unread count; fall back on «New mail» where they can't be had.

        That can't be said of what only a fetch would find or judge: it is tried again.
        """
        plain = [_News(item_id) for item_id in todo.delivered]
        if context.refused:
            await in_database(_suspect, context.subscription.id, todo.catch_up_since)
        if not context.may_fetch:
            return plain, todo.unread_count
        credentials = context.credentials
        if credentials is None:
            await in_database(_does_not_open, context.subscription.id)
            return plain, todo.unread_count
        try:
            found = await self._fetch(context, credentials, todo)
        except errors.CredentialsExpired as error:
            # Moving it wakes the phones; nobody has to prove anything anew.
            await in_database(_suspect, context.subscription.id, todo.catch_up_since, error.code)
        except errors.CredentialsRefused:
            counters.count(names.CREDENTIALS_REFUSED)
            await in_database(_credentials_refused, context, credentials, todo.catch_up_since)
        except errors.GatewayRefused as error:
            counters.count(names.FETCH_ERRORS, label=error.code)
            await in_database(_gateway_refused, context, credentials, todo.catch_up_since)
            outcome.silenced = True
        except errors.ExchangeError as error:
            counters.count(names.FETCH_ERRORS, label=error.code)
            log.warning(
                "subscription %s: details can't be fetched: %s",
                context.subscription.id,
                error.code,
            )
            if todo.catch_up_since or todo.appeared:
                outcome.again(error.back_off_s if isinstance(error, errors.ServerBusy) else 0.0)
        else:
            outcome.caught_up = todo.catch_up_since is not None
            return found
        return plain, todo.unread_count

    async def _fetch(
        self, context: Context, credentials: Credentials, todo: Plan
    ) -> tuple[list[_News], int | None]:
        gives_up = time.monotonic() + FETCH_DEADLINE_S
        while True:
            try:
                return await self._fetch_once(context, credentials, todo, gives_up)
            except errors.ServerBusy as busy:
                if time.monotonic() + busy.back_off_s >= gives_up:
                    raise
                await asyncio.sleep(busy.back_off_s)

    async def _fetch_once(
        self, context: Context, credentials: Credentials, todo: Plan, gives_up: float
    ) -> tuple[list[_News], int | None]:
        wants_count = todo.unread_count is None
        extras = _extras(context)
        described = Described(items={}, unread_count=None)
        if todo.item_ids or wants_count:
            described = await self._server.describe(
                context.endpoint, credentials, todo.item_ids, wants_count, _left(gives_up), extras
            )
        news = [
            _news(context, item_id, item)
            for item_id in todo.item_ids
            if (item := described.items.get(item_id)) is not None
            and is_news(todo, item, in_inbox=_in_inbox(context, item))
        ]
        if todo.catch_up_since:
            missed = await self._server.newest_unread(
                context.endpoint,
                credentials,
                todo.catch_up_since,
                context.catch_up_limit,
                _left(gives_up),
                extras,
            )
            known = {one.item_id for one in news}
            news += [
                _news(context, item.item_id, item) for item in missed if item.item_id not in known
            ]
        unread = todo.unread_count if described.unread_count is None else described.unread_count
        return news, unread

    async def _announce(
        self, context: Context, news: Sequence[_News], unread: int | None, delivery: _Delivery
    ) -> None:
        """Push to every device what it has not been told yet, or else the badge alone."""
        targets = [each for each in context.targets if await delivery.audience.holds(each)]
        marks = {
            (target.device_id, one.item_id): _mark(target.device_id, one.item_id)
            for target in targets
            for one in news
        }
        told = await in_database(self._log.seen, list(marks.values())) if marks else set()
        told |= self._unwritten.intersection(marks.values())
        pushes: list[tuple[Target, str, Push]] = []
        for target in targets:
            rings = False
            for one in news:
                mark = marks[target.device_id, one.item_id]
                if mark in told:
                    continue
                if _is_hushed(target, one):
                    delivery.outcome.hushed.append(mark)
                    continue
                rings = True
                pushes.append((target, mark, _announcement(target, one, unread, mark)))
            if unread is not None and not rings:
                pushes.append((target, "", _badge(target, unread)))
        outcome = delivery.outcome
        if outcome.hushed:
            counters.count(names.HUSHED, len(outcome.hushed))
        try:
            ended = await asyncio.gather(
                *(self._push(delivery, target, mark, push) for target, mark, push in pushes),
                return_exceptions=True,
            )
        finally:
            self._unwritten.update(outcome.hushed)
        for failed in ended:
            if failed is not None:
                raise failed

    async def _push(self, delivery: _Delivery, target: Target, mark: str, push: Push) -> None:
        """Send one push, an announcement when there is a place for it."""
        pusher = self._pushers[target.service]
        if not mark:
            await delivery.of(pusher, target, mark, push)
            return
        await self._places.acquire()
        try:
            # While the relay is slow a place is waited for longer than a block may take.
            if await delivery.audience.holds(target):
                await delivery.of(pusher, target, mark, push)
        finally:
            if mark in delivery.outcome.seen and mark not in self._keeping:
                self._keeping.add(mark)
                self._unwritten.add(mark)
                self._announced.append(mark)
            else:
                self._places.release()


async def _after_trial(context: Context) -> Context:
    """Wait some seconds for another worker that tries the same credentials just now.

    They may be wrong, and two wrong tries are one too many.
    """
    for _ in range(_TRIAL_LOOKS):
        if context.standing != refusals.ON_TRIAL:
            break
        await asyncio.sleep(_TRIAL_S)
        context = replace(context, standing=await in_database(_standing, context))
    return context


def _standing(context: Context) -> refusals.Standing | None:
    if context.credentials is None:
        return None
    asked = [(context.mailbox, context.credentials)]
    return refusals.known_among(asked).get((context.mailbox.pk, context.credentials))


def _left(gives_up: float) -> float:
    return max(0.5, gives_up - time.monotonic())


class _Audience:
    """Which devices may be pushed to, looked up anew whenever the answer is no longer fresh."""

    def __init__(self, targets: Iterable[Target], looked_at: float) -> None:
        self._active = {target.device_id for target in targets}
        self._looked_at = looked_at

    async def holds(self, target: Target) -> bool:
        """Whether the device has neither left nor been blocked, as of `TARGETS_FRESH_S` ago."""
        now = time.monotonic()
        if now - self._looked_at > TARGETS_FRESH_S:
            self._active = await in_database(registry.active_among, self._active)
            self._looked_at = now
        return target.device_id in self._active


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What a job's pushes have in common; `taken_at` (Unix time) is when the webhook took them."""

    outcome: Outcome
    taken_at: float
    audience: _Audience

    async def of(self, pusher: Pusher, target: Target, mark: str, push: Push) -> None:
        """Send one push and take its result as soon as it is known, whatever befalls others."""
        result = await pusher.push(push)
        _tell(target, mark, result, time.time() - self.taken_at)
        await _settle(target, mark, result, self.outcome)


async def _settle(target: Target, mark: str, result: Result, outcome: Outcome) -> None:
    """Take one push's result: mark it, retire a dead token, or ask for another try."""
    if result.status == "accepted":
        if mark:
            outcome.seen.append(mark)
    elif result.status == "dead":
        await in_database(
            registry.retire_dead_token, target.device_id, target.token, result.dead_since
        )
    elif result.status == "retry":
        outcome.again(result.retry_after_s)
    else:
        log.error("a push to device %s failed: %s", target.device_id, result.reason)
        if result.reason not in _HOPELESS and not result.reason.endswith("_malformed"):
            outcome.again(60.0)


def _tell(target: Target, mark: str, result: Result, took_s: float) -> None:
    """Count a push's result and note it in the device's story, with how long it took."""
    counters.count(names.PUSHES, label=result.status)
    if result.status == "accepted":
        counters.count(names.ANNOUNCED if mark else names.BADGE_CORRECTIONS)
    kind = "announcement" if mark else "badge"
    stories.record(
        target.device_id,
        kind,
        result=result.status,
        reason=result.reason,
        ms=max(0, round(took_s * 1000)),
        told=target.rules.level,
        encrypted=target.envelope is not None,
    )


# Faults of the one push that no second try will mend.
_HOPELESS: Final = frozenset({"PayloadTooLarge", "PayloadEmpty", "BadCollapseId"})


def _promote(subscription_id: uuid.UUID, named: str) -> None:
    """Exchange calls, so it knows the subscription, whatever we thought.

    The first call may come before Subscribe has answered: it names it just as well.
    """
    if named:
        Subscription.objects.filter(id=subscription_id, foreign_hmac="").update(foreign_hmac=named)
    states.move(subscription_id, SubscriptionState.ACTIVE, "exchange_called")


def _suspect(
    subscription_id: uuid.UUID, untold_since: datetime | None, reason: str = wakeups.REFUSED
) -> bool:
    """What was to be looked for is looked for by the subscription that takes over."""
    also = {} if untold_since is None else {"silent_since": untold_since}
    return states.move(subscription_id, SubscriptionState.SUSPECT, reason, **also)


def _gateway_refused(
    context: Context, credentials: Credentials, untold_since: datetime | None
) -> None:
    """The gateway refuses the device whose credentials these are: now, not at its next check-in.

    Unless it was not told who that is: the credentials are from before there was a gateway.
    """
    subscription = context.subscription
    owner = subscription.owner if credentials.identity else None
    if owner is not None and registry.refused_by_gateway(owner.id, owner.secret_hash):
        counters.count(names.GATEWAY_REFUSED)
    # Wakes the others; and gives up what the owner has, or keeps it until one of them has come.
    _suspect(subscription.id, untold_since, registry.GATEWAY)
    if owner is not None:
        ending.hand_over(owner)
    log.info("subscription %s: refused by the gateway", subscription.id)


def _does_not_open(subscription_id: uuid.UUID) -> None:
    """Credentials that don't open are given up, unless that subscription's opened before.

    In that case somebody sent us other ones in their place, and Exchange's own are still good.
    """
    log.warning("credentials of subscription %s did not open", subscription_id)
    hopeless = Subscription.objects.filter(id=subscription_id, unsealed_at=None).exists()
    if hopeless:
        ending.end(subscription_id, "credentials_not_opened", shred_now=True)


def _credentials_refused(
    context: Context, credentials: Credentials, untold_since: datetime | None
) -> None:
    refusals.remember(context.mailbox, credentials)
    # One that was superseded meanwhile says nothing of the credentials in use now.
    if _suspect(context.subscription.id, untold_since):
        wakeups.demand_proof(context.mailbox.pk)
    log.info("subscription %s: credentials refused", context.subscription.id)


def _in_inbox(context: Context, item: Item) -> bool:
    if not (context.mailbox.inbox_hmac and item.parent_folder_id):
        return True
    return lookup_hmac("inbox", item.parent_folder_id) == context.mailbox.inbox_hmac


def _mark(device_id: uuid.UUID, item_id: str) -> str:
    """What stands for «this device was told of this mail» in the log and at APNs."""
    return lookup_hmac("announced", f"{device_id}:{item_id}")[:_ITEM_REF_LENGTH]


def _extras(context: Context) -> Extras:
    """Only what some device may be told is asked for."""
    held = [target.rules for target in context.targets]
    return Extras(
        preview=any(rules.level == "preview" for rules in held),
        conversation=any(rules.group_conversations for rules in held),
    )


def _news(context: Context, item_id: str, item: Item) -> _News:
    matters = any(target.rules.vips is not None for target in context.targets)
    return _News(
        item_id,
        payload.content_of(item),
        policy.vip_hmac(item.sender_address) if matters else "",
        item.conversation_id,
    )


def _is_hushed(target: Target, news: _News) -> bool:
    """Whether a mail may change the badge only. One whose sender is unknown may be a VIP's."""
    if target.rules.level == "none":
        return True
    vips = target.rules.vips
    return vips is not None and news.content is not None and news.sender not in vips


def _announcement(target: Target, news: _News, unread: int | None, mark: str) -> Push:
    thread = ""
    if target.rules.group_conversations and news.conversation_id:
        thread = lookup_hmac("thread", f"{target.device_id}:{news.conversation_id}")
    told = payload.News(
        item=mark,
        content=policy.narrowed(news.content, target.rules.level),
        badge=unread,
        sound=target.rules.sound,
        thread=thread[:_ITEM_REF_LENGTH],
        envelope=target.envelope,
    )
    try:
        made = payload.announcement(target.service, told)
    except (ValueError, JoseError):
        # A damaged row: that phone is told without details, and the others are told.
        log.error("device %s: its content key is none", target.device_id)
        made = payload.announcement(target.service, replace(told, content=None))
    return _push(target, 10, mark, made)


def _badge(target: Target, unread: int) -> Push:
    return _push(target, 5, "badge", payload.badge_correction(target.service, unread))


def _push(target: Target, priority: Literal[10, 5], collapse_id: str, body: dict[str, Any]) -> Push:
    return Push(
        id=str(uuid.uuid4()),
        app=target.app,
        token=target.token,
        push_type="alert",
        priority=priority,
        expiration=int(time.time()) + PUSH_LIVES_S,
        collapse_id=collapse_id,
        payload=body,
    )
