"""Whoever calls the relay: signs batches as ENS does and counts what the relay says of each.

It is not what is measured; the relay's own processes are.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from apps.cns.client import CnsClient, Push
from apps.lab.bench_relay.contenders import lines
from apps.lab.bench_relay.contenders.sealing import sealer


async def main() -> None:
    setup = lines.read_setup()
    client = CnsClient(setup["relay_url"], Path(setup["channel_file"]).read_bytes())

    def push(each: dict[str, Any]) -> Push:
        return Push(
            id=each["id"],
            app=setup["topic"],
            token=each["token"],
            push_type="alert",
            priority=10,
            expiration=int(time.time()) + 3600,
            collapse_id=each["collapse_id"],
            payload=each["payload"],
            request_id="bench",
        )

    async def call(batch: list[dict[str, Any]]) -> int:
        results = await client.send("apns", [push(each) for each in batch])
        return sum(result.status == "accepted" for result in results)

    async def send(notifications: list[dict[str, Any]]) -> int:
        pieces = lines.batches(notifications, setup["batch"])
        return await lines.side_by_side(pieces, setup["calls"], call)

    seal = sealer() if setup.get("sealed") else None
    await lines.serve(setup, send, seal)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
