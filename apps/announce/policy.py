"""How much may be said to whom: the organization's rules, narrowed by what the device asks for.

Applied before anything leaves ENS: what may not be said is not sent, encrypted or not.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from functools import lru_cache
from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from apps.announce.payload import DEFAULT_SOUND, Content
from apps.tenants.inherited import og_settings
from apps.vault.lookup import lookup_hmac

# From the narrowest to the widest (DESIGN.md, section 6).
LEVELS: Final = ("none", "generic", "sender", "sender_subject", "preview")
SOUND: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# For quiet hours; the first is never.
TIMES: Final = ("", *(f"{hour:02}:{half}" for hour in range(24) for half in ("00", "30")))
_VIP_LENGTH: Final = 32  # 128 bits


class VipHmac(str):
    """What `vip_hmac` makes of an address: no address can be stored in a VIP list by mistake."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.str_schema(pattern=rf"^[0-9a-f]{{{_VIP_LENGTH}}}$")


@og_settings("content", title="What notifications show")
@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """What phones of a group may be told; inherited down the tree unless overridden.

    `level` is the most that a push may say; with `require_encryption` a device that gave no
    content key hears «New mail» only. `vips_only` lets only the mail of `vips` ring, and of those
    whom the device names. In the quiet hours, from `quiet_from` to `quiet_to` (both or none) on
    `quiet_days` (ISO weekdays on which they begin), only badges change: in the device's time
    zone, or else `time_zone`. `sound` is a sound file of the app's, "none" for silence.
    `group_conversations` lets phones show the mails of a conversation together.
    """

    level: str = field(
        default="sender_subject",
        metadata={
            "choices": LEVELS,
            "choice_labels": (
                "The badge only",
                "New mail",
                "Sender",
                "Sender and subject",
                "Sender, subject and the first words",
            ),
            "narrows": True,
            "label": "At most",
            "help": "What a notification may say. A device may ask for less.",
        },
    )
    require_encryption: bool = field(
        default=False,
        metadata={
            "choices": (True, False),
            "choice_labels": ("Yes", "No"),
            "narrows": True,
            "label": "Only encrypted",
            "help": "Devices whose app can't decrypt are told of new mail and nothing else.",
        },
    )
    vips_only: bool = field(
        default=False,
        metadata={
            "choices": (True, False),
            "choice_labels": ("Yes", "No"),
            "narrows": True,
            "label": "VIPs only",
            "help": "Only mail of VIPs rings, be they the group's (ens_vips) or the user's own; "
            "other mail changes the badge.",
        },
    )
    vips: tuple[VipHmac, ...] = field(default=(), metadata={"label": "VIPs"})
    quiet_from: str = field(
        default="",
        metadata={
            "choices": TIMES,
            "choice_labels": ("never", *TIMES[1:]),
            "label": "Quiet from",
            "help": "In quiet hours only badges change.",
        },
    )
    quiet_to: str = field(
        default="",
        metadata={
            "choices": TIMES,
            "choice_labels": ("never", *TIMES[1:]),
            "label": "Quiet until",
            "help": "On the next day if this is earlier than the beginning.",
        },
    )
    quiet_days: str = field(
        default="1234567",
        metadata={
            "label": "Quiet on",
            "help": "The days on which quiet hours begin: 1 is Monday, 7 is Sunday; 12345 is the "
            "working week.",
        },
    )
    time_zone: str = field(
        default="UTC",
        metadata={
            "label": "Time zone",
            "help": "For devices that don't tell theirs: a name as Europe/Berlin.",
        },
    )
    sound: str = field(
        default=DEFAULT_SOUND,
        metadata={
            "label": "Sound",
            "help": "A sound file of the app's, default, or none. A device may choose another.",
        },
    )
    group_conversations: bool = field(
        default=True,
        metadata={
            "label": "Group by conversation",
            "help": "Phones show the mails of a conversation together.",
        },
    )


@dataclass(frozen=True, slots=True)
class Quiet:
    """Quiet hours: from `begin` to `end` in minutes after midnight, over it where `end` is first.

    `days` are ISO weekdays (1 is Monday) on which they begin. Equal ends are a whole day.
    """

    days: tuple[int, ...]
    begin: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        """Whether it is quiet on an ISO weekday at so many minutes after midnight."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        day_before = 7 if day == 1 else day - 1
        return (day in self.days and minute >= self.begin) or (
            day_before in self.days and minute < self.end
        )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a device asks for beside its content level; it can only narrow.

    `vips` are HMACs of addresses; None lets every sender ring. `sound` None is the group's.
    """

    vips: frozenset[str] | None = None
    quiet: tuple[Quiet, ...] = ()
    sound: str | None = None
    group_conversations: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is stored with the device."""
        return {
            "vips": None if self.vips is None else sorted(self.vips),
            "quiet": [[list(one.days), one.begin, one.end] for one in self.quiet],
            "sound": self.sound,
            "group": self.group_conversations,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Wishes:
        """The opposite of `to_json`; an empty object is no wishes."""
        vips = stored.get("vips")
        return cls(
            vips=None if vips is None else frozenset(vips),
            quiet=tuple(Quiet(tuple(days), *ends) for days, *ends in stored.get("quiet", ())),
            sound=stored.get("sound"),
            group_conversations=stored.get("group"),
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one device now. `vips` None: every sender may ring."""

    level: str
    vips: frozenset[str] | None
    sound: str
    group_conversations: bool


def rules(
    policy: ContentPolicy, wished_level: str, wishes: Wishes, zone: str, now: datetime
) -> Rules:
    """The narrower of what the group allows and the device wants, at the moment `now` (aware)."""
    level = min(policy.level, wished_level or policy.level, key=LEVELS.index)
    if is_quiet((*wishes.quiet, *_quiet_hours(policy)), zone or policy.time_zone, now):
        level = "none"
    vips = None
    if policy.vips_only or wishes.vips is not None:
        vips = frozenset(policy.vips) | (wishes.vips or frozenset())
    sound = policy.sound if wishes.sound is None else wishes.sound
    grouped = policy.group_conversations and wishes.group_conversations is not False
    return Rules(
        level=level,
        vips=vips,
        sound="" if sound == "none" or not SOUND.fullmatch(sound) else sound,
        group_conversations=grouped,
    )


def is_quiet(hours: Iterable[Quiet], zone: str, now: datetime) -> bool:
    """Whether any of the quiet hours hold at `now` (aware) by the clocks of a time zone."""
    windows = tuple(hours)
    if not windows:
        return False
    local = now.astimezone(_zone(zone))
    minute = local.hour * 60 + local.minute
    return any(one.holds(local.isoweekday(), minute) for one in windows)


def minutes_after_midnight(text: str) -> int:
    """Of "22:30".

    Raises:
        ValueError: no time of a day.
    """
    moment = time.fromisoformat(text)
    return moment.hour * 60 + moment.minute


def vip_hmac(address: str) -> str:
    """What stands for a sender in VIP lists: their addresses are stored nowhere."""
    return lookup_hmac("vip", address.strip().lower())[:_VIP_LENGTH]


def narrowed(content: Content | None, level: str) -> Content | None:
    """Content cut down to a level; None: only «New mail» may be said."""
    if content is None or level in ("none", "generic"):
        return None
    if level == "sender":
        return Content(sender=content.sender)
    if level == "sender_subject":
        return Content(sender=content.sender, subject=content.subject)
    return content


def _quiet_hours(policy: ContentPolicy) -> tuple[Quiet, ...]:
    if not (policy.quiet_from and policy.quiet_to):
        return ()
    days = tuple(int(day) for day in policy.quiet_days if day in "1234567")
    begin, end = map(minutes_after_midnight, (policy.quiet_from, policy.quiet_to))
    return (Quiet(days, begin, end),)


@lru_cache(maxsize=700)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    """A time zone by its IANA name; UTC for one that is unknown here."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return zoneinfo.ZoneInfo("UTC")
