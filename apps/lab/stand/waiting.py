"""Waiting for what other processes do: by asking again, never by sleeping a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 0.05


class TookTooLong(Exception):
    """What was waited for did not happen in time."""


def until(what: str, happened: Callable[[], bool], seconds: float) -> None:
    """Ask `happened` until it says yes.

    Raises:
        TookTooLong: `seconds` went by; the message is `what`.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TookTooLong(f"{what}: not within {seconds:g} seconds")
        time.sleep(INTERVAL_S)
