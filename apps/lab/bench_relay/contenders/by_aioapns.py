"""aioapns, used as its page shows: one call a notification, `in_flight` of them at a time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol

from apps.lab.bench_relay.contenders import lines


async def main() -> None:
    setup = lines.read_setup()
    logging.getLogger("aioapns").setLevel(logging.ERROR)
    # It knows Apple's addresses only.
    address = urlsplit(setup["url"])
    APNsProductionClientProtocol.APNS_SERVER = address.hostname or ""
    APNsProductionClientProtocol.APNS_PORT = address.port or 443
    client = APNs(
        key=Path(setup["key_file"]).read_text("ascii"),
        key_id=setup["key_id"],
        team_id=setup["team_id"],
        topic=setup["topic"],
        max_connections=1,
        ssl_context=ssl.create_default_context(cafile=setup["ca_file"]),
    )

    async def send_one(each: dict[str, Any]) -> int:
        answer = await client.send_notification(
            NotificationRequest(
                device_token=each["token"],
                message=each["payload"],
                notification_id=each["id"],
                time_to_live=3600,
                priority=10,
                collapse_key=each["collapse_id"],
                push_type=PushType.ALERT,
            )
        )
        return int(answer.is_successful)

    async def send(notifications: list[dict[str, Any]]) -> int:
        return await lines.side_by_side(notifications, setup["in_flight"], send_one)

    await lines.serve(setup, send)


if __name__ == "__main__":
    asyncio.run(main())
