"""The bench of the relay: its own parts, and a short run that must be complete, not fast."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from apps.lab.bench_relay.contestants import CONTENDERS
from apps.lab.bench_relay.header_block import BlockMalformed, Blocks
from apps.lab.bench_relay.outcome import Outcome, Run
from apps.lab.bench_relay.processes import Spoken
from apps.wire.client import Client, Request, Response, Tls

NAMES = st.sampled_from(["apns-topic", "apns-priority", "authorization", ":path", "host"])
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-./", min_size=0, max_size=200)
LISTS = st.lists(st.tuples(NAMES, WORDS), max_size=8)
IDS = st.sampled_from(["", "one", "two", "8a1f0b9e-7d55-4d0a-9b0e-0b6f5f0f2d11"])


@given(st.lists(st.tuples(LISTS, IDS, LISTS, st.booleans()), max_size=40))
def test_the_id_is_found_in_whatever_a_sender_has_packed(
    sent: list[tuple[list[tuple[str, str]], str, list[tuple[str, str]], bool]],
) -> None:
    encoder, blocks = Encoder(), Blocks()
    for before, identity, after, huffman in sent:
        own = [("apns-id", identity)] if identity else []
        found = blocks.apns_id(encoder.encode([*before, *own, *after], huffman=huffman))
        answer = Decoder().decode(b"\x00\x07apns-id" + found) if found else []
        assert [value for _, value in answer] == ([identity] if identity else [])


@pytest.mark.parametrize("block", [b"\xff", b"\xc0", b"\x40\x07apns", b"\x44\x7f\xff"])
def test_a_broken_block_is_refused(block: bytes) -> None:
    with pytest.raises(BlockMalformed):
        Blocks().apns_id(block)


@pytest.fixture
def apns(tmp_path: Path) -> Iterator[Spoken]:
    words = ["-m", "apps.lab.bench_relay.apns", "--directory", str(tmp_path)]
    with Spoken([sys.executable, *words], tmp_path / "apns.log") as process:
        yield process


async def test_the_server_answers_as_apns_and_sees_what_is_missing(
    apns: Spoken, tmp_path: Path
) -> None:
    url = f"https://127.0.0.1:{apns.hear()}/3/device/{'ab' * 32}"
    tls = Tls(ca_pem=(tmp_path / "ca.pem").read_text("ascii"))
    headers = (
        ("authorization", "bearer a.b.c"),
        ("apns-id", "8a1f0b9e-7d55-4d0a-9b0e-0b6f5f0f2d11"),
        ("apns-topic", "com.example.mail"),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
    )
    client = Client(max_host_connections=1)

    async def push(given: tuple[tuple[str, str], ...], body: bytes) -> Response:
        return await client.perform(Request("POST", url, given, body, http2=True, tls=tls))

    try:
        good = await push(headers, b'{"aps":{}}')
        assert (good.status, good.body) == (200, b"")
        assert good.headers["apns-id"] == headers[1][1]
        await push(headers, b'{"aps":{}}')
        await push(headers, b"x" * 40_000)
        assert (await push(headers[:2], b"{}")).status == 400
    finally:
        await client.close()
    counted = apns.ask("")
    assert counted == {"answered": 3, "refused": 1, "different": 3, "connections": 1}


def test_medians_and_goals() -> None:
    runs = {
        "provider": [Run(1000, 0.1, each, 0.01) for each in (0.030, 0.028, 0.090)],
        "node_apn": [Run(1000, 0.2, 0.040, 0.01)],
        "aioapns": [Run(1000, 0.5, 0.200, 0.01)],
        "relay": [Run(1000, 0.2, 0.050, 0.01)],
    }
    outcome = Outcome({name: name for name in runs}, runs)
    told = outcome.as_json()["provider"]
    assert (told["cpu_us"], told["cpu_us_range"], told["per_s"]) == (30.0, [28.0, 90.0], 10000)
    assert [(*goal[:1], goal[3]) for goal in outcome.goals()] == [
        ("provider", 0.75),
        ("provider", 0.15),
        ("relay", 1.25),
    ]
    assert outcome.table().count("MISSED") == 2
    assert outcome.table().count("reached") == 1


@pytest.mark.slow
def test_a_short_run_is_complete(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    words = ["--pushes", "300", "--repeats", "2", "--raw", str(raw), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "apps.lab.bench_relay", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert list(told) == [each.name for each in CONTENDERS]
    for figures in told.values():
        assert figures["per_s"] > 0
        assert figures["cpu_us"] >= 0
        assert figures["repeats"] == 2
    kept = json.loads(raw.read_text("utf-8"))
    assert kept["contenders"] == told
    assert {name: len(runs) for name, runs in kept["runs"].items()} == dict.fromkeys(told, 2)
