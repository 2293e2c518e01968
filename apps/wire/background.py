"""One event loop in a daemon thread, for code that isn't asyncio (Celery tasks, commands).

It is a SelectorEventLoop on every platform: Windows' default, the proactor, can't watch the
sockets that libcurl opens.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")

# To wake another thread, and to send what it writes, costs more than what is handed over.
TOGETHER_S: Final = 0.01

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """The process-wide loop, started on first use; a forked child gets one of its own."""
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.SelectorEventLoop()
            _thread = threading.Thread(target=_loop.run_forever, name="wire", daemon=True)
            _thread.start()
        return _loop


def run(coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run a coroutine in the background loop and wait for its result, from any other thread.

    Args:
        coroutine: what to run.
        timeout: seconds to wait; then it is cancelled.

    Raises:
        TimeoutError: `timeout` passed.
        RuntimeError: called from the loop's own thread, which would wait for itself.
    """
    loop = background_loop()
    if threading.current_thread() is _thread:
        coroutine.close()
        raise RuntimeError("run() was called from the background loop itself")
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(timeout)
    finally:
        # Does nothing once there is a result; ends what a timeout or Ctrl-C left behind.
        future.cancel()


def stream(
    start: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]], timeout: float
) -> Iterator[list[T]]:
    """Run a coroutine in the background loop and yield what it hands out, as it does.

    Args:
        start: makes the coroutine, given the function by which it hands out one thing after the
            other. What is handed out within `TOGETHER_S` is yielded together.
        timeout: seconds for all of it; then it is cancelled, as when the iterator is closed.

    Raises:
        TimeoutError: `timeout` passed.
        RuntimeError: used in the loop's own thread, which would wait for itself.
    """
    loop = background_loop()
    if threading.current_thread() is _thread:
        raise RuntimeError("stream() was used in the background loop itself")
    batches: SimpleQueue[list[T] | None] = SimpleQueue()
    fresh: list[T] = []

    def hand_out(one: T) -> None:
        if not fresh:
            loop.call_later(TOGETHER_S, flush)
        fresh.append(one)

    def flush() -> None:
        if fresh:
            batches.put(fresh.copy())
            fresh.clear()

    async def work() -> None:
        try:
            await start(hand_out)
        finally:
            flush()

    ends = time.monotonic() + timeout
    future = asyncio.run_coroutine_threadsafe(work(), loop)
    future.add_done_callback(lambda _: batches.put(None))
    try:
        while (batch := batches.get(timeout=max(0.0, ends - time.monotonic()))) is not None:
            yield batch
        future.result()
    except Empty:
        raise TimeoutError from None
    finally:
        future.cancel()


def _forget() -> None:
    global _lock, _loop, _thread
    _lock, _loop, _thread = threading.Lock(), None, None


def _stop() -> None:
    """End the thread while the interpreter still stands, lest it be frozen inside libcurl."""
    if _loop is not None and _thread is not None and _thread.is_alive():
        _loop.call_soon_threadsafe(_loop.stop)
        _thread.join(2)


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
