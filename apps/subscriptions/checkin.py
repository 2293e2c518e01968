"""What a device is told when it checks in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from apps import clock
from apps.devices import registry
from apps.devices.models import Device, DeviceState
from apps.subscriptions import current
from apps.subscriptions.models import Subscription, SubscriptionState, WakeUp
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants.inherited import settings_for

Do = Literal["nothing", "wait", "send_credentials", "subscribe"]

# A new proof is asked for this long before the old one runs out, so that content never pauses.
_AHEAD = timedelta(hours=4)
# The part of an interval after which a device that the gateway refused is to knock again.
_REST = 0.9
# While joining: at first often, for most joins take a second; then ever more seldom, for when all
# phones of a site join at once they wait for each other, and must not also keep us from it.
POLL_SECONDS = 1
_POLL_AT_MOST_S = 30
# While a device that was let in proves itself anew nobody looks at the screen.
_POLL_PROOF_S = 10


@dataclass(frozen=True, slots=True)
class Instruction:
    """A check-in's answer: the state with its reason, what to do, and when to come back."""

    state: str
    code: str
    do: Do
    checkin_seconds: int
    poll_seconds: int


def instruct(device: Device) -> Instruction:
    """Record a sign of life of the device and say what it has to do next."""
    Device.objects.filter(id=device.id).update(last_checkin_at=clock.now())
    chosen = settings_for(device.og, SubscriptionSettings)
    do = _task(device, chosen)
    if do == "nothing":
        WakeUp.objects.filter(device_id=device.id).delete()
    return Instruction(
        state=device.state,
        code=device.reason,
        do=do,
        checkin_seconds=chosen.checkin_seconds,
        poll_seconds=_poll_seconds(device),
    )


def _knock(device: Device, refused_at: datetime, chosen: SubscriptionSettings) -> Do:
    """Once a check-in interval is often enough for a gateway that has just said no.

    One that never told its ids, for nobody wanted them then, tells them when it subscribes.
    """
    if clock.now() <= refused_at + _REST * timedelta(seconds=chosen.checkin_seconds):
        return "nothing"
    return "send_credentials" if device.ids_sealed else "subscribe"


def _poll_seconds(device: Device) -> int:
    if device.state != DeviceState.JOINING:
        return _POLL_PROOF_S
    waited = (clock.now() - device.state_at).total_seconds()
    return max(POLL_SECONDS, min(_POLL_AT_MOST_S, int(waited / 4)))


def task_of(device: Device) -> Do:
    """What a device has to do now, whoever asks."""
    return _task(device, settings_for(device.og, SubscriptionSettings))


def _task(device: Device, chosen: SubscriptionSettings) -> Do:
    proof_lasts = timedelta(hours=chosen.proof_hours)
    if not chosen.enabled or (
        device.state == DeviceState.BLOCKED and not registry.held_by_gateway(device)
    ):
        return "nothing"
    if device.state in (DeviceState.REFUSED, DeviceState.RETIRED):
        return "subscribe"
    if Subscription.objects.filter(owner=device, state=SubscriptionState.PENDING).exists():
        return "wait"
    if device.gateway_refused_at is not None:
        return _knock(device, device.gateway_refused_at, chosen)
    if device.state != DeviceState.ACTIVE or device.proved_at is None:
        return "send_credentials"
    ahead = min(_AHEAD, proof_lasts / 4)
    if device.proved_at < clock.now() - proof_lasts + ahead:
        return "send_credentials"
    if current.serving(device.mailbox) is None:
        return "send_credentials"
    return "nothing"
