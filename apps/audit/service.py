"""Writing to the audit log, and reading what somebody may see of it.

Call `record` in the transaction that makes the change: both happen or neither.
"""

from __future__ import annotations

import getpass
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.audit.models import AuditEntry, EntryQuerySet

HIDDEN: Final = "(hidden)"
HIDDEN_CHANGED: Final = "(hidden, changed)"
_LONGEST_TEXT: Final = 2000
_MOST_MEMBERS: Final = 200
_DEEPEST: Final = 6
_PURGED_AT_ONCE: Final = 500
# What is so called is never written down, whoever forgot to declare it.
_SECRET_NAME: Final = re.compile(
    r"password|passwd|passphrase|secret|credential|private|sealed|wrapped|(^|_)(token|pin_code)$"
    r"|(^|_)(api_?key|key_?pem|master_?key|token_hash|push_token)(_|$)|otp|recovery",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that takes part in a comparison and is never shown."""

    value: Any = field(repr=False)


def record(
    *,
    actor: str,
    action: str,
    target: str,
    og_path: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    address: str = "",
) -> None:
    """Add an entry: who did what to what, and what changed by it.

    Args:
        actor: a user name, an API token's label, or `command_line()`.
        action: `<thing>.<verb>`, up to 60 characters.
        target: an id or a label; never an address or another person's name.
        og_path: the path of the organization group concerned; empty for the whole deployment.
        before, after: the members that changed, as `snapshot` and `changes` make them. Members
            whose names tell of a secret are hidden here once more, long texts are cut.
        address: from where, as an IP address; empty where it was a local command.
    """
    now = timezone.now()
    shown_before, shown_after = _shown(before, after)
    AuditEntry.objects.create(
        at=now,
        actor=_line(actor, 200) or "?",
        address=_line(address, 64),
        action=_line(action, 60),
        target=_line(target, 200),
        og_path=og_path,
        before=shown_before,
        after=shown_after,
        keep_until=now + timedelta(days=settings.ENS.audit_days),
    )


def snapshot(instance: models.Model, secret: Collection[str] = ()) -> dict[str, Any]:
    """The columns of a row, for `changes`; call it before and after a change.

    Hidden are the fields in `secret`, those in the model's own `audit_secret`, binary ones, and
    those whose names tell of a secret.
    """
    hidden = {*secret, *getattr(instance, "audit_secret", ())}
    found: dict[str, Any] = {}
    for column in instance._meta.concrete_fields:
        value = column.value_from_object(instance)
        binary = isinstance(column, models.BinaryField)
        if binary or column.name in hidden or _SECRET_NAME.search(column.name):
            found[column.name] = Secret(bytes(value) if binary and value else value)
        else:
            found[column.name] = value
    return found


def changes(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What differs between two snapshots; None on the side where there was no row."""
    if before is None or after is None:
        return before, after
    differing = [
        name
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]
    return (
        {name: before[name] for name in differing if name in before},
        {name: after[name] for name in differing if name in after},
    )


def command_line() -> str:
    """The actor of what is done by a command on the server."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such account, as in some containers
        account = "?"
    return f"command line ({account})"


def visible(og_paths: Sequence[str] | None) -> EntryQuerySet:
    """The entries of these organization groups and those below them; None: all there are.

    What concerns the whole deployment is seen only by who sees all.
    """
    rows = AuditEntry.objects.all()
    if og_paths is None:
        return rows
    # Only the topmost: everything below them begins with the same path.
    top: list[str] = []
    for path in sorted(filter(None, og_paths)):
        if not top or not path.startswith(top[-1]):
            top.append(path)
    if not top:
        return rows.none()
    wanted = Q()
    for path in top:
        wanted |= Q(og_path__startswith=path)
    return rows.filter(wanted)


def remembers(og_path: str) -> bool:
    """Whether any entry is about a group with this tree path or one below it."""
    return AuditEntry.objects.filter(og_path__startswith=og_path).exists()


def search(rows: EntryQuerySet, text: str) -> EntryQuerySet:
    """Those of the entries whose actor, address, action or target contains the text."""
    text = text.strip()[:200]
    if not text:
        return rows
    return rows.filter(
        Q(actor__icontains=text)
        | Q(action__icontains=text)
        | Q(target__icontains=text)
        | Q(address__icontains=text)
    )


def purge() -> int:
    """Delete entries whose time is over by today's setting and by that of their day."""
    now = timezone.now()
    over = AuditEntry.objects.filter(
        keep_until__lt=now, at__lt=now - timedelta(days=settings.ENS.audit_days)
    ).order_by("id")
    deleted = 0
    while ids := list(over.values_list("id", flat=True)[:_PURGED_AT_ONCE]):
        deleted += AuditEntry.objects.all().expire(ids)
    return deleted


def _shown(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Both sides as they may be written down; a secret that changed says so and no more."""
    plain_before = None if before is None else _members(before, 0)
    plain_after = None if after is None else _members(after, 0)
    if before is not None and after is not None and plain_after is not None:
        for name, value in after.items():
            hidden = plain_after.get(_line(name, 100)) == HIDDEN
            if hidden and name in before and before[name] != value:
                plain_after[_line(name, 100)] = HIDDEN_CHANGED
    return plain_before, plain_after


def _members(given: dict[str, Any], depth: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in list(given.items())[:_MOST_MEMBERS]:
        name = _line(str(name), 100)
        shown[name] = HIDDEN if _SECRET_NAME.search(name) else _plain(value, depth + 1)
    return shown


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, Secret | bytes | bytearray | memoryview):
        return HIDDEN
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return _members(value, depth) if depth < _DEEPEST else "…"
    if isinstance(value, list | tuple | set | frozenset):
        return _listed(value, depth) if depth < _DEEPEST else "…"
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else str(value)
    return _cut(str(value))


def _listed(values: Iterable[Any], depth: int) -> list[Any]:
    return [_plain(one, depth + 1) for one in list(values)[:_MOST_MEMBERS]]


def _cut(text: str) -> str:
    # Half a surrogate pair can't be stored; PostgreSQL has no NUL either.
    text = text.encode("utf-8", "replace").decode().replace("\0", "�")
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _line(text: str, longest: int) -> str:
    """One line without control and direction-override characters."""
    kept = (
        character if unicodedata.category(character) not in ("Cc", "Cs", "Cf", "Zl", "Zp") else " "
        for character in text
    )
    return "".join(kept).strip()[:longest]
