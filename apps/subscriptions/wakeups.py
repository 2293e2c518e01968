"""Wake-ups: silent pushes that ask a phone to check in now, because only it has credentials.

Apple delivers two or three of them an hour at best, and none to an app that its user has killed. So
they are few and spread: a device gets them at growing intervals, then one visible «Mail needs to
reconnect»; and a mail system's phones are woken at a limited rate, because an Exchange restart
loses all subscriptions at once and every phone that wakes up brings a join.

https://developer.apple.com/documentation/usernotifications/pushing-background-updates-to-your-app
"""

from __future__ import annotations

import logging
import secrets
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from apps import clock
from apps.cns.answer import Result
from apps.cns.client import CnsClient, Push, Service
from apps.cns.errors import CnsRefused, CnsUnavailable
from apps.devices import registry
from apps.devices.models import PUSH_SERVICES, Device, DeviceState
from apps.history import counters, names, stories
from apps.subscriptions import checkin, wake_rate
from apps.subscriptions.models import WakeUp
from apps.wire import background

log = logging.getLogger(__name__)

# When the next silent push is due after the first, the second, …; the last goes on for ever.
_INTERVALS: Final = (timedelta(minutes=25), timedelta(hours=1), timedelta(hours=6))
_VISIBLE_AFTER: Final = 3
# Why a phone is woken that hears nothing until it has proved itself: its user must soon know.
REFUSED: Final = "credentials_refused"
_VISIBLE_AFTER_REFUSAL: Final = 1
_SPREAD_S: Final = 20
_MOST_AT_ONCE: Final = 500
# A second's share goes out in so many parts.
_PARTS: Final = 4
_ROWS_A_STATEMENT: Final = 400  # five parameters each: SQL Server takes 2,100 in all
_AGAIN: Final = timedelta(minutes=1)
_SILENT_LIVES_S: Final = 3600
_VISIBLE_LIVES_S: Final = 24 * 3600

_RECONNECT: Final = "Mail needs to reconnect"

SILENT: Final[dict[Service, dict[str, Any]]] = {
    "apns": {"aps": {"content-available": 1}, "ens": {"v": 1, "kind": "wakeup"}},
    "fcm": {"data": {"v": "1", "kind": "wakeup"}},
}
VISIBLE: Final[dict[Service, dict[str, Any]]] = {
    "apns": {
        "aps": {"alert": {"title": _RECONNECT}, "sound": "default"},
        "ens": {"v": 1, "kind": "reconnect"},
    },
    "fcm": {"data": {"v": "1", "kind": "reconnect", "title": _RECONNECT, "sound": "default"}},
}


def wake_mailboxes(subscription_ids: Collection[uuid.UUID], reason: str) -> None:
    """Ask for the phones of mailboxes whose current subscriptions these are.

    Those that are not current serve nobody. Two queries for up to some hundred subscriptions.
    """
    ask(
        Device.objects.filter(
            mailbox__current_subscription__in=subscription_ids, state=DeviceState.ACTIVE
        ).values_list("id", flat=True),
        reason,
    )


def demand_proof(mailbox_id: int) -> None:
    """After a refusal at Exchange: every phone is silent until its own proof, and asked for it."""
    awake = Device.objects.filter(mailbox_id=mailbox_id, state=DeviceState.ACTIVE)
    registry.demand_proof(mailbox_id)
    ask(awake.values_list("id", flat=True), REFUSED)


def ask(device_ids: Iterable[uuid.UUID], reason: str) -> None:
    """Let devices be woken soon, save those that are being woken already."""
    fresh = list(device_ids)
    for first in range(0, len(fresh), _ROWS_A_STATEMENT):
        _ask(fresh[first : first + _ROWS_A_STATEMENT], reason)


def _ask(device_ids: Sequence[uuid.UUID], reason: str) -> None:
    asked = set(WakeUp.objects.filter(device_id__in=device_ids).values_list("device_id", flat=True))
    rows = [_row(device_id, reason) for device_id in device_ids if device_id not in asked]
    try:
        with transaction.atomic():
            WakeUp.objects.bulk_create(rows)
    except IntegrityError:
        # Another process has asked for one of them just now, or one is gone: each by itself.
        for row in rows:
            with suppress(IntegrityError), transaction.atomic():
                row.save(force_insert=True)


def _row(device_id: uuid.UUID, reason: str) -> WakeUp:
    # Jitter: what was lost together is not asked for together.
    soon = clock.now() + timedelta(seconds=secrets.randbelow(_SPREAD_S * 1000) / 1000)
    return WakeUp(device_id=device_id, reason=reason, asked_at=clock.now(), due_at=soon)


def answered(device_id: uuid.UUID) -> None:
    """The device has checked in and has nothing to bring any more."""
    WakeUp.objects.filter(device_id=device_id).delete()


def send_due(client: CnsClient, a_second: int, seconds: float = 10.0) -> int:
    """Send what is due for `seconds`, or until nothing is; returns how many were sent.

    Of a mail system at most `a_second` in any second, spread over it. A wake-up that was overtaken
    by events (another phone has repaired the mailbox) is dropped.
    """
    total, ends = 0, time.monotonic() + seconds
    while True:
        begun = time.monotonic()
        due = WakeUp.objects.filter(due_at__lte=clock.now())
        systems = list(due.values_list("device__mailbox__mail_system_id", flat=True).distinct())
        chosen = [wakeup for system in systems for wakeup in _allowed(due, system, a_second)]
        pages = range(0, len(chosen), _MOST_AT_ONCE)
        total += sum(_send(client, chosen[first : first + _MOST_AT_ONCE]) for first in pages)
        now = time.monotonic()
        if not systems or now >= ends:
            return total
        time.sleep(max(0.0, begun + wake_rate.WINDOW_S / _PARTS - now))


def _allowed(due: QuerySet[WakeUp], system: int, a_second: int) -> list[WakeUp]:
    """Those of a mail system that are sent now: a part of a second's share."""
    chosen = _choose(due, system, -(-a_second // _PARTS))
    return chosen[: wake_rate.take(system, len(chosen), a_second)] if chosen else []


def _choose(due: QuerySet[WakeUp], system: int, allowance: int) -> list[WakeUp]:
    """Those of a mail system that are sent now: of thousands that wait, no more are read."""
    chosen: list[WakeUp] = []
    rows = due.filter(device__mailbox__mail_system_id=system).order_by("due_at")
    for wakeup in rows.select_related("device__mailbox", "device__og")[: 2 * allowance]:
        task = checkin.task_of(wakeup.device)
        if task == "wait":
            # Its proof is under way: that takes the wake-up away, or leaves it.
            later = clock.now() + _AGAIN
            WakeUp.objects.filter(device_id=wakeup.device_id).update(due_at=later)
        elif task != "send_credentials":
            wakeup.delete()
        elif len(chosen) < allowance:
            chosen.append(wakeup)
        else:
            break
    return chosen


def _send(client: CnsClient, chosen: Sequence[WakeUp]) -> int:
    """Send them, a call for each push service.

    What a call sends is looked at just before it: the call before may have taken so long that a
    phone was blocked meanwhile.
    """
    by_service: dict[Service, list[WakeUp]] = {}
    for wakeup in chosen:
        by_service.setdefault(PUSH_SERVICES[wakeup.device.platform], []).append(wakeup)
    sent = 0
    for service, wakeups in by_service.items():
        pushes = [pair for wakeup in wakeups if (pair := _noted(wakeup, service))]
        if pushes:
            _call(client, service, pushes)
        sent += len(pushes)
    return sent


def _noted(wakeup: WakeUp, service: Service) -> tuple[WakeUp, Push] | None:
    """A wake-up's push, with its next time noted before it is sent.

    A crash between loses one, and none rings twice. None: another worker sends it, the phone has
    just answered, or it is blocked.
    """
    patience = _VISIBLE_AFTER_REFUSAL if wakeup.reason == REFUSED else _VISIBLE_AFTER
    visible = wakeup.sent >= patience and wakeup.visible_at is None
    interval = _INTERVALS[min(wakeup.sent, len(_INTERVALS) - 1)]
    as_read = WakeUp.objects.filter(
        device_id=wakeup.device_id, sent=wakeup.sent, due_at=wakeup.due_at
    )
    if not as_read.update(
        sent=F("sent") + 1,
        due_at=clock.now() + interval,
        **({"visible_at": clock.now()} if visible else {}),
    ):
        return None
    return wakeup, _push(wakeup.device, service, visible=visible)


def _call(client: CnsClient, service: Service, pushes: Sequence[tuple[WakeUp, Push]]) -> None:
    try:
        results = background.run(client.send(service, [push for _, push in pushes]))
    except (CnsUnavailable, CnsRefused) as error:
        log.warning("%d wake-ups wait: %s", len(pushes), error.code)
        again = clock.now() + _AGAIN
        WakeUp.objects.filter(device_id__in=[wakeup.device_id for wakeup, _ in pushes]).update(
            due_at=again, sent=F("sent") - 1
        )
        return
    for (wakeup, push), result in zip(pushes, results, strict=True):
        _settle(wakeup, push, result)


def _settle(wakeup: WakeUp, push: Push, result: Result) -> None:
    counters.count(names.WAKE_UPS, label=result.status)
    kind = "wake_up" if push.push_type == "background" else "reconnect_push"
    stories.record(
        wakeup.device_id, kind, why=wakeup.reason, result=result.status, reason=result.reason
    )
    if result.status == "dead":
        registry.retire_dead_token(wakeup.device_id, push.token, result.dead_since)
        wakeup.delete()
    elif result.status == "retry":
        again = timedelta(seconds=max(result.retry_after_s, _AGAIN.total_seconds()))
        WakeUp.objects.filter(device_id=wakeup.device_id).update(due_at=clock.now() + again)
    elif result.status == "failed":
        log.error("a wake-up of device %s failed: %s", wakeup.device_id, result.reason)


def _push(device: Device, service: Service, *, visible: bool) -> Push:
    lives = _VISIBLE_LIVES_S if visible else _SILENT_LIVES_S
    return Push(
        id=str(uuid.uuid4()),
        app=device.app_id,
        token=registry.push_token(device),
        push_type="alert" if visible else "background",
        priority=10 if visible else 5,
        expiration=int(time.time()) + lives,
        collapse_id="reconnect" if visible else "wakeup",
        payload=(VISIBLE if visible else SILENT)[service],
    )
