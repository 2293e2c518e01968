from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.wire import background
from apps.wire.background import background_loop, run

ROOT = Path(__file__).parents[2]


async def where() -> tuple[str, asyncio.AbstractEventLoop]:
    return threading.current_thread().name, asyncio.get_running_loop()


def test_one_loop_for_all_threads() -> None:
    name, loop = run(where())
    assert name == "wire"
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert loop is background_loop()
    others: list[asyncio.AbstractEventLoop] = []
    threads = [threading.Thread(target=lambda: others.append(run(where())[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert others == [loop] * 8


def test_exceptions_come_back() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run(fail())


def test_a_timeout_cancels() -> None:
    ended = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        run(slow(), timeout=0.05)
    assert ended.wait(2)


def test_not_from_the_loop_itself() -> None:
    async def inner() -> None:
        run(where())

    with pytest.raises(RuntimeError):
        run(inner())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_its_own_loop_and_processes_end() -> None:
    code = (
        "import os\n"
        "from apps.wire.background import run\n"
        "async def one(): return 1\n"
        "run(one())\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(run(one(), 5) + 6)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=20, check=True
    )
    assert done.stdout.strip() == b"7"


def test_a_stream_yields_what_is_handed_out_while_the_rest_is_under_way() -> None:
    go_on = threading.Event()

    async def work(hand_out: Callable[[int], None]) -> None:
        hand_out(1)
        hand_out(2)
        await asyncio.to_thread(go_on.wait, 5)
        hand_out(3)

    batches = background.stream(work, 10)
    assert next(batches) == [1, 2]
    go_on.set()
    assert list(batches) == [[3]]


def test_a_stream_ends_with_what_went_wrong() -> None:
    async def work(hand_out: Callable[[int], None]) -> None:
        hand_out(1)
        raise ValueError("wrong")

    batches = background.stream(work, 10)
    assert next(batches) == [1]
    with pytest.raises(ValueError, match="wrong"):
        next(batches)


@pytest.mark.parametrize("how", ["timeout", "close"])
def test_a_stream_nobody_waits_for_any_longer_is_cancelled(how: str) -> None:
    ended = threading.Event()

    async def work(hand_out: Callable[[int], None]) -> None:
        hand_out(1)
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    batches = background.stream(work, 0.2)
    assert next(batches) == [1]
    if how == "close":
        batches.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(TimeoutError):
            next(batches)
    assert ended.wait(5)


def test_a_stream_in_the_loop_itself_is_refused() -> None:
    async def work(_hand_out: Callable[[int], None]) -> None:
        await asyncio.sleep(0)

    async def inside() -> list[list[int]]:
        return list(background.stream(work, 1))

    with pytest.raises(RuntimeError):
        background.run(inside(), timeout=5)
