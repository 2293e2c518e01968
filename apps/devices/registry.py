"""Finding, making and moving mailboxes and devices. What is personal is HMACed or sealed here."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.dispatch import Signal

from apps import clock
from apps.devices import blocks, labels
from apps.devices.models import Device, DeviceState, Mailbox
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.vault.lookup import lookup_hmac
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

_TABLE = "devices_device"
_SECRET_PREFIX = "ensd_"  # noqa: S105 - a prefix by which secret scanners know our secrets

# Sent after a device's new state is committed, with `device_id`, `to` (DeviceState) and `reason`.
device_moved = Signal()

# What may follow what; a move that is not listed here does nothing.
MOVES: dict[DeviceState, frozenset[DeviceState]] = {
    DeviceState.JOINING: frozenset(
        {DeviceState.ACTIVE, DeviceState.REFUSED, DeviceState.RETIRED, DeviceState.BLOCKED}
    ),
    DeviceState.ACTIVE: frozenset(
        {
            DeviceState.ACTIVE,
            DeviceState.ASLEEP,
            DeviceState.REFUSED,
            DeviceState.RETIRED,
            DeviceState.BLOCKED,
        }
    ),
    DeviceState.ASLEEP: frozenset(
        {DeviceState.ACTIVE, DeviceState.REFUSED, DeviceState.RETIRED, DeviceState.BLOCKED}
    ),
    DeviceState.REFUSED: frozenset({DeviceState.JOINING, DeviceState.BLOCKED}),
    DeviceState.RETIRED: frozenset({DeviceState.JOINING, DeviceState.BLOCKED}),
    DeviceState.BLOCKED: frozenset(),
}
# From a block by the gateway, which holds only as long as the gateway says so. It keeps token and
# secret, for the device is to be tried again; a proof leads back to ACTIVE.
_FROM_GATEWAY = frozenset({DeviceState.REFUSED, DeviceState.RETIRED, DeviceState.BLOCKED})
_BY_GATEWAY = Q(state=DeviceState.BLOCKED, gateway_refused_at__isnull=False)
GATEWAY = "gateway"

_MAY_PROVE = (DeviceState.JOINING, DeviceState.ACTIVE, DeviceState.ASLEEP)
MAY_PROVE = Q(state__in=_MAY_PROVE) | _BY_GATEWAY


@dataclass(frozen=True, slots=True)
class Description:
    """What a device says of itself when it subscribes, checked by the API."""

    platform: str
    app_id: str
    push_token: str = field(repr=False)
    ews_url: str
    content_key: dict[str, str] | None = None
    content_wish: str = ""
    wishes: dict[str, Any] = field(default_factory=dict, repr=False)
    accounts: tuple[str, ...] | None = field(default=None, repr=False)
    time_zone: str = ""
    uem_id: str = field(default="", repr=False)
    eas_id: str = field(default="", repr=False)
    model_name: str = ""
    os_version: str = ""
    app_version: str = ""
    user_name: str = field(default="", repr=False)
    device_name: str = field(default="", repr=False)


def user_id(address: str) -> str:
    """SHA-256 of the lower-cased SMTP address, in hex: what others call the user."""
    return hashlib.sha256(address.strip().lower().encode()).hexdigest()


def user_hmac(address: str) -> str:
    """What the database calls the user: an HMAC of `user_id` under the lookup key."""
    return lookup_hmac("user", user_id(address))


def mailbox_for(mail_system: MailSystem, address: str) -> Mailbox:
    """The mailbox of an address, made when it is new; two makers at once get the same row."""
    key = user_hmac(address)
    found = Mailbox.objects.filter(mail_system=mail_system, user_hmac=key).first()
    if found:
        return found
    try:
        with transaction.atomic():
            return Mailbox.objects.create(mail_system=mail_system, user_hmac=key)
    except IntegrityError:
        return Mailbox.objects.get(mail_system=mail_system, user_hmac=key)


def enrol(og: OrganizationGroup, mailbox: Mailbox, said: Description) -> tuple[Device, str] | None:
    """Make a device, or take over the row of the same app, push token and mailbox.

    Returns the device and its new secret, which is told once and kept only as a hash; None when
    that row, or what the phone is called, is blocked (blocks.py). The old secret stops working: a
    reinstalled app replaces itself.
    """
    secret = _SECRET_PREFIX + secrets.token_urlsafe(32)
    token_hmac = lookup_hmac("push-token", said.push_token)
    device = (
        Device.objects.select_for_update()
        .filter(mailbox=mailbox, app_id=said.app_id, push_token_hmac=token_hmac)
        .first()
    )
    if device is not None and device.state == DeviceState.BLOCKED and not held_by_gateway(device):
        return None
    if blocks.listed(og, _names(said)):
        return None
    if device is None:
        device = Device(id=uuid.uuid4(), mailbox=mailbox, push_token_hmac=token_hmac)
    now = clock.now()
    device.og = og
    device.state, device.reason, device.state_at = DeviceState.JOINING, "", now
    device.platform, device.app_id, device.ews_url = said.platform, said.app_id, said.ews_url
    device.push_token_sealed = _sealed_token(device.id, said.push_token)
    device.push_token_at = now
    device.secret_hash = _hash(secret)
    device.proved_at, device.counter, device.last_checkin_at = None, 0, now
    device.silent_since = device.led_away_at = device.gateway_refused_at = None
    device.content_key = json.dumps(said.content_key) if said.content_key else ""
    device.content_wish, device.wishes = said.content_wish, said.wishes
    device.time_zone = said.time_zone
    device.accounts = _account_hmacs(mailbox, said.accounts)
    device.uem_hmac = blocks.name("uem", said.uem_id)[1] if said.uem_id else ""
    device.eas_hmac = blocks.name("eas", said.eas_id)[1] if said.eas_id else ""
    device.ids_sealed = _sealed_ids(device.id, said)
    device.model_name, device.os_version = said.model_name, said.os_version
    device.app_version = said.app_version
    labels.set_label(device, og, said.user_name, said.device_name)
    device.save()
    _tell(device.id, DeviceState.JOINING, "")
    return device, secret


def _names(said: Description) -> list[blocks.Name]:
    names = [blocks.name("push-token", said.push_token)]
    if said.uem_id:
        names += blocks.names("uem", said.uem_id)
    if said.eas_id:
        names += blocks.names("eas", said.eas_id)
    return names


def authenticate(device_id: uuid.UUID, secret: str) -> Device | None:
    """The device with this id and secret; None without saying which of the two was wrong."""
    device = (
        Device.objects.select_related("mailbox__mail_system", "og").filter(id=device_id).first()
    )
    known = device.secret_hash if device else _hash("")
    right = hmac.compare_digest(known, _hash(secret))
    return device if right else None


def move(device_id: uuid.UUID, to: DeviceState, reason: str = "") -> bool:
    """Change a device's state if that move is allowed; False when it was not."""
    may = Q(state__in=[state for state, targets in MOVES.items() if to in targets])
    if to in _FROM_GATEWAY:
        may |= _BY_GATEWAY
    moved = bool(
        Device.objects.filter(may, id=device_id).update(
            state=to, reason=reason, state_at=clock.now(), gateway_refused_at=None
        )
    )
    if moved:
        _tell(device_id, to, reason)
    return moved


def proved(device_id: uuid.UUID, enrolment: str | None = None) -> bool:
    """Record that this device's own credentials proved its mailbox just now.

    `enrolment` is the `secret_hash` that the device had when it sent them. With another one since,
    the row belongs to somebody who has proved nothing; False then, and also where content was led
    away since (`lead_away`).
    """
    device = Device.objects.select_related("og").filter(id=device_id).first()
    # A block and a subscribe that met may each have missed the other; nobody joins past both.
    if device is None or _bar(device, blocks.names_of(device)):
        return False
    rows = Device.objects.filter(MAY_PROVE, id=device_id, led_away_at=None)
    if enrolment is not None:
        rows = rows.filter(secret_hash=enrolment)
    now, to = clock.now(), DeviceState.ACTIVE
    moved = bool(
        rows.update(state=to, reason="", state_at=now, proved_at=now, gateway_refused_at=None)
    )
    if moved:
        _tell(device_id, DeviceState.ACTIVE, "proved")
    return moved


def may_prove(device: Device) -> bool:
    """Whether a proof of its credentials would make the device active."""
    return device.state in _MAY_PROVE or held_by_gateway(device)


def held_by_gateway(device: Device) -> bool:
    """Whether it is the gateway, and nobody else, that blocks the device."""
    return device.state == DeviceState.BLOCKED and device.gateway_refused_at is not None


def refused_by_gateway(device_id: uuid.UUID, enrolment: str) -> bool:
    """The gateway does not let the device through: it is told nothing until it does.

    What it would have been told meanwhile is looked for then. False when that changes nothing: it
    was so before, an administrator blocks it, or it has enrolled anew (see `proved`).
    """
    now = clock.now()
    with transaction.atomic():
        rows = Device.objects.filter(id=device_id, secret_hash=enrolment)
        told = rows.filter(state=DeviceState.ACTIVE, silent_since=None).exclude(proved_at=None)
        told.update(silent_since=now)
        rows.filter(_BY_GATEWAY).update(gateway_refused_at=now)
        blocked = rows.filter(state__in=_MAY_PROVE).update(
            state=DeviceState.BLOCKED,
            reason=GATEWAY,
            state_at=now,
            gateway_refused_at=now,
            proved_at=None,
        )
        if blocked:
            _tell(device_id, DeviceState.BLOCKED, GATEWAY)
    return bool(blocked)


def identity(device: Device) -> tuple[tuple[str, str], ...]:
    """What a gateway may know the device by, as (name, value); nothing that it did not tell."""
    known = {
        **_ids(device),
        "model": device.model_name,
        "os_version": device.os_version,
        "app_version": device.app_version,
        "platform": device.platform,
        "app_id": device.app_id,
    }
    return tuple((name, value) for name, value in known.items() if value)


def _sealed_ids(device_id: uuid.UUID, said: Description) -> bytes | None:
    if not (said.eas_id or said.uem_id):
        return None
    plain = json.dumps({"eas_id": said.eas_id, "uem_id": said.uem_id}).encode()
    return wrap(plain, table=_TABLE, row=str(device_id), purpose="ids")


def _ids(device: Device) -> dict[str, str]:
    if device.ids_sealed is None:
        return {}
    sealed = bytes(device.ids_sealed)
    try:
        found: dict[str, str] = json.loads(
            unwrap(sealed, table=_TABLE, row=str(device.id), purpose="ids")
        )
    except UnwrapFailed:
        return {}
    return found


def _bar(device: Device, names: list[blocks.Name]) -> bool:
    """Block a device whose phone is blocked by one of these names."""
    if not blocks.listed(device.og, names):
        return False
    move(device.id, DeviceState.BLOCKED, "listed")
    disarm(device.id)
    return True


def unblock(device_id: uuid.UUID) -> bool:
    """Let a blocked device subscribe again; its token and secret are gone, so it must.

    One that the gateway blocks stays as it is: only the gateway can let it through.
    Not a move of MOVES: no dead push token and no missed check-in may ever lead out of a block.
    """
    rows = Device.objects.filter(
        id=device_id, state=DeviceState.BLOCKED, gateway_refused_at__isnull=True
    )
    to, reason = DeviceState.RETIRED, "unblocked"
    freed = bool(rows.update(state=to, reason=reason, state_at=clock.now()))
    if freed:
        _tell(device_id, to, reason)
    return freed


def handed_on(device_id: uuid.UUID) -> list[Device]:
    """The devices that a newly proved one has replaced on its phone; each is named once.

    They have its app and push token, joined before it, and serve a mailbox that is not among the
    accounts which the app named. Only the tree of its organization is looked at.
    """
    device = Device.objects.select_related("og").filter(id=device_id).first()
    if device is None or device.accounts is None:
        return []
    Device.objects.filter(id=device_id).update(accounts=None)
    return list(
        Device.objects.select_related("mailbox")
        .filter(
            MAY_PROVE,
            app_id=device.app_id,
            push_token_hmac=device.push_token_hmac,
            push_token_at__lt=device.push_token_at,
            og__path__startswith=device.og.line_paths()[0],
        )
        .exclude(id=device.id)
        .exclude(mailbox__user_hmac__in=device.accounts)
    )


def active_among(device_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the devices that may still be pushed to."""
    rows = Device.objects.filter(id__in=device_ids, state=DeviceState.ACTIVE)
    return set(rows.values_list("id", flat=True))


def demand_proof(mailbox_id: int) -> None:
    """After a refusal at Exchange: every device of the mailbox must prove itself anew.

    Until it has, it is told nothing; `silent_since` says what it must be told then.
    """
    devices = Device.objects.filter(mailbox_id=mailbox_id)
    told = devices.filter(state=DeviceState.ACTIVE, silent_since=None).exclude(proved_at=None)
    told.update(silent_since=clock.now())
    devices.update(proved_at=None)


def caught_up(device_id: uuid.UUID, silent_since: datetime) -> None:
    """Note that what a device missed since then is being looked for."""
    Device.objects.filter(id=device_id, silent_since=silent_since).update(silent_since=None)


def push_token(device: Device) -> str:
    """The device's push token in clear, for the call to the relay.

    Raises:
        UnwrapFailed: the row was altered or moved.
    """
    return unwrap(
        bytes(device.push_token_sealed), table=_TABLE, row=str(device.id), purpose="push-token"
    ).decode()


def replace_push_token(device: Device, token: str) -> bool:
    """Take a device's push token; whether it is a new one.

    APNs hands out new ones after a restore or reinstall.
    """
    token_hmac = lookup_hmac("push-token", token)
    if token_hmac == device.push_token_hmac:
        return False
    if _bar(device, [("push-token", token_hmac)]):
        return False  # a blocked phone that called itself something else
    with transaction.atomic():
        # Another row of this mailbox with that token is the same phone before a reinstall.
        Device.objects.filter(
            mailbox_id=device.mailbox_id, app_id=device.app_id, push_token_hmac=token_hmac
        ).exclude(state=DeviceState.BLOCKED, gateway_refused_at__isnull=True).delete()
        Device.objects.filter(id=device.id).update(
            push_token_hmac=token_hmac,
            push_token_sealed=_sealed_token(device.id, token),
            push_token_at=clock.now(),
        )
    return True


def raise_counter(device: Device, counter: int) -> bool:
    """Take the counter of a check-in's JWE; False when it is not above every earlier one."""
    return bool(Device.objects.filter(id=device.id, counter__lt=counter).update(counter=counter))


def replace_content_key(device: Device, content_key: dict[str, str]) -> bool:
    """Take a device's P-256 public key (a JWK) for what only it may read; whether it is new."""
    brought = json.dumps(content_key)
    if brought == device.content_key:
        return False
    Device.objects.filter(id=device.id).update(content_key=brought)
    return True


def lead_away(device: Device, lasts: timedelta) -> None:
    """Content was to go elsewhere, by the secret alone: no content until a proof comes with it.

    Proofs are good for `lasts`; the last one is over.
    """
    now = clock.now()
    Device.objects.filter(id=device.id, proved_at__gt=now - lasts).update(proved_at=now - lasts)
    Device.objects.filter(id=device.id).update(led_away_at=now)


def lead_home(device: Device) -> None:
    """Token and key have come together with credentials: the coming proof is good for them."""
    Device.objects.filter(id=device.id).update(led_away_at=None)


def forget_content_key(device: Device) -> None:
    """The device has none of its own: what stands in the row was somebody else's."""
    Device.objects.filter(id=device.id).update(content_key="")


def replace_wishes(device: Device, content_wish: str, wishes: dict[str, Any]) -> None:
    """Take what a device asks for from now on; all of it, not only what has changed."""
    Device.objects.filter(id=device.id).update(content_wish=content_wish, wishes=wishes)


def replace_time_zone(device: Device, time_zone: str) -> None:
    """Take the time zone that the phone is in now: an IANA name."""
    Device.objects.filter(id=device.id).update(time_zone=time_zone)


def retire_dead_token(device_id: uuid.UUID, token: str, dead_since: datetime | None) -> bool:
    """Retire a device whose push token the push service calls dead.

    A token that was handed to us after `dead_since` is alive again and stays, and so does a
    device that has had another token since.
    """
    rows = Device.objects.filter(id=device_id, push_token_hmac=lookup_hmac("push-token", token))
    if dead_since is not None:
        rows = rows.filter(push_token_at__lte=dead_since)
    if not rows.exists():
        return False
    return move(device_id, DeviceState.RETIRED, "push_token_dead")


def disarm(device_id: uuid.UUID) -> None:
    """Drop a device's push token, secret and content key: nothing can be sent or asked any more."""
    Device.objects.filter(id=device_id).update(
        push_token_sealed=b"",
        secret_hash="",
        content_key="",
        ids_sealed=None,
        proved_at=None,
        label_kind="",
        label_sealed=None,
    )


def _account_hmacs(mailbox: Mailbox, user_ids: Collection[str] | None) -> list[str] | None:
    if user_ids is None:
        return None
    return sorted({mailbox.user_hmac, *(lookup_hmac("user", each) for each in user_ids)})


def _tell(device_id: uuid.UUID, to: DeviceState, reason: str) -> None:
    """Send `device_moved` once the move is committed; no receiver can make it fail."""
    transaction.on_commit(
        lambda: device_moved.send_robust(Device, device_id=device_id, to=to, reason=reason),
        robust=True,
    )


def _sealed_token(device_id: uuid.UUID, token: str) -> bytes:
    return wrap(token.encode(), table=_TABLE, row=str(device_id), purpose="push-token")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
