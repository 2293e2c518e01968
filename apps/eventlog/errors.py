"""One way for all of this room to meet a database that doesn't answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error, connections

from apps.eventlog.interface import LogUnavailable


@contextmanager
def unavailable_on_error(using: str) -> Iterator[None]:
    """Turn any database error into LogUnavailable and drop the connection.

    A broken connection would otherwise fail the calls after this one, too. The error's text may
    hold what was to be stored, so only its class is kept.
    """
    try:
        yield
    except Error as error:
        with suppress(Error):
            connections[using].close()
        raise LogUnavailable(type(error).__name__) from None
