"""A fleet does what docs/device-api.md asks of a phone. ENS's side is played by a small server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwe
from joserfc.jwk import RSAKey

from apps.lab.apns import LabApns
from apps.lab.apns.rules import Push as ApnsPush
from apps.lab.ca import LabCa
from apps.lab.phone import Account
from apps.lab.phone.client import ALG, ENC
from apps.lab.phone.fleet import PhoneFleet

TOPIC = "com.example.mail"
ANNA = Account("anna@example.com", "EXAMPLE\\anna", "secret", "https://ews.example/x")
SCALE = 3600.0


class Ens:
    """Answers as told: `instruction` is what a check-in is answered."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k"})
        self.calls: Counter[str] = Counter()
        self.opened: list[dict[str, Any]] = []
        self.instruction: dict[str, Any] = {"state": "active", "code": None, "do": "nothing"}
        self.refuse: tuple[int, str] | None = None
        self.checkin_seconds = 3600 * 3600

    async def handle(self, request: web.Request) -> web.Response:
        call = request.match_info["call"]
        self.calls[call] += 1
        body = await request.json()
        if "jwe" in body:
            self.opened.append(
                json.loads(
                    jwe.decrypt_compact(body["jwe"], self.key, algorithms=[ALG, ENC]).plaintext
                )
            )
        if call == "publickey":
            return web.json_response({"jwk": self.key.as_dict(private=False)})
        if call == "subscribe":
            answer = {"device_id": "d", "device_secret": "s", "poll_seconds": 0.05}
            return web.json_response(answer, status=202)
        if self.refuse is not None:
            (status, code), self.refuse = self.refuse, None
            return web.json_response({"code": code}, status=status)
        times = {"checkin_seconds": self.checkin_seconds, "poll_seconds": 0.05}
        told = dict(self.instruction)
        if told["do"] == "send_credentials":
            self.instruction["do"] = "nothing"
        return web.json_response(told | times)


class World:
    """One ENS, one APNs and a fleet; the servers run in a thread of their own."""

    def __init__(self, ca: LabCa) -> None:
        self.ens = Ens()
        self.apns = LabApns(ca)
        self.loop = asyncio.new_event_loop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{call}", self.ens.handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        await self.apns.start()

    async def stop(self) -> None:
        await self.runner.cleanup()
        await self.apns.stop()

    def fleet(self) -> PhoneFleet:
        url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return PhoneFleet(url, "token", self.apns.control_url, app_id=TOPIC, clock_scale=SCALE)

    def push(self, token: str, payload: dict[str, Any]) -> None:
        async def deliver() -> None:
            push = ApnsPush(token, TOPIC, "background", 5, 0, "", payload)
            self.apns.phones.deliver(push, "id", time.time())

        asyncio.run_coroutine_threadsafe(deliver(), self.loop).result(5)


@contextmanager
def in_thread(world: World) -> Iterator[World]:
    thread = threading.Thread(target=world.loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(world.start(), world.loop).result(10)
    try:
        yield world
    finally:
        asyncio.run_coroutine_threadsafe(world.stop(), world.loop).result(10)
        world.loop.call_soon_threadsafe(world.loop.stop)
        thread.join(5)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with in_thread(World(LabCa(tmp_path))) as world:
        yield world


@pytest.fixture
def fleet(world: World) -> Iterator[PhoneFleet]:
    fleet = world.fleet()
    fleet.start()
    yield fleet
    fleet.stop()


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, "not within 5 seconds"
        time.sleep(0.02)


def test_phones_subscribe_and_become_what_ens_says(world: World, fleet: PhoneFleet) -> None:
    phones = fleet.add([(ANNA, f"phone {number}") for number in range(20)])
    until(lambda: fleet.states() == {"active": 20})
    assert len({phone.token for phone in phones}) == 20
    told = world.ens.opened[0]
    assert (told["email"], told["push_token"]) == (ANNA.email, phones[0].token)
    assert told["credentials"] == {
        "type": "basic",
        "username": "EXAMPLE\\anna",
        "password": "secret",
    }
    assert world.ens.calls["subscribe"] == 20


def test_a_check_in_comes_by_the_faster_clock(world: World, fleet: PhoneFleet) -> None:
    world.ens.checkin_seconds = 3600
    fleet.add([(ANNA, "phone")])
    until(lambda: world.ens.calls["checkin"] >= 3)
    assert fleet.seen["nothing"] >= 2


def test_a_phone_whose_proof_is_under_way_comes_back_for_the_outcome(
    world: World, fleet: PhoneFleet
) -> None:
    world.ens.checkin_seconds = 1e6
    world.ens.instruction["do"] = "wait"
    fleet.add([(ANNA, "phone")])
    until(lambda: world.ens.calls["checkin"] >= 3)
    assert fleet.seen["wait"] >= 2


def test_a_wake_up_brings_a_check_in_with_credentials(world: World, fleet: PhoneFleet) -> None:
    (phone,) = fleet.add([(ANNA, "phone")])
    until(lambda: fleet.states() == {"active": 1})
    before = world.ens.calls["checkin"]
    world.ens.instruction["do"] = "send_credentials"
    world.push(phone.token, {"aps": {"content-available": 1}, "ens": {"v": 1, "kind": "wakeup"}})
    until(lambda: world.ens.calls["checkin"] == before + 2)
    told = world.ens.opened[-1]
    assert (told["device_id"], told["counter"], told["email"]) == ("d", 1, ANNA.email)
    assert told["credentials"]["password"] == "secret"
    assert [push.kind for push in phone.pushes] == ["wakeup"]


def test_an_announcement_brings_none(world: World, fleet: PhoneFleet) -> None:
    (phone,) = fleet.add([(ANNA, "phone")])
    until(lambda: fleet.states() == {"active": 1})
    before = world.ens.calls["checkin"]
    alert = {"aps": {"alert": {"title": "Ben"}}, "ens": {"v": 1, "kind": "announcement"}}
    world.push(phone.token, alert)
    until(lambda: len(phone.pushes) == 1)
    time.sleep(0.2)
    assert world.ens.calls["checkin"] == before


def test_an_unknown_device_subscribes_again(world: World, fleet: PhoneFleet) -> None:
    world.ens.checkin_seconds = 360
    world.ens.refuse = (401, "unknown_device")
    fleet.add([(ANNA, "phone")])
    until(lambda: world.ens.calls["subscribe"] == 2)
    until(lambda: fleet.states() == {"active": 1})
