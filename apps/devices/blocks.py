"""What is blocked: phones by what the UEM and the mail gateway call them, and by push token.

A block outlives the device's row: whoever subscribes again with one of these is refused. It holds
in one organization group and below it: two tenants may call two phones the same, and who looks
after a part of the tree changes nothing outside it.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable
from typing import Final, Literal

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from apps import clock, revocations
from apps.devices.models import Block, Device
from apps.tenants.models import OrganizationGroup
from apps.vault.lookup import lookup_hmac

Kind = Literal["uem", "eas", "push-token"]
Name = tuple[Kind, str]  # what kind of name it is, and its HMAC

_GUID: Final = re.compile(
    r"\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?"
)


def name(kind: Kind, value: str) -> Name:
    """A phone's name as the database keeps it.

    However a UEM, a gateway or the phone itself writes an id, in capitals or with the braces of a
    GUID, it is the same phone's.
    """
    return kind, lookup_hmac(kind, value if kind == "push-token" else _normal(value))


def names(kind: Kind, value: str) -> list[Name]:
    """A phone's name, and the name under which a row of an older release may have it."""
    return list(dict.fromkeys([name(kind, value), (kind, lookup_hmac(kind, value))]))


def _normal(value: str) -> str:
    plain = unicodedata.normalize("NFKC", value).strip().casefold()
    guid = _GUID.fullmatch(plain)
    return "-".join(guid.groups()) if guid else plain


def names_of(device: Device) -> list[Name]:
    """All by which a device's phone would be known again."""
    found: list[Name] = [("push-token", device.push_token_hmac)]
    if device.uem_hmac:
        found.append(("uem", device.uem_hmac))
    if device.eas_hmac:
        found.append(("eas", device.eas_hmac))
    return found


def listed(og: OrganizationGroup, names: Iterable[Name]) -> bool:
    """Whether one of the names is blocked where the group stands."""
    return of_group(og, names).exists()


def add(scope: str, names: Iterable[Name], *, reason: str, device: uuid.UUID | None = None) -> None:
    """Block these names in the organization group with the path `scope` and all below it."""
    for kind, value in names:
        try:
            with transaction.atomic():
                Block.objects.create(
                    kind=kind,
                    value_hmac=value,
                    scope=scope,
                    reason=reason,
                    device_id=device,
                    created_at=clock.now(),
                )
        except IntegrityError:
            continue  # blocked already, and its first reason stays
        revocations.note("block", kind=kind, value=value, scope=scope, reason=reason)


def lift(scope: str, names: Iterable[Name]) -> int:
    """Lift the blocks of these names that were made for `scope` or below; how many there were."""
    wanted = list(names)
    lifted = _named(Block.objects.filter(scope__startswith=scope), wanted).delete()[0]
    for kind, value in wanted if lifted else ():
        revocations.note("unblock", kind=kind, value=value, scope=scope)
    return lifted


def of_group(og: OrganizationGroup, names: Iterable[Name]) -> QuerySet[Block]:
    """The blocks of these names that hold for the group."""
    return _named(Block.objects.filter(scope__in=og.line_paths()), names)


def devices_named(scope: str, names: Iterable[Name]) -> QuerySet[Device]:
    """The devices in `scope` that one of the names means."""
    wanted = Q()
    columns = {"uem": "uem_hmac", "eas": "eas_hmac", "push-token": "push_token_hmac"}
    for kind, value in names:
        wanted |= Q(**{columns[kind]: value})
    devices = Device.objects.filter(og__path__startswith=scope)
    return devices.filter(wanted) if wanted else devices.none()


def _named(rows: QuerySet[Block], names: Iterable[Name]) -> QuerySet[Block]:
    wanted = Q()
    for kind, value in names:
        wanted |= Q(kind=kind, value_hmac=value)
    return rows.filter(wanted) if wanted else rows.none()
