"""Our provider alone: what the relay hands a verified batch to, `batch` notifications at a time."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from apps.lab.bench_relay.contenders import lines
from apps.relay.providers import Notification
from apps.relay.providers.apns.provider import ApnsProvider, Job
from apps.relay.providers.apns.token import SigningKey


async def main() -> None:
    setup = lines.read_setup()
    provider = ApnsProvider(setup["url"], Path(setup["ca_file"]).read_text("ascii"))
    key = SigningKey(setup["key_id"], setup["team_id"], Path(setup["key_file"]).read_bytes())

    def notification(each: dict[str, Any]) -> Notification:
        return Notification(
            id=each["id"],
            app=setup["topic"],
            token=each["token"],
            push_type="alert",
            priority=10,
            expiration=int(time.time()) + 3600,
            collapse_id=each["collapse_id"],
            payload=json.dumps(each["payload"], ensure_ascii=False, separators=(",", ":")).encode(),
        )

    async def send_batch(batch: list[dict[str, Any]]) -> int:
        outcomes = await provider.send([Job(notification(each), key, False) for each in batch])
        return sum(outcome.status == "accepted" for outcome in outcomes)

    async def send(notifications: list[dict[str, Any]]) -> int:
        lanes = max(1, setup["in_flight"] // setup["batch"])
        pieces = lines.batches(notifications, setup["batch"])
        return await lines.side_by_side(pieces, lanes, send_batch)

    await lines.serve(setup, send)


if __name__ == "__main__":
    # As the relay's: on Windows the other kind of loop can't watch libcurl's sockets.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
