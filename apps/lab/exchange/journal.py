"""What was said, counted and kept: for tests that check it and for the live page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Direction = Literal["request", "answer", "notification", "result"]
MessageHook = Callable[[Direction, bytes], None]


class Journal:
    """Hands each message to a hook, and writes each to `record_dir` as `<number>-<direction>.xml`.

    `request` and `answer` are what passes at Exchange.asmx, `notification` what goes to a webhook
    and `result` what the webhook replied. Only a webhook's 200 replies are results.
    `lockouts` and `refused_while_locked` count by address, `per_second` calls by real Unix second.
    """

    def __init__(self, hook: MessageHook | None, record_dir: Path | None) -> None:
        self._hook = hook
        self._record_dir = record_dir
        self._number = 0
        self.calls: Counter[str] = Counter()
        self.unauthorized: Counter[str] = Counter()
        self.lockouts: Counter[str] = Counter()
        self.refused_while_locked: Counter[str] = Counter()
        self.per_second: Counter[int] = Counter()
        self.notifications: Counter[str] = Counter()
        if record_dir is not None:
            record_dir.mkdir(parents=True, exist_ok=True)

    def message(self, direction: Direction, body: bytes) -> None:
        """One SOAP message, as it stood on the wire."""
        if self._hook is not None:
            self._hook(direction, body)
        if self._record_dir is not None:
            self._number += 1
            (self._record_dir / f"{self._number:07}-{direction}.xml").write_bytes(body)
