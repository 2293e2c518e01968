"""The lab's time. Everything in the pretend Exchange that waits or dates asks this clock, so that
a test can let half an hour of retries pass in a second. The pretend phones check in by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Lab time: runs `scale` times as fast as real time.

    It was right at `origin` (Unix seconds; without it, at this moment), so that processes with
    the same scale and origin agree, among them ENS (`ENS_LAB_CLOCK_SCALE`, `_ORIGIN`).
    """

    def __init__(self, scale: float = 1.0, origin: float | None = None) -> None:
        if scale <= 0:
            raise ValueError("scale must be above zero")
        self.scale = scale
        self._started = time.monotonic()
        now = time.time()
        begun = now if origin is None else origin + (now - origin) * scale
        self._epoch = datetime.fromtimestamp(begun, UTC)

    def seconds(self) -> float:
        """Lab seconds since the clock was made; never goes back."""
        return (time.monotonic() - self._started) * self.scale

    def now(self) -> datetime:
        """Lab time, UTC."""
        return self._epoch + timedelta(seconds=self.seconds())

    async def sleep(self, seconds: float) -> None:
        """Waits for so many lab seconds."""
        await asyncio.sleep(seconds / self.scale)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Calls back after so many lab seconds, in the running loop."""
        return asyncio.get_running_loop().call_later(seconds / self.scale, callback)
