"""Where a mailbox' EWS are, when no phone and no administrator has said so.

A worker asks Autodiscover, keeps what it found with the subscription, and with the device once a
proof went well there. What the device was proved at is tried first the next time; Autodiscover is
asked again when the mailbox is no longer there, or nobody has answered for minutes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from apps import clock
from apps.devices.models import Device
from apps.exchange import errors
from apps.exchange.interface import Reach
from apps.subscriptions.models import Subscription
from apps.subscriptions.way import endpoint_of
from apps.tenants import mail_systems
from apps.tenants.models import MailSystem

# How long a server that was found once may be away before it is asked whether it has moved.
PATIENCE: Final = timedelta(minutes=2)
# What tells that the mailbox, or Exchange, is no longer where it was.
_GONE: Final = (
    errors.AddressForbidden,
    errors.MailboxNotFound,
    errors.NotEws,
    errors.VersionRefused,
)
_AWAY: Final = (errors.TlsRefused, errors.Unreachable)


def reach_of(system: MailSystem) -> Reach:
    """What Autodiscover needs to know of a mail system."""

    def permit(url: str) -> str | None:
        return mail_systems.permitted(system, url)

    return Reach(
        name=f"mail-system-{system.pk}",
        endpoint=endpoint_of(system, ""),
        permit=permit,
    )


def first_choice(device: Device) -> str:
    """Where a device's next join begins: its own address, else where it was proved last."""
    return device.ews_url or device.discovered_ews_url


def found(subscription: Subscription, device: Device, ews_url: str) -> None:
    """Keep what Autodiscover found for a join that is under way.

    Where that is what the device was proved at before, it is news all the same: a server that is
    away would else be asked for over and over. With the next proof the device has it again.
    """
    if device.discovered_ews_url == ews_url:
        _forget(device)
    _go_by(subscription, ews_url)


def proved(subscription: Subscription, device: Device) -> None:
    """A proof went well there: the device's next join may begin with it."""
    if not device.ews_url and device.discovered_ews_url != subscription.ews_url:
        Device.objects.filter(id=device.pk).update(discovered_ews_url=subscription.ews_url)


def is_remembered(subscription: Subscription, device: Device) -> bool:
    """Whether a join's address was found for an earlier one, and not asked for since."""
    known = device.discovered_ews_url
    return not device.ews_url and bool(known) and known == subscription.ews_url


def ask_again(
    subscription: Subscription, device: Device, error: errors.ExchangeError | None
) -> bool:
    """Whether Autodiscover is to be asked anew after an error, or None: the host is not listed.

    True only where the address was remembered, and it is forgotten then. A server that is merely
    away stays with the device: Autodiscover may be away with it.
    """
    system = subscription.mailbox.mail_system
    if not (system.autodiscover and is_remembered(subscription, device)):
        return False
    if error is None or isinstance(error, _GONE):
        _forget(device)
    elif not (isinstance(error, _AWAY) and clock.now() - subscription.created_at > PATIENCE):
        return False
    _go_by(subscription, "")
    return True


def _go_by(subscription: Subscription, ews_url: str) -> None:
    subscription.ews_url = ews_url
    Subscription.objects.filter(id=subscription.pk).update(ews_url=ews_url)


def _forget(device: Device) -> None:
    device.discovered_ews_url = ""
    Device.objects.filter(id=device.pk).update(discovered_ews_url="")
