"""A bad day at Apple's and at ours: everything is accounted for.

APNs says GOAWAY on every connection after so many streams, answers 429 and 503 in bursts and 410
for 3 % of the tokens, while the relay is killed with -9 five times. None may be lost, and of the
devices exactly those whose tokens APNs called dead may be retired.

`BAD_DAY=10000` sets the number of notifications; 2,000 without.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from apps.cns.channel import make_channel
from apps.cns.client import CnsClient, Push
from apps.cns.errors import CnsUnavailable
from apps.devices import registry
from apps.devices.models import Device, DeviceState
from apps.lab.apns import Fault
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.vault.lookup import lookup_hmac
from tests.relay.servers import ApnsThread, Relay, RelayProcess

log = logging.getLogger(__name__)

APP = "com.example.mail"
TEAM = "TEAM123456"
HOW_MANY = int(os.environ.get("BAD_DAY", "2000"))
KILLS = 5
# As the issue has it; a smaller run has as many GOAWAYs for its size.
STREAMS = 500 if HOW_MANY >= 10_000 else 100
BATCH, CALLERS = 100, 8


@dataclass
class Day:
    """The relay with its pretend APNs, and what was heard of each notification."""

    thread: ApnsThread
    relay: Relay
    process: RelayProcess
    channel: bytes
    results: dict[str, str] = field(default_factory=dict)
    dead: dict[str, datetime | None] = field(default_factory=dict)
    heard: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        return len(self.results)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    thread = ApnsThread(tmp_path)
    relay = Relay(tmp_path, thread.apns)
    key, certificate = make_channel("ours")
    (tmp_path / "ours.pem").write_bytes(certificate)
    relay.manage(
        "relay_deployment", "add", "--name", "ours", "--certificate", tmp_path / "ours.pem"
    )
    provider = thread.apns.new_key(TEAM, [APP])
    (tmp_path / "ours.p8").write_text(provider.p8)
    relay.manage(
        *("relay_push_app", "add", "--app", APP, "--key-file", tmp_path / "ours.p8"),
        *("--key-id", provider.key_id, "--team-id", TEAM, "--share", "ours"),
    )
    made = Day(thread, relay, relay.serve(relay.port), key + certificate)
    yield made
    made.process.stop()
    thread.stop()


def push_to(app: str, token: str) -> Push:
    return Push(
        id=str(uuid.uuid4()),
        app=app,
        token=token,
        push_type="alert",
        priority=10,
        expiration=int(time.time()) + 3600,
        collapse_id=uuid.uuid4().hex,
        payload={"aps": {"alert": {"title": "New mail"}}},
    )


async def send_all(day: Day, pushes: list[Push]) -> None:
    """As ENS does: in batches, several calls side by side, until each is accepted or dead."""
    waiting: asyncio.Queue[Push] = asyncio.Queue()
    for push in pushes:
        waiting.put_nowait(push)
    client = CnsClient(day.relay.audience, day.channel)
    loop = asyncio.get_running_loop()

    async def call() -> None:
        while day.done < len(pushes):
            batch = [await waiting.get()] if not waiting.empty() else []
            while len(batch) < BATCH and not waiting.empty():
                batch.append(waiting.get_nowait())
            if not batch:
                await asyncio.sleep(0.05)
                continue
            try:
                results = await client.send("apns", batch)
            except CnsUnavailable as error:
                day.heard[error.code] += len(batch)
                await asyncio.sleep(0.5)
                for push in batch:
                    waiting.put_nowait(push)
                continue
            for push, result in zip(batch, results, strict=True):
                day.heard[f"{result.status} {result.reason}".strip()] += 1
                if result.status == "retry":
                    loop.call_later(result.retry_after_s, waiting.put_nowait, push)
                    continue
                day.results[push.id] = result.status
                if result.status == "dead":
                    day.dead[push.token] = result.dead_since

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await client.close()


async def kill_now_and_then(day: Day, of: int) -> None:
    for nth in range(1, KILLS + 1):
        while day.done < of * nth // (KILLS + 1):
            await asyncio.sleep(0.02)
        day.process.kill()
        day.process = await asyncio.to_thread(day.relay.serve, day.relay.port)


def bursts(day: Day, stop: threading.Event) -> None:
    """A fifth of a second of refusals in every second, now of one kind, now of the other.

    Of the kind that has been met less: some bursts find no relay alive.
    """
    kinds = ((429, "TooManyRequests"), (503, "ServiceUnavailable"))
    apns = day.thread.apns
    while not stop.wait(0.8):
        _, reason = min(kinds, key=lambda kind: apns.answers[kind])
        apns.faults.order(Fault("refuse", seconds=0.2, reason=reason, retry_after_s=1))


def devices_with(tokens: list[str]) -> dict[str, uuid.UUID]:
    og = create_group("Example")
    mailbox = registry.mailbox_for(add_mail_system(og, "E", ["mail.example.com"]), "a@example.com")
    made = [
        Device(
            og=og,
            mailbox=mailbox,
            state=DeviceState.ACTIVE,
            platform="ios",
            app_id=APP,
            push_token_hmac=lookup_hmac("push-token", token),
            push_token_sealed=b"",
            push_token_at=timezone.now() - timedelta(days=1),
        )
        for token in tokens
    ]
    Device.objects.bulk_create(made, batch_size=100)
    return {token: device.id for token, device in zip(tokens, made, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(120 + HOW_MANY // 20)
@pytest.mark.django_db
def test_none_is_lost_and_dead_tokens_are_retired_exactly(day: Day) -> None:
    apns = day.thread.apns
    tokens = [apns.register(APP) for _ in range(HOW_MANY)]
    chosen = random.Random(7).sample(tokens, HOW_MANY * 3 // 100)
    for token in chosen:
        apns.unregister(token)
    devices = devices_with(tokens)
    # Some of those came back with the same token since APNs called it dead.
    back = set(chosen[: len(chosen) // 6])
    again = timezone.now() + timedelta(minutes=1)
    Device.objects.filter(id__in=[devices[t] for t in back]).update(push_token_at=again)
    apns.goaway_after = STREAMS
    pushes = [push_to(APP, token) for token in tokens]
    stop = threading.Event()
    threading.Thread(target=bursts, args=(day, stop), daemon=True).start()
    began = time.monotonic()

    async def run() -> None:
        async with asyncio.timeout(60 + HOW_MANY / 20):
            await asyncio.gather(send_all(day, pushes), kill_now_and_then(day, HOW_MANY))

    try:
        asyncio.run(run())
    finally:
        stop.set()
    took = time.monotonic() - began

    # Accounted for, each once, and each as the pretend APNs has it in its own record.
    assert day.results.keys() == {push.id for push in pushes}
    assert Counter(day.results.values()) == {
        "accepted": HOW_MANY - len(chosen),
        "dead": len(chosen),
    }
    arrivals = {push.token: apns.phones.arrivals(push.token) for push in pushes}
    for push in pushes:
        arrived = {each.push.collapse_id for each in arrivals[push.token]}
        assert arrived == (set() if push.token in day.dead else {push.collapse_id})
        assert len(apns.phones.screen(push.token).shown) == len(arrived)
    assert set(day.dead) == set(chosen) == apns.refused_dead
    for token, since in day.dead.items():
        assert since is not None
        assert registry.retire_dead_token(devices[token], token, since) == (token not in back)
    retired = set(Device.objects.filter(state="retired").values_list("id", flat=True))
    assert retired == {devices[token] for token in set(chosen) - back}

    # And the day was bad indeed.
    assert apns.connections_opened >= HOW_MANY // STREAMS
    assert apns.answers[429, "TooManyRequests"] > 0
    assert apns.answers[503, "ServiceUnavailable"] > 0
    repeats = sum(map(len, arrivals.values())) - (HOW_MANY - len(chosen))
    assert repeats < HOW_MANY / 4
    log.info("%d in %.1f s; %d connections", HOW_MANY, took, apns.connections_opened)
    log.info("%d repeats; heard: %s", repeats, dict(day.heard))
    log.info("APNs answered: %s", dict(apns.answers))
