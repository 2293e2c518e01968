"""Many rows at once, in statements that SQLite, PostgreSQL and SQL Server all take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from django.db import IntegrityError, connections, models, transaction

# SQL Server refuses more than 2,100 parameters in a statement; an insert here has two a row.
CHUNK = 500
_TRIES = 3

T = TypeVar("T", int, str)


def chunks(keys: Iterable[T]) -> Iterator[list[T]]:
    """The distinct keys in order, in lists that fit into one statement.

    In order, so that two processes that lock the same rows do it in the same sequence.
    """
    ordered = sorted(set(keys))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


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


def delete_older(model: type[models.Model], using: str, column: str, before: float) -> None:
    """Delete rows whose column is at most `before`, in steps that hold no lock for long."""
    rows = model._base_manager.using(using)
    while old := list(
        rows.filter(**{f"{column}__lte": before}).values_list("pk", flat=True)[:CHUNK]
    ):
        # The condition again: a mark may have been renewed since it was listed.
        rows.filter(pk__in=old, **{f"{column}__lte": before}).delete()
