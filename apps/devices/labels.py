"""What people call a phone in the console: off, its own name, or its user's; sealed, by group.

A name is personal data, so it is kept only where the group has asked for it, wrapped like every
secret, and cleared within a minute where the group no longer does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from apps.devices.models import Device
from apps.tenants.inherited import og_settings, settings_for
from apps.tenants.models import OrganizationGroup
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

Kind = Literal["off", "device_name", "user_name"]
_TABLE: Final = "devices_device"
_PURPOSE: Final = "label"
_LONGEST: Final = 100


@og_settings("people", title="People")
@dataclass(frozen=True, slots=True)
class PeopleSettings:
    """`display_label`: by what name a device is shown; the part of the address before the @, the
    name the phone gave itself, or none."""

    display_label: Kind = field(
        default="off",
        metadata={
            "choices": ("off", "device_name", "user_name"),
            "choice_labels": ("None", "The phone's name", "The user's name"),
            "narrows": True,
            "label": "Name of a device in the console",
            "help": "Kept sealed, and only if it is asked for here. It is there from the next "
            "time a phone subscribes.",
        },
    )


def set_label(device: Device, og: OrganizationGroup, user_name: str, device_name: str) -> None:
    """Give a device, unsaved, the label that its group asks for."""
    kind = settings_for(og, PeopleSettings).display_label
    text = {"user_name": user_name, "device_name": device_name}.get(kind, "")[:_LONGEST]
    device.label_kind = kind if text else ""
    device.label_sealed = (
        wrap(text.encode(), table=_TABLE, row=str(device.id), purpose=_PURPOSE) if text else None
    )


def label_of(device: Device) -> str:
    """A device's label; empty where there is none, or it doesn't open."""
    if not device.label_sealed:
        return ""
    try:
        sealed = bytes(device.label_sealed)
        return unwrap(sealed, table=_TABLE, row=str(device.id), purpose=_PURPOSE).decode()
    except UnwrapFailed:
        return ""


def clear_unwanted() -> None:
    """Clear the labels that their groups don't ask for any more; repeatable at any time."""
    labelled = Device.objects.exclude(label_kind="")
    for og in OrganizationGroup.objects.filter(pk__in=labelled.values("og").distinct()):
        wanted = settings_for(og, PeopleSettings).display_label
        labelled.filter(og=og).exclude(label_kind=wanted).update(label_kind="", label_sealed=None)
