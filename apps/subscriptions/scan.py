"""Finds the subscriptions that Exchange has forgotten without a word, and the phones that are gone.

Silence for twice StatusFrequency means lost. But when we were away ourselves, silence says nothing:
Exchange calls again after up to 16 minutes, so everyone is given the time anew.
"""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta
from typing import Final

from django.db.models import F, Q

from apps import clock
from apps.devices import registry
from apps.devices.models import Device, DeviceState
from apps.eventlog.factory import get_log
from apps.subscriptions import ending, states, wakeups
from apps.subscriptions.models import Scan, Subscription, SubscriptionState
from apps.subscriptions.settings import SubscriptionSettings
from apps.subscriptions.webhook_url import id_of, name_of
from apps.tenants.inherited import settings_for
from apps.tenants.models import OrganizationGroup

log = logging.getLogger(__name__)

_PAGE: Final = 500
# Without a scan for this long, web or workers were away (or the clock was changed).
_AWAY: Final = timedelta(minutes=15)
_LIVE: Final = [SubscriptionState.PENDING, SubscriptionState.ACTIVE]
# A wake-up for the daily proof is sent when the check-in that should have brought it is overdue.
_PROOF_OVERDUE: Final = timedelta(hours=1)


def silent_subscriptions() -> int:
    """Declare lost what has been silent for twice its StatusFrequency; returns how many."""
    now = clock.now()
    since = _here_since(now)
    _revive()
    shortest = Subscription.objects.filter(state__in=_LIVE).order_by("status_frequency_minutes")
    frequency = shortest.values_list("status_frequency_minutes", flat=True).first()
    if frequency is None:
        return 0
    lost, after = 0, ""
    event_log = get_log()
    while True:
        names = event_log.silent(now - timedelta(minutes=2 * frequency), _PAGE, after)
        if not names:
            return lost
        after = names[-1]
        lost += _judge(names, now, since)


def _judge(names: list[str], now: datetime, since: datetime) -> int:
    event_log = get_log()
    rows = Subscription.objects.in_bulk([id_of(name) for name in names])
    signs = event_log.last_signs(names)
    over: list[str] = []
    lost: dict[uuid.UUID, datetime | None] = {}
    for name in names:
        row = rows.get(id_of(name))
        if row is None or row.state not in _LIVE:
            over.append(name)
            continue
        patience = 2 * timedelta(minutes=row.status_frequency_minutes)
        last = signs.get(name, row.created_at)
        if now - max(last, since, row.created_at) > patience:
            lost[row.id] = last
            over.append(name)
    moved = states.move_many(lost, SubscriptionState.LOST, "silent")
    event_log.forget(over)
    return moved


def missed_checkins() -> None:
    """Put to sleep who has missed too many check-ins; retire who has for long."""
    now = clock.now()
    for og in OrganizationGroup.objects.all():
        chosen = settings_for(og, SubscriptionSettings)
        seen_before = Q(last_checkin_at__lt=now - timedelta(hours=chosen.asleep_hours))
        quiet = Device.objects.filter(seen_before, og=og, state=DeviceState.ACTIVE)
        for device in quiet.select_related("mailbox")[:_PAGE]:
            if registry.move(device.id, DeviceState.ASLEEP, "missed_checkins"):
                ending.hand_over(device)
        gone_before = Q(last_checkin_at__lt=now - timedelta(days=chosen.retire_days))
        held = Q(state=DeviceState.BLOCKED, gateway_refused_at__isnull=False)
        waiting = Q(state__in=[DeviceState.ASLEEP, DeviceState.JOINING])
        gone = Device.objects.filter(gone_before, held | waiting, og=og)
        for device in gone.select_related("mailbox")[:_PAGE]:
            ending.retire(device, "missed_checkins")


def overdue_proofs() -> None:
    """Wake the phones whose proof runs out although they should have brought a new one."""
    now = clock.now()
    for og in OrganizationGroup.objects.all():
        lasts = timedelta(hours=settings_for(og, SubscriptionSettings).proof_hours)
        overdue = Device.objects.filter(
            og=og,
            state=DeviceState.ACTIVE,
            wakeup=None,
            proved_at__lt=now - lasts + min(_PROOF_OVERDUE, lasts / 8),
        )
        wakeups.ask(overdue.values_list("id", flat=True)[:_PAGE], "proof_overdue")


def expiring_credentials() -> None:
    """Wake the phones whose tokens or certificates must be renewed before they check in anyway."""
    now = clock.now()
    expiring = Subscription.objects.filter(
        credentials_renew_at__lte=now,
        state=SubscriptionState.ACTIVE,
        mailbox__current_subscription=F("id"),
        owner__state=DeviceState.ACTIVE,
        owner__wakeup=None,
    )
    wakeups.ask(expiring.values_list("owner_id", flat=True)[:_PAGE], "credentials_expiring")


def _here_since(now: datetime) -> datetime:
    """Since when we have been listening without a longer gap."""
    row, _ = Scan.objects.get_or_create(pk=1, defaults={"here_since": now, "last_at": now})
    if now - row.last_at > _AWAY or row.last_at > now + _AWAY:
        log.warning("nobody listened since %s: silence before that says nothing", row.last_at)
        row.here_since = now
    row.last_at = now
    row.save()
    return row.here_since


def _revive() -> None:
    """What was declared lost and has called since is alive: it was only late."""
    event_log = get_log()
    lost = Subscription.objects.filter(state=SubscriptionState.LOST, reason="silent")
    rows = lost.order_by("id").values_list("id", "state_at")
    page = list(rows[:_PAGE])
    while page:
        since = {name_of(subscription_id): state_at for subscription_id, state_at in page}
        signs = event_log.last_signs(list(since))
        called: dict[uuid.UUID, datetime | None] = {
            id_of(name): None for name, at in signs.items() if at > since[name]
        }
        states.move_many(called, SubscriptionState.ACTIVE, "exchange_called")
        page = list(rows.filter(id__gt=page[-1][0])[:_PAGE])
