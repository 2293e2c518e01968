"""How a contender written in Python talks with the bench."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from apps.lab.bench_relay import workload

Send = Callable[[list[dict[str, Any]]], Awaitable[int]]


def read_setup() -> dict[str, Any]:
    """The first line: addresses, files, sizes."""
    found: dict[str, Any] = json.loads(sys.stdin.readline())
    return found


async def serve(
    setup: dict[str, Any],
    send: Send,
    payload: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> None:
    """Send what is asked for, until nothing more is; `send` returns how many were accepted.

    With `payload` each notification gets another one beforehand, which isn't measured.
    """
    notifications = workload.read(Path(setup["workload"]))[: setup["pushes"]]
    if payload is not None:
        for each in notifications:
            each["payload"] = payload(each)
    # What the bench needs must not make every collection of the contender's own garbage longer.
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        start, count = map(int, line.split())
        began = time.perf_counter()
        accepted = await send(notifications[start : start + count])
        seconds = time.perf_counter() - began
        print(json.dumps({"accepted": accepted, "seconds": seconds}), flush=True)


async def side_by_side(pieces: list[Any], lanes: int, do: Callable[[Any], Awaitable[int]]) -> int:
    """Do all pieces, `lanes` at a time; the sum of what they return."""
    waiting = iter(pieces)

    async def lane() -> int:
        return sum([await do(piece) for piece in waiting])

    return sum(await asyncio.gather(*(lane() for _ in range(lanes))))


def batches(notifications: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    """The notifications in lists of `size`; the last may be shorter."""
    return [notifications[at : at + size] for at in range(0, len(notifications), size)]
