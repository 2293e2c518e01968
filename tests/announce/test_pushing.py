"""Each push gets its own result, as soon as the relay has said it, whatever becomes of the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import uuid4

import pytest

from apps.announce.pushing import Pusher
from apps.cns.answer import Result
from apps.cns.client import Push
from apps.cns.errors import CnsRefused, CnsUnavailable


class Relay:
    """Answers the first push of a call at once; then does `ending`."""

    def __init__(self, ending: Exception | None = None) -> None:
        self.calls: list[list[str]] = []
        self.go_on = asyncio.Event()
        self._ending = ending

    async def send(
        self, _platform: str, pushes: Sequence[Push], on_result: Callable[[Result], None]
    ) -> None:
        self.calls.append([push.id for push in pushes])
        on_result(Result(pushes[0].id, "accepted"))
        await self.go_on.wait()
        if self._ending is not None:
            raise self._ending
        for push in pushes[1:]:
            on_result(Result(push.id, "accepted"))


def push() -> Push:
    return Push(str(uuid4()), "com.example.mail", "ab" * 32, "alert", 10, 0, "item", {"aps": {}})


@pytest.mark.parametrize(
    ("ending", "status", "reason", "again"),
    [
        (None, "accepted", "", 0.0),
        (CnsUnavailable("connect_failed", 3.0), "retry", "connect_failed", 3.0),
        (CnsRefused("certificate_revoked"), "retry", "certificate_revoked", 60.0),
    ],
)
async def test_who_was_answered_does_not_wait_for_the_others(
    ending: Exception | None, status: str, reason: str, again: float
) -> None:
    relay = Relay(ending)
    pusher = Pusher(relay)  # type: ignore[arg-type]
    first, *others = [asyncio.create_task(pusher.push(push())) for _ in range(3)]
    assert (await asyncio.wait_for(first, 5)).status == "accepted"
    assert not any(task.done() for task in others)
    relay.go_on.set()
    for result in await asyncio.gather(*others):
        assert (result.status, result.reason, result.retry_after_s) == (status, reason, again)
    assert [len(ids) for ids in relay.calls] == [3]


async def test_a_push_that_nobody_waits_for_any_longer_disturbs_no_other() -> None:
    relay = Relay()
    pusher = Pusher(relay)  # type: ignore[arg-type]
    given_up, other = [asyncio.create_task(pusher.push(push())) for _ in range(2)]
    await asyncio.sleep(0)
    given_up.cancel()
    relay.go_on.set()
    assert (await asyncio.wait_for(other, 5)).status == "accepted"
