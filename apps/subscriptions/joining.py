"""A device joins: begun by the web process, finished by a worker.

The web process commits a pending subscription and seals the credentials; the worker proves the
mailbox, subscribes at Exchange unless the mailbox is served already, and makes the new
subscription the current one. Every step can be repeated after a crash.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from weakref import WeakValueDictionary

from django.db import transaction

from apps import clock, request_id
from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.eventlog.interface import Entry, EventLog, NewEntry
from apps.exchange import errors
from apps.exchange.interface import Credentials, Endpoint, Joined, MailServer, Proof
from apps.history import counters, names
from apps.keypairs import sealing
from apps.subscriptions import (
    addresses,
    current,
    ending,
    refusals,
    states,
    wakeups,
    webhook_url,
)
from apps.subscriptions.database import in_joins_database
from apps.subscriptions.entries import CLOCKS_DIFFER, JOIN, MAIL, JoinWork, MailWork
from apps.subscriptions.models import SUPERSEDED, Subscription, SubscriptionState
from apps.subscriptions.settings import SubscriptionSettings
from apps.subscriptions.way import endpoint_of
from apps.tenants import mail_systems
from apps.tenants.inherited import settings_for
from apps.vault.lookup import lookup_hmac

log = logging.getLogger(__name__)

# One try of proof and Subscribe together, in seconds; below the claim and the lease.
DEADLINE_S: Final = 25.0
# How long a join is tried again while Exchange is busy or away, before the device hears of it.
PATIENCE = timedelta(minutes=10)
# How much later than it should a check-in may come before a token ends.
_SLACK: Final = timedelta(minutes=15)
_WAIT_FOR_OTHERS_S: Final = 0.5
# Before Autodiscover is asked where the mailbox has gone.
_ASK_AGAIN_S: Final = 0.5
# The entry is in the log just before its rows are committed.
_NOT_COMMITTED_S: Final = 0.2
_COMMITTED_WITHIN_S: Final = 60.0
# A fetch that is under way with what may be the same credentials is waited for so often and long.
_FETCH_TRIES: Final = 10
_FETCH_S: Final = 0.3
_SERVED: Final = 0.0
_SUBSCRIPTIONS_ASKED: Final = 50
# Why an earlier join of a device ended.
_JOINED_ANEW: Final = "joined_anew"

# Faults that an administrator mends without the phone: tried again like the passing ones.
_MENDED_ELSEWHERE = (errors.TlsRefused, errors.SubscriptionUrlRefused, errors.LoginImpossible)


@dataclass(frozen=True, slots=True)
class _Case:
    """What a worker needs to know to finish one join."""

    subscription: Subscription
    device: Device
    mailbox: Mailbox
    endpoint: Endpoint
    address: str = field(repr=False)
    credentials: Credentials = field(repr=False)
    # `refusals.account`: made where the database may be asked for the lookup key.
    account: str
    creds: str = field(repr=False)
    enrolment: str = field(repr=False)
    callback_url: str = field(repr=False)


def begin(device: Device, address: str, credentials: Credentials) -> NewEntry:
    """Make a pending subscription with its sealed credentials; call inside a transaction.

    Returns the log entry that the caller appends as the last thing in that transaction: a process
    that dies then leaves both or an entry of nothing, never a row that nobody works on.
    """
    _give_up_earlier(device)
    if device.mailbox.mail_system.gateway:
        credentials = replace(credentials, identity=registry.identity(device))
    chosen = settings_for(device.og, SubscriptionSettings)
    subscription = Subscription.objects.create(
        id=uuid.uuid4(),
        mailbox=device.mailbox,
        owner=device,
        ews_url=addresses.first_choice(device),
        status_frequency_minutes=chosen.status_frequency_minutes,
        **_expiry(credentials, chosen),
    )
    plaintext = json.dumps({"email": address, "credentials": json.loads(credentials.to_bytes())})
    creds = sealing.seal(
        subscription.id,
        plaintext.encode(),
        room=webhook_url.room_for_credentials(subscription.id),
    )
    work = JoinWork(device.id, creds, device.secret_hash, request_id.current())
    log.info("device %s joins: subscription %s", device.id, subscription.id)
    return NewEntry(
        kind=JOIN, partition=webhook_url.name_of(subscription.id), payload=work.to_bytes()
    )


def _expiry(credentials: Credentials, chosen: SubscriptionSettings) -> dict[str, datetime]:
    """When the credentials end, and from when on to ask for others.

    In time for a check-in to bring them; of a short life a third is left.
    """
    if credentials.expires_at is None:
        return {}
    ends = datetime.fromtimestamp(credentials.expires_at, UTC)
    ahead = min((ends - clock.now()) / 3, timedelta(seconds=chosen.checkin_seconds) + _SLACK)
    return {"credentials_expire_at": ends, "credentials_renew_at": ends - ahead}


def open_many(sealed: Mapping[uuid.UUID, str]) -> dict[uuid.UUID, Credentials]:
    """Unseal the credentials of many subscriptions; those that don't open are left out."""
    return {
        subscription_id: _parse(plaintext)[1]
        for subscription_id, plaintext in sealing.unseal_many(sealed).items()
    }


def _parse(plaintext: bytes) -> tuple[str, Credentials]:
    """What `begin` sealed: the SMTP address and the credentials."""
    raw = json.loads(plaintext)
    return raw["email"], Credentials.from_bytes(json.dumps(raw["credentials"]).encode())


class Joiner:
    """Finishes joins. One per worker process; `finish` handles one log entry."""

    def __init__(self, event_log: EventLog, server: MailServer, wake_drain: Callable[[], None]):
        self._log = event_log
        self._server = server
        self._wake_drain = wake_drain
        self._logins: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def finish(self, entry: Entry) -> float | None:
        """Work on one join entry.

        Returns None when the entry is done with, else the seconds after which to try again.
        """
        request_id.work_on([JoinWork.from_bytes(entry.payload).request_id or request_id.new()])
        case = await in_joins_database(_load, entry)
        if not isinstance(case, _Case):
            return case
        try:
            return await self._try(case)
        except errors.ExchangeError as error:
            return await in_joins_database(_failed, case, error)

    async def _try(self, case: _Case) -> float | None:
        case, proof = await self._prove(case)
        if not await in_joins_database(_proved, case, proof):
            return None
        turn = await in_joins_database(_turn, case)
        if turn == _SERVED:
            await in_joins_database(self._not_needed, case)
            return None
        if turn is not None:
            return turn
        joined = None
        if not case.subscription.foreign_hmac:
            joined = await self._server.join(
                case.endpoint,
                case.credentials,
                case.callback_url,
                case.subscription.status_frequency_minutes,
                DEADLINE_S / 2,
            )
        await in_joins_database(self._complete, case, joined)
        return None

    async def _prove(self, case: _Case) -> tuple[_Case, Proof]:
        """One login of an account at a time: many at once would all be tried before any counts.

        In this process by a lock, in all by a trial in the database. Autodiscover logs in, too.
        """
        async with self._logins.setdefault(case.account, asyncio.Lock()):
            await self._begin_trial(case)
            try:
                if not case.endpoint.url:
                    case = await self._discover(case)
                proof = await self._server.prove(
                    case.endpoint, case.credentials, case.address, DEADLINE_S / 2
                )
                return case, proof
            except errors.CredentialsExpired:
                # Nobody has refused them: they were not sent.
                raise
            except errors.CredentialsRefused:
                await in_joins_database(refusals.remember, case.mailbox, case.credentials)
                raise
            finally:
                await in_joins_database(refusals.end_trial, case.mailbox, case.credentials)

    async def _discover(self, case: _Case) -> _Case:
        """The case with the address that Autodiscover found; kept, should the time run out."""
        reach = addresses.reach_of(case.mailbox.mail_system)
        url = await self._server.discover(reach, case.credentials, case.address, DEADLINE_S / 2)
        await in_joins_database(addresses.found, case.subscription, case.device, url)
        return replace(case, endpoint=endpoint_of(case.mailbox.mail_system, url))

    async def _begin_trial(self, case: _Case) -> None:
        """Wait until nobody else tries what may be the same credentials.

        A fetch looks at the trials once it holds its entries, we look at the entries once we hold
        the trial: of two that begin together one sees the other. It is we who step back.
        """
        waited_for_fetch = 0
        while True:
            if await in_joins_database(refusals.begin_trial, case.mailbox, case.credentials):
                fetching = await in_joins_database(self._is_fetching, case)
                if not fetching or waited_for_fetch >= _FETCH_TRIES:
                    return
                waited_for_fetch += 1
                await in_joins_database(refusals.end_trial, case.mailbox, case.credentials)
            await asyncio.sleep(_FETCH_S)

    def _is_fetching(self, case: _Case) -> bool:
        serving = Mailbox.objects.get(id=case.mailbox.pk).current_subscription
        return serving is not None and self._log.is_held(MAIL, webhook_url.name_of(serving))

    def _complete(self, case: _Case, joined: Joined | None) -> None:
        """Make the subscription current, then look for mail that came in the gap before it."""
        mine, now = case.subscription.id, clock.now()
        with transaction.atomic():
            if joined:
                # Who names it first wins, for web processes remember the name: where Exchange's
                # first call (of a Subscribe whose answer got lost) was faster, this one is the
                # orphan, and is told to end at its next call.
                Subscription.objects.filter(id=mine, foreign_hmac="").update(
                    foreign_hmac=lookup_hmac("ews-subscription", joined.subscription_id)
                )
            states.move(mine, SubscriptionState.ACTIVE)
            alive = Subscription.objects.filter(id=mine, state=SubscriptionState.ACTIVE).update(
                unsealed_at=now
            )
            old = Mailbox.objects.get(id=case.mailbox.pk).current_subscription
            won = bool(alive) and current.swap(case.mailbox.pk, old, mine)
            current.release(case.mailbox.pk, mine)
        counters.count(names.JOINS, label="active" if won else "superseded")
        if not won:
            ending.supersede(mine)
            return
        since = case.subscription.created_at
        if old is not None and old != mine:
            since = self._served_until(old) or since
            ending.supersede(old)
        # From here on silence is noticed, even if Exchange never calls.
        self._log.sign_of_life(webhook_url.name_of(mine))
        dead = self._dead_letters(case.mailbox)
        self._catch_up(case, [since, *_silent_since(case), *dead.values()], dead)
        log.info("subscription %s serves the mailbox now", mine)

    def _not_needed(self, case: _Case) -> None:
        """The mailbox is served. What nobody could be told is looked for with these credentials."""
        mine = case.subscription.id
        counters.count(names.JOINS, label="not_needed")
        current.release(case.mailbox.pk, mine)
        dead = self._dead_letters(case.mailbox)
        untold = [*_silent_since(case), *dead.values()]
        if not untold:
            ending.end(mine, "not_needed", shred_now=True)
            return
        # As one that was superseded: its key lives until its one entry is worked on.
        ending.end(mine, SUPERSEDED, shred_now=False)
        # The others have been told, and might be told again of what was longer ago than marks last.
        self._catch_up(case, untold, dead, only=None if dead else case.device)

    def _catch_up(
        self,
        case: _Case,
        untold_since: Iterable[datetime],
        dead: Mapping[str, datetime],
        only: Device | None = None,
    ) -> None:
        """Let the drain look for what came since and is unread, with this join's credentials."""
        work = MailWork(
            creds=case.creds,
            catch_up_since=min(untold_since),
            replays=tuple(dead),
            device=str(only.id) if only else "",
            request_id=request_id.current(),
        )
        name = webhook_url.name_of(case.subscription.id)
        self._log.append(NewEntry(kind=MAIL, partition=name, payload=work.to_bytes()))
        if case.device.silent_since is not None:
            registry.caught_up(case.device.id, case.device.silent_since)
        self._wake_drain()

    def _dead_letters(self, mailbox: Mailbox) -> dict[str, datetime]:
        """Since when each of the mailbox' subscriptions has dead letters; the newest are asked."""
        rows = Subscription.objects.filter(mailbox=mailbox).order_by("-created_at")
        every = rows.values_list("id", flat=True)[:_SUBSCRIPTIONS_ASKED]
        return self._log.dead_since([webhook_url.name_of(one) for one in every])

    def _served_until(self, subscription_id: uuid.UUID) -> datetime | None:
        """Since when mail may have gone untold: the last sign of life, or the trouble before it."""
        name = webhook_url.name_of(subscription_id)
        times: list[datetime | None] = [*self._log.last_signs([name]).values()]
        old = Subscription.objects.filter(id=subscription_id).first()
        if old is not None:
            times.append(old.silent_since)
            if old.state == SubscriptionState.SUSPECT:
                times.append(old.state_at)
        known = min((at for at in times if at is not None), default=None)
        return known and known - CLOCKS_DIFFER


def _silent_since(case: _Case) -> list[datetime]:
    """Since when the device has been told nothing, if it was."""
    since = case.device.silent_since
    return [] if since is None else [since - CLOCKS_DIFFER]


def _load(entry: Entry) -> _Case | float | None:
    """Everything about a join, or None when it is over: done, given up, or its device is gone.

    A number: its rows are not there yet; look again after so many seconds.
    """
    work = JoinWork.from_bytes(entry.payload)
    subscription = (
        Subscription.objects.select_related("mailbox__mail_system", "owner__og")
        .filter(id=webhook_url.id_of(entry.partition))
        .first()
    )
    if subscription is None:
        young = time.time() - entry.appended_at < _COMMITTED_WITHIN_S
        return _NOT_COMMITTED_S if young else None
    if subscription.owner is None:
        return None
    mailbox, device = subscription.mailbox, subscription.owner
    promoted = subscription.state == SubscriptionState.ACTIVE
    if subscription.state != SubscriptionState.PENDING and not promoted:
        return None
    if device.secret_hash != work.enrolment or not registry.may_prove(device):
        ending.end(subscription.id, "device_gone", shred_now=True)
        return None
    listed = mail_systems.lists(mailbox.mail_system, subscription.ews_url)
    if not listed and not addresses.ask_again(subscription, device, None):
        refusal = _unlisted(subscription, mailbox)
        if refusal:
            _refuse(subscription, device, refusal)
            return None
    try:
        address, credentials = _parse(sealing.unseal(subscription.id, work.creds))
    except sealing.UnsealFailed:
        log.warning("credentials of a join did not open: subscription %s", subscription.id)
        ending.end(subscription.id, "credentials_not_opened", shred_now=True)
        return None
    return _Case(
        subscription=subscription,
        device=device,
        mailbox=mailbox,
        endpoint=endpoint_of(mailbox.mail_system, subscription.ews_url),
        address=address,
        credentials=credentials,
        account=refusals.account(mailbox, credentials),
        creds=work.creds,
        enrolment=work.enrolment,
        callback_url=webhook_url.form(subscription.id, work.creds),
    )


def _unlisted(subscription: Subscription, mailbox: Mailbox) -> str:
    """Why a join can't go on whose address is on no listed host; empty if it is to be found."""
    if subscription.ews_url:
        return "ews_url_not_allowed"
    return "" if mailbox.mail_system.autodiscover else errors.AutodiscoverFailed.default_code


def _proved(case: _Case, proof: Proof) -> bool:
    """Record a proof; False when the device left, was blocked or enrolled anew meanwhile."""
    if not registry.proved(case.device.id, enrolment=case.enrolment):
        ending.end(case.subscription.id, "device_gone", shred_now=True)
        return False
    addresses.proved(case.subscription, case.device)
    wakeups.answered(case.device.id)
    for replaced in registry.handed_on(case.device.id):
        ending.retire(replaced, "handed_on")
    inbox = lookup_hmac("inbox", proof.inbox_id)
    if case.mailbox.inbox_hmac != inbox:
        Mailbox.objects.filter(id=case.mailbox.pk).update(inbox_hmac=inbox)
    return True


def _turn(case: _Case) -> float | None:
    """Whose turn it is: None is ours; `_SERVED` nobody's, for it is served; else wait so long."""
    mailbox = Mailbox.objects.get(id=case.mailbox.pk)
    served = current.serving(mailbox)
    if served is not None and served.id != case.subscription.id:
        return _SERVED
    if not current.claim(mailbox.pk, case.subscription.id):
        return _WAIT_FOR_OTHERS_S
    # Served between our look and our claim? Then the claim was free because the other one is done.
    served = current.serving(Mailbox.objects.get(id=mailbox.pk))
    if served is not None and served.id != case.subscription.id:
        return _SERVED
    return None


def _failed(case: _Case, error: errors.ExchangeError) -> float | None:
    """Decide about a join that Exchange did not let through."""
    current.release(case.mailbox.pk, case.subscription.id)
    if isinstance(error, errors.GatewayRefused):
        _refused_by_gateway(case)
        return None
    if addresses.ask_again(case.subscription, case.device, error):
        return _ASK_AGAIN_S
    if isinstance(error, errors.NotThisMailbox):
        counters.count(names.PROOF_FAILURES)
    if isinstance(error, errors.CredentialsExpired):
        if case.device.state != DeviceState.JOINING:
            # It took too long to get here. The device is asked again.
            ending.end(case.subscription.id, error.code, shred_now=True)
            return None
    elif isinstance(error, errors.CredentialsRefused):
        counters.count(names.CREDENTIALS_REFUSED)
        refusals.remember(case.mailbox, case.credentials)
        # Only a password that was right before tells that it was changed. Anybody may guess one,
        # and must not be able to silence the owner's phones by it.
        if case.device.proved_at is not None:
            _password_changed(case.mailbox)
    elif error.transient or isinstance(error, _MENDED_ELSEWHERE):
        waited = clock.now() - case.subscription.created_at
        if waited < PATIENCE:
            back_off = error.back_off_s if isinstance(error, errors.ServerBusy) else 0.0
            return max(back_off, min(60.0, 2.0 + waited.total_seconds() / 4))
        if case.device.state != DeviceState.JOINING:
            # The device was fine before; this was only its daily proof.
            ending.end(case.subscription.id, error.code, shred_now=True)
            return None
    _refuse(case.subscription, case.device, error.code)
    return None


def _refused_by_gateway(case: _Case) -> None:
    """The device is silent from now on; its mailbox is looked after by the others.

    The proof is the gateway's probe: it goes out with the headers of this very device.
    """
    code = errors.GatewayRefused.default_code
    ending.end(case.subscription.id, code, shred_now=True)
    counters.count(names.JOINS, label=code)
    if not registry.refused_by_gateway(case.device.id, case.enrolment):
        return
    counters.count(names.GATEWAY_REFUSED)
    log.info("device %s refused by the gateway", case.device.id)
    wakeups.answered(case.device.id)
    # The others are asked for theirs now: with this device's credentials nothing is fetched.
    case.device.mailbox.refresh_from_db()
    ending.hand_over(case.device)


def _password_changed(mailbox: Mailbox) -> None:
    """All must prove themselves anew, and what serves them holds the old password, too.

    Else the next good proof would find the mailbox served.
    """
    wakeups.demand_proof(mailbox.pk)
    serving = Mailbox.objects.get(id=mailbox.pk).current_subscription
    if serving is not None:
        states.move(serving, SubscriptionState.SUSPECT, "credentials_refused")


def _refuse(subscription: Subscription, device: Device, code: str) -> None:
    """The join is over and the device hears why at its next check-in.

    Unless it has begun another join since, whose outcome counts.
    """
    ending.end(subscription.id, code, shred_now=True)
    if Subscription.objects.filter(id=subscription.id, reason=_JOINED_ANEW).exists():
        return
    counters.count(names.JOINS, label=code)
    registry.move(device.id, DeviceState.REFUSED, code)
    log.info("device %s refused: %s", device.id, code)


def _give_up_earlier(device: Device) -> None:
    """A new join of a device replaces the one it had under way."""
    earlier = Subscription.objects.filter(owner=device, state=SubscriptionState.PENDING)
    for subscription_id in earlier.values_list("id", flat=True):
        ending.end(subscription_id, _JOINED_ANEW, shred_now=True)
