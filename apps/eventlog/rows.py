"""Many rows at once, in statements that SQLite, PostgreSQL and SQL Server all take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from django.db import IntegrityError, connections, models, transaction

from apps.eventlog.models import Sign
from apps.eventlog.signs import SignOfLife

# SQL Server refuses more than 2,100 parameters in a statement; an insert here has two a row.
CHUNK = 500
# Five parameters each, and the UPDATE compares every row with every name.
_SIGNS = 200
_TRIES = 3

T = TypeVar("T", int, str)


def chunks(keys: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The distinct keys in order, in lists that fit into one statement.

    In order, so that two processes that lock the same rows do it in the same sequence.
    """
    ordered = sorted(set(keys))
    return (ordered[start : start + size] for start in range(0, len(ordered), size))


def put(
    model: type[models.Model], using: str, keys: Collection[str], column: str, value: float
) -> None:
    """Raise a column to a value in the rows with these primary keys; insert those that are missing.

    A higher value stays: what another process wrote meanwhile is newer.

    Portable, since SQL Server has neither upserts nor ON CONFLICT. Two processes may do it at
    once: who loses the race to insert looks again.
    """
    for chunk in chunks(keys):
        for tries_left in reversed(range(_TRIES)):
            try:
                with transaction.atomic(using=using):
                    _put_chunk(model, using, chunk, column, value)
                break
            except IntegrityError:
                if not tries_left:
                    raise


def _put_chunk(
    model: type[models.Model], using: str, keys: list[str], column: str, value: float
) -> None:
    rows = model._base_manager.using(using)
    # Locked in order first: the UPDATE locks as it pleases, and two of them could deadlock.
    locked = rows.select_for_update().filter(pk__in=keys).order_by("pk")
    known = set(locked.values_list("pk", flat=True))
    if known:
        rows.filter(pk__in=known, **{f"{column}__lt": value}).update(**{column: value})
    missing = [model(pk=key, **{column: value}) for key in keys if key not in known]
    if missing:
        ignore = connections[using].features.supports_ignore_conflicts
        rows.bulk_create(missing, ignore_conflicts=ignore)


def put_signs(using: str, signs: Mapping[str, SignOfLife]) -> None:
    """Store signs of life that are newer than the stored ones, in few statements.

    A sign without a mark leaves the stored mark.
    """
    for chunk in chunks(signs, _SIGNS):
        for tries_left in reversed(range(_TRIES)):
            try:
                with transaction.atomic(using=using):
                    _put_signs(using, {partition: signs[partition] for partition in chunk})
                break
            except IntegrityError:
                if not tries_left:
                    raise


def _put_signs(using: str, signs: Mapping[str, SignOfLife]) -> None:
    rows = Sign.objects.using(using)
    locked = rows.select_for_update().filter(pk__in=list(signs)).order_by("pk")
    known = dict(locked.values_list("pk", "seen_at"))
    newer = {name: sign for name, sign in signs.items() if sign.at > known.get(name, sign.at)}
    if newer:
        _update_signs(using, newer)
    missing = [Sign(pk=k, seen_at=s.at, mark=s.mark) for k, s in signs.items() if k not in known]
    if missing:
        ignore = connections[using].features.supports_ignore_conflicts
        rows.bulk_create(missing, ignore_conflicts=ignore)


def _update_signs(using: str, signs: Mapping[str, SignOfLife]) -> None:
    """One UPDATE for all; the ORM's `bulk_update` costs ten times as much to build."""
    quote = connections[using].ops.quote_name
    when = "WHEN %s THEN %s"
    marked = [(name, sign.mark) for name, sign in signs.items() if sign.mark]
    sets = [f"seen_at = CASE {quote('partition')} {' '.join([when] * len(signs))} END"]
    values: list[Any] = [x for name, sign in signs.items() for x in (name, sign.at)]
    if marked:
        whens = " ".join([when] * len(marked))
        sets.append(f"mark = CASE {quote('partition')} {whens} ELSE mark END")
        values += [x for pair in marked for x in pair]
    sql = (
        f"UPDATE {quote(Sign._meta.db_table)} SET {', '.join(sets)} "  # noqa: S608 - no value
        f"WHERE {quote('partition')} IN ({', '.join(['%s'] * len(signs))})"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [*values, *signs])


def delete_older(model: type[models.Model], using: str, column: str, before: float) -> None:
    """Delete rows whose column is at most `before`, in steps that hold no lock for long."""
    rows = model._base_manager.using(using)
    while old := list(
        rows.filter(**{f"{column}__lte": before}).values_list("pk", flat=True)[:CHUNK]
    ):
        # The condition again: a mark may have been renewed since it was listed.
        rows.filter(pk__in=old, **{f"{column}__lte": before}).delete()
