"""How a process of the lab learns that it shall stop, on any platform."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGBREAK"):
    # Windows: what the supervisor sends in the place of SIGTERM.
    SIGNALS.append(signal.SIGBREAK)


class Stopped(BaseException):
    """Ctrl-C or a request to stop; as with KeyboardInterrupt, no `except Exception` eats it."""


def raise_on_stop() -> None:
    """From now on the first request to stop raises Stopped in the main thread.

    Further ones are ignored, so that the tidying up can't be interrupted half-way.
    """

    def stop(_number: int, _frame: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in SIGNALS:
        signal.signal(number, stop)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore requests to stop meanwhile: for tidying up, which must not end half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def until_asked_to_stop() -> None:
    """Return when Ctrl-C was pressed or the supervisor asked. For the main thread's loop."""
    asked = threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: asked.set())
    # Polled, because loop.add_signal_handler doesn't exist on Windows, where a waiting loop does
    # not even notice a signal.
    while not asked.is_set():
        await asyncio.sleep(0.1)
