"""`python -m apps.lab.live --facts <file> --port <port>`: the page with the first user's phones."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from aiohttp import web

from apps.lab.live import page
from apps.lab.live.exchange import LabMailbox
from apps.lab.live.world import World
from apps.lab.phone import Account, Apns, EnsClient, Fcm, Phone, Push
from apps.lab.stand.facts import PROJECT_ID, Facts
from apps.lab.stand.ports import HOST
from apps.lab.stand.signals import until_asked_to_stop

PHONES = ("iPhone", "Android phone")


async def serve(facts: Facts, port: int) -> None:
    """Switch the phones on and serve the page until asked to stop."""
    user = facts.users[0]
    phones: list[Phone] = []
    world = World(user.name, user.address, LabMailbox(facts.exchange_control, user.address), phones)
    first_name = user.name.partition(" ")[0]
    for model in PHONES:
        phones.append(_phone(facts, f"{first_name}'s {model}", world))
    runner = web.AppRunner(page.make(world, port), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    looking = asyncio.create_task(world.look_now_and_then())
    for phone in phones:
        phone.switch_on()
    try:
        await until_asked_to_stop()
    finally:
        looking.cancel()
        for phone in phones:
            phone.switch_off()
        await runner.cleanup()


def _phone(facts: Facts, name: str, world: World) -> Phone:
    user, is_iphone = facts.users[0], name.endswith(PHONES[0])

    def on_push(push: Push) -> None:
        world.pushed(push)

    return Phone(
        Account(user.address, user.username, user.password, facts.ews_url),
        EnsClient(facts.link_address, facts.api_token),
        Apns(facts.apns_control) if is_iphone else Fcm(facts.fcm_control, PROJECT_ID),
        app_id=facts.app_id,
        name=name,
        on_push=on_push,
        # One of each kind: what it is told comes encrypted to the one and in clear to the other.
        encrypted=is_iphone,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(Facts.load(options.facts), options.port))


if __name__ == "__main__":
    main()
