"""`ready`: names what doesn't work, and is quick about it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from django.test import Client

from apps.operations import ready as ready_module
from apps.operations.ready import Checks

PATH = "/MailNotificationService/api/ens/ready"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test before found is not our answer."""
    for name in ("_all", "_of_relay"):
        getattr(ready_module, name)._found_at = float("-inf")


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


@pytest.mark.django_db(transaction=True)
def test_all_is_well(client: Client) -> None:
    answer = client.get(PATH)
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "checks": {"database": "ok", "event_log": "ok", "broker": "ok"},
    }
    assert answer["Cache-Control"] == "no-store"
    assert client.post(PATH).status_code == 405
    assert client.get("/nws/ready").json() == {
        "status": "ok",
        "checks": {"database": "ok", "push_apps": "ok"},
    }


def use_broker(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from celery import current_app

    plain = current_app.connection_for_write
    monkeypatch.setattr(
        current_app,
        "connection_for_write",
        lambda **more: plain(url=url, transport="redis", **more),
    )


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_gone_is_a_fault(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    use_broker(monkeypatch, f"redis://:hunter2@127.0.0.1:{port}/0")
    answer = client.get(PATH)
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["database"] == checks["event_log"] == "ok"
    assert checks["broker"] in ("fault", "timeout")
    # Nothing that helps a stranger.
    assert b"hunter2" not in answer.content
    assert str(port).encode() not in answer.content


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_hangs_is_no_reason_to_wait(
    client: Client, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    monkeypatch.setattr(ready_module, "_all", Checks(ready_module._all._checks))
    monkeypatch.setattr(ready_module._all, "_found_at", float("-inf"))
    use_broker(monkeypatch, f"redis://127.0.0.1:{silent}/0")
    began = time.monotonic()
    found = ready_module._all.run()
    assert time.monotonic() - began < ready_module.DEADLINE_S + 1.0
    assert found["broker"] in ("timeout", "fault")
    assert found["database"] == "ok"


def test_who_asks_often_asks_once_and_a_check_that_hangs_runs_once() -> None:
    runs: list[str] = []
    release = threading.Event()

    def quick() -> None:
        runs.append("quick")

    def hangs() -> None:
        runs.append("hangs")
        release.wait(20)

    checks = Checks({"quick": quick, "hangs": hangs})
    try:
        assert checks.run() == {"quick": "ok", "hangs": "timeout"}
        for _ in range(20):
            checks.run()
        assert runs == ["quick", "hangs"] or runs == ["hangs", "quick"]
        checks._found_at = float("-inf")
        checks.run()
        assert runs.count("quick") == 2
        assert runs.count("hangs") == 1
    finally:
        release.set()
