"""What an operator sees of a running deployment: one mail in all logs, numbers, stories, health."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from apps.lab.stand.stand import Stand
from apps.lab.stand.waiting import until
from tests.e2e.road import RING_S, Road

TOKEN = "metrics-token-of-the-end-to-end-tests"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    settings = {
        "LOG_FORMAT": "json",
        "METRICS_TOKEN": TOKEN,
        "ROLES": "device-api,notify,metrics",
    }
    with Stand(tmp_path_factory.mktemp("watched") / "stand", settings=settings) as it:
        yield it


def lines(stand: Stand, name: str) -> list[dict[str, str]]:
    """The JSON lines of a program's log; what isn't JSON there was written by no logger."""
    text = (stand.logs / f"{name}.log").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def numbers(stand: Stand) -> dict[tuple[str, ...], float]:
    base = stand.link_address.removesuffix("/api/ens")
    answer = requests.get(
        f"{base}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=9
    )
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_one_mail_is_followed_from_webhook_to_push(watched: Stand) -> None:
    road = Road(watched)
    user = road.user("anna")
    phone = road.joined(user)
    road.exchange.deliver(user, "A subject nobody else may read")
    road.rings(phone, "A subject nobody else may read")

    def ids() -> set[str]:
        taken = {
            line["request_id"] for line in lines(watched, "web") if "events" in line["message"]
        }
        done = {
            one
            for line in lines(watched, "worker")
            if re.search(r": 1 announced", line["message"])
            for one in line.get("request_id", "").split(",")
        }
        return taken & done - {""}

    until("a request id in web and worker", lambda: bool(ids()), RING_S)
    relay = (watched.logs / "relay.log").read_text("utf-8")
    assert any(f"[{one}]" in relay or f"{one}," in relay or f",{one}" in relay for one in ids())
    for name in ("web", "worker", "relay", "beat"):
        text = (watched.logs / f"{name}.log").read_text("utf-8")
        for personal in (user.address, "nobody else", "ben.carter", phone.token, user.password):
            assert personal not in text, name
    roles = {name: {line["role"] for line in lines(watched, name)} for name in ("web", "worker")}
    assert roles == {"web": {"web"}, "worker": {"worker"}}


def test_numbers_of_all_processes_and_the_phones_story(watched: Stand) -> None:
    road = Road(watched)
    user = road.user("ben")
    phone = road.joined(user)
    before = numbers(watched)
    road.exchange.deliver(user, "Counted")
    road.rings(phone, "Counted")

    def rose(name: str, *labels: str) -> bool:
        return numbers(watched)[(name, *labels)] > before.get((name, *labels), 0)

    for name in (
        ("ens_notifications_received_total",),
        ("ens_entries_appended_total",),
        ("ens_announced_total",),
        ("ens_pushes_total", "accepted"),
        ("ens_webhook_to_push_seconds_count",),
    ):
        until(f"more {name}", lambda name=name: rose(*name), RING_S)
    now = numbers(watched)
    assert now["ens_joins_total", "active"] >= 1
    assert now["ens_subscriptions", "active"] >= 1
    assert now["ens_devices", "active"] >= 1
    (printed,) = watched.manage(["ens_story", newest_device(watched)])
    story = printed.splitlines()
    assert story[0].startswith("now: active")
    moves = [line for line in story if "moved" in line]
    assert [re.findall(r"to=(\w+)", line)[0] for line in moves] == ["joining", "active"]
    (announced,) = [line for line in story if "announcement" in line]
    assert re.search(r"result=accepted .*ms=[0-9]+ ", announced)
    assert "told=sender_subject  encrypted=False" in announced
    assert user.address not in printed


def newest_device(stand: Stand) -> str:
    connection = sqlite3.connect(stand.home / "ens" / "data" / "ens.sqlite3")
    try:
        query = "SELECT id FROM devices_device ORDER BY created_at DESC LIMIT 1"
        return str(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def test_it_is_ready(watched: Stand) -> None:
    answer = requests.get(f"{watched.link_address}/ready", timeout=9)
    assert answer.json() == {
        "status": "ok",
        "checks": {"database": "ok", "event_log": "ok", "broker": "ok"},
    }
    relay = requests.get(f"{watched.relay_url}/nws/ready", timeout=9)
    assert relay.json() == {"status": "ok", "checks": {"database": "ok", "push_apps": "ok"}}


def test_a_normal_end_writes_what_was_counted(tmp_path: Path) -> None:
    """Both web server and worker, ended by SIGTERM at once after their last count."""
    with Stand(tmp_path / "stand", settings={"METRICS_TOKEN": TOKEN}) as stand:
        road = Road(stand)
        user = road.user("cleo")
        phone = road.joined(user)
        time.sleep(3)
        database = stand.home / "ens" / "data" / "ens.sqlite3"
        had = counts(database)
        road.exchange.deliver(user, "The last one")
        road.rings(phone, "The last one")
        for name in ("web", "worker"):
            stand.supervisor._children[name].ask_to_stop()
    now = counts(database)
    for name in ("notifications_received", "pushes.accepted"):
        assert now[name] > had.get(name, 0), name


def counts(database: Path) -> dict[str, int]:
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute("SELECT name, SUM(n) FROM history_minute_count GROUP BY name")
        return dict(rows.fetchall())
    finally:
        connection.close()
