"""Our provider alone: what the relay hands a verified batch to, `batch` notifications at a time."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from apps.lab.bench_relay.contenders import lines
from apps.lab.bench_relay.contenders.sealing import sealer
from apps.relay.providers import Notification, OpenApp, Outcome
from apps.relay.providers.apns.credentials import pack_key
from apps.relay.providers.apns.provider import ApnsProvider
from apps.relay.providers.apns.token import SigningKey


async def main() -> None:
    setup = lines.read_setup()
    provider = ApnsProvider(setup["url"], Path(setup["ca_file"]).read_text("ascii"))
    key = SigningKey(setup["key_id"], setup["team_id"], Path(setup["key_file"]).read_bytes())
    app = OpenApp(1, setup["topic"], False, pack_key(key), "bench")

    # Sealing is part of what is measured: without the relay it would be the same process.
    payload = sealer() if setup.get("sealed") else (lambda each: each["payload"])

    def notification(each: dict[str, Any]) -> Notification:
        return Notification(
            id=each["id"],
            app=setup["topic"],
            token=each["token"],
            push_type="alert",
            priority=10,
            expiration=int(time.time()) + 3600,
            collapse_id=each["collapse_id"],
            payload=json.dumps(payload(each), ensure_ascii=False, separators=(",", ":")).encode(),
        )

    async def send_batch(batch: list[dict[str, Any]]) -> int:
        accepted = 0

        def done(_sent: Notification, outcome: Outcome) -> None:
            nonlocal accepted
            accepted += outcome.status == "accepted"

        await provider.send(app, [notification(each) for each in batch], done)
        return accepted

    async def send(notifications: list[dict[str, Any]]) -> int:
        lanes = max(1, setup["in_flight"] // setup["batch"])
        pieces = lines.batches(notifications, setup["batch"])
        return await lines.side_by_side(pieces, lanes, send_batch)

    await lines.serve(setup, send)


if __name__ == "__main__":
    # As the relay's: on Windows the other kind of loop can't watch libcurl's sockets.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
