"""Runs the Lua scripts beside this module: each is one step of the log, all or nothing.

A script is sent by its digest and in full only where the server doesn't know it: after a restart,
or a fail-over to a replica that never ran it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from redis.exceptions import NoScriptError

_FOLDER: Final = Path(__file__).with_name("lua")
Value = str | bytes | int | float


class Script:
    """One script, with `common.lua` in front."""

    def __init__(self, name: str) -> None:
        self._text = "\n".join(
            (_FOLDER / f"{part}.lua").read_text("utf-8") for part in ("common", name)
        )
        # What Redis calls a script by; nothing is protected with it.
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, prefix: str, *values: Value) -> Any:
        """Run it; raises any of redis-py's errors."""
        try:
            return client.execute_command("EVALSHA", self._digest, 1, prefix, *values)
        except NoScriptError:
            return client.execute_command("EVAL", self._text, 1, prefix, *values)

    def run_and_wait(
        self, client: Any, replicas: int, wait_ms: int, prefix: str, *values: Value
    ) -> tuple[Any, int]:
        """Run it, then wait for replicas, in one round trip; returns how many have it, too."""
        try:
            return self._pipe(client, ("EVALSHA", self._digest), replicas, wait_ms, prefix, values)
        except NoScriptError:
            return self._pipe(client, ("EVAL", self._text), replicas, wait_ms, prefix, values)

    @staticmethod
    def _pipe(
        client: Any,
        how: tuple[str, str],
        replicas: int,
        wait_ms: int,
        prefix: str,
        values: tuple[Value, ...],
    ) -> tuple[Any, int]:
        with client.pipeline(transaction=False) as pipe:
            pipe.execute_command(*how, 1, prefix, *values)
            pipe.execute_command("WAIT", replicas, wait_ms)
            result, reached = pipe.execute()
        return result, int(reached)
