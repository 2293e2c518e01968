"""Re-wrapping: everything that a former master key wrapped, under the current one; no more changes.

Every column that holds wrapped bytes is named here, with the place that is authenticated with them
(a test compares with all models). Which key wrapped a value stands in it: so a run that was killed
is simply begun again, and one that finds nothing has nothing to do.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from django.apps import apps
from django.db import models, transaction

from apps.vault.master import master_keys
from apps.vault.wrapping import UnwrapFailed, key_id_of, unwrap, wrap

Row = dict[str, Any]
_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Column:
    """A column of wrapped values. `table`, `row` and `purpose` as in `vault.wrapping`.

    `read` finds the blob in the column's value, `written` puts another in its place; for those
    that aren't bytes.
    """

    label: str
    name: str
    row: Callable[[Row], str]
    purpose: str | Callable[[Row], str]
    facts: tuple[str, ...] = ()
    read: Callable[[Any], bytes] = bytes
    written: Callable[[Any, bytes], Any] = field(default=lambda _before, blob: blob)


@dataclass(slots=True)
class Found:
    """What a run saw: values by master key id after it, how many it wrapped anew, what is broken.

    `broken`: the column and row of values that open under no key of the file.
    """

    by_key: dict[str, int] = field(default_factory=dict)
    wrapped: int = 0
    broken: list[str] = field(default_factory=list)


def _texts(name: str) -> dict[str, Any]:
    """Within a JSON object, as base64."""
    return {
        "read": lambda value: b64decode(value[name]) if name in value else b"",
        "written": lambda value, blob: {**value, name: b64encode(blob).decode("ascii")},
    }


_BASE64: Final[dict[str, Any]] = {
    "read": b64decode,
    "written": lambda _before, blob: b64encode(blob).decode("ascii"),
}
_SECOND_FACTOR: Final = ("mfa.Authenticator", "data", lambda _row: "", "second factor")


def _by(*names: str) -> tuple[Callable[[Row], str], tuple[str, ...]]:
    return lambda row: ":".join(str(row[name]) for name in names), names


def _column(label: str, name: str, purpose: Any, *row: str) -> Column:
    place, facts = _by(*(row or ("pk",)))
    return Column(label, name, place, purpose, facts)


COLUMNS: Final = (
    _column("vault.VaultKey", "wrapped", lambda row: row["kind"], "kind", "number"),
    _column("relay.PushApp", "sealed_key", "provider_key", "platform", "app"),
    _column("tenants.MailSystem", "sealed_proxy_login", "proxy-login"),
    _column("keypairs.KeyPair", "wrapped_private", "private", "kid"),
    _column("keypairs.SigningKey", "wrapped_private", "private", "kid"),
    _column("keypairs.SealedCredential", "wrapped_key", "sealing"),
    _column("devices.Device", "push_token_sealed", "push-token"),
    _column("devices.Device", "ids_sealed", "ids"),
    _column("devices.Device", "label_sealed", "label"),
    _column("cns.SecureChannelKey", "sealed_key", "secure-channel-key", "thumbprint"),
    _column("cns.Site", "sealed_proxy_login", "proxy-login"),
    Column("sessions.Session", "session_data", lambda _row: "", "session", **_BASE64),
    Column(*_SECOND_FACTOR, **_texts("secret")),
    Column(*_SECOND_FACTOR, **_texts("seed")),
)
# Bytes that no master key wraps.
NOT_WRAPPED: Final = {
    "keypairs.SealedCredential.ciphertext": "sealed under a key that the webhook URL carries",
    "eventlog.LogEntry.payload": "credentials in it are sealed under their own keys",
    "history.Story.packed": "nothing secret",
}


def rewrap() -> Found:
    """Wrap anew, in small transactions, whatever another than the current master key wrapped.

    A value that somebody else changes meanwhile is theirs: it is only replaced if it is as read.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    found = Found()
    for column in columns():
        for page in _pages(column):
            with transaction.atomic():
                for row in page:
                    _one(column, row, found)
    return found


def count() -> Found:
    """How many values each master key has wrapped, changing nothing.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    found = Found()
    for column in columns():
        for page in _pages(column):
            for row in page:
                if blob := _blob(column, row):
                    _add(found, key_id_of(blob))
    return found


def columns() -> list[Column]:
    """Those of the tables that this installation has."""
    installed = {config.label for config in apps.get_app_configs()}
    return [column for column in COLUMNS if column.label.partition(".")[0] in installed]


def _one(column: Column, row: Row, found: Found) -> None:
    blob = _blob(column, row)
    if not blob:
        return
    current = master_keys().current_id
    key_id = key_id_of(blob)
    if key_id == current:
        _add(found, current)
        return
    model = apps.get_model(column.label)
    purpose = column.purpose if isinstance(column.purpose, str) else column.purpose(row)
    place = {"table": model._meta.db_table, "row": column.row(row), "purpose": purpose}
    try:
        fresh = wrap(unwrap(blob, **place), **place)
    except UnwrapFailed:
        found.broken.append(f"{column.label}.{column.name} of {row['pk']}")
        _add(found, key_id)
        return
    if _replace(model, column, row, fresh):
        found.wrapped += 1
    _add(found, current)


def _replace(model: type[models.Model], column: Column, row: Row, fresh: bytes) -> bool:
    before = row[column.name]
    rows = model._default_manager.filter(pk=row["pk"])
    if isinstance(before, dict):
        # Databases compare JSON each in its own way.
        now = rows.select_for_update().values_list(column.name, flat=True).first()
        rows = rows if now == before else rows.none()
    else:
        rows = rows.filter(**{column.name: before})
    return bool(rows.update(**{column.name: column.written(before, fresh)}))


def _blob(column: Column, row: Row) -> bytes:
    """The wrapped bytes; empty where there are none (no login, a device that was disarmed)."""
    value = row[column.name]
    if not value:
        return b""
    try:
        return column.read(value)
    except (ValueError, TypeError):
        return b""


def _add(found: Found, key_id: str) -> None:
    found.by_key[key_id] = found.by_key.get(key_id, 0) + 1


def _pages(column: Column) -> Iterator[list[Row]]:
    rows = apps.get_model(column.label)._default_manager.order_by("pk")
    wanted = {"pk", column.name, *column.facts}
    after = None
    while True:
        following = rows if after is None else rows.filter(pk__gt=after)
        page = list(following.values(*sorted(wanted))[:_AT_ONCE])
        if not page:
            return
        yield page
        after = page[-1]["pk"]
