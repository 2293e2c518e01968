"""The commands that people run, as processes; and how the demo judges what it saw."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import requests

from apps.lab import demo
from apps.lab.announced import Mail
from apps.lab.phone import Push, Screen
from apps.lab.stand.home import HomeTaken, take

ROOT = Path(__file__).resolve().parents[2]
STAND = [sys.executable, "-m", "apps.lab.stand"]


def phone(*announced: tuple[str, str, float]) -> Any:
    """What the demo looks at of a phone: pushes of (item, subject, time)."""
    pushes, screen = [], Screen()
    for number, (item, subject, at) in enumerate(announced, start=1):
        alert = {"title": "Ben", "body": subject} if subject else {"title": "New mail"}
        payload = {"aps": {"alert": alert}, "ens": {"v": 1, "kind": "announcement", "item": item}}
        pushes.append(Push(number, at, item, payload))
        screen.take(pushes[-1])
    return SimpleNamespace(pushes=pushes, screen=screen)


ONE, TWO = Mail("anna", "one", 100.0), Mail("anna", "two", 101.0)


def test_a_mail_counts_only_when_every_phone_of_its_user_has_rung() -> None:
    both = phone(("i1", "one", 100.2), ("i2", "two", 101.1))
    outcome = demo.judge([ONE, TWO], {"anna": [both, phone(("i1", "one", 100.4))]}, {})
    assert (outcome.sent, outcome.announced, outcome.lost) == (2, 1, 1)
    assert outcome.duplicates == 0
    assert sorted(outcome.latencies) == pytest.approx([0.1, 0.2, 0.4])


def test_a_second_ring_for_the_same_mail_is_a_duplicate() -> None:
    twice = phone(("i1", "one", 100.2), ("i1", "one", 100.3), ("other", "one", 100.4))
    outcome = demo.judge([ONE], {"anna": [twice]}, {})
    assert (outcome.announced, outcome.duplicates) == (1, 2)
    assert outcome.latencies == pytest.approx([0.2])


def test_an_announcement_without_a_subject_stands_for_the_mail_nobody_named() -> None:
    plain = phone(("i1", "", 105.0), ("i2", "two", 101.1))
    outcome = demo.judge([ONE, TWO], {"anna": [plain]}, {})
    assert (outcome.announced, outcome.duplicates) == (2, 0)
    assert sorted(outcome.latencies) == pytest.approx([0.1, 5.0])


def test_the_figures() -> None:
    outcome = demo.Outcome(20, 20, 0, [n / 1000 for n in range(1, 21)], {"worker": 0.25})
    assert outcome.as_json() == {
        "sent": 20,
        "announced": 20,
        "duplicates": 0,
        "latency_ms": {"p50": 10.0, "p95": 19.0, "max": 20.0},
        "cpu_ms_per_mail": {"worker": 12.5},
    }


def test_no_figures_without_announcements() -> None:
    assert demo.Outcome(1, 0, 0, [], {}).as_json()["latency_ms"]["p95"] is None


def test_a_directory_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(HomeTaken, match="not made by this command"):
        take(tmp_path)
    assert (tmp_path / "precious").exists()


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    home = take(tmp_path / "run")
    home.mkdir()
    with pytest.raises(HomeTaken, match="it runs already"):
        take(tmp_path / "run")
    assert home.exists()


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a group of its own, as a terminal starts it."""
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    process = subprocess.Popen(
        [*STAND, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8", **group
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], line: str, seconds: float = 60) -> str:
    assert process.stdout is not None
    deadline, text = time.monotonic() + seconds, ""
    while line not in text:
        assert time.monotonic() < deadline and process.poll() is None, text
        text += process.stdout.readline()
    return text


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT)


@pytest.mark.slow
def test_the_demo_loses_nothing_and_rings_within_a_second() -> None:
    done = subprocess.run(
        [*STAND, "demo", "--mails", "40", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["sent"], found["announced"], found["duplicates"]) == (40, 40, 0)
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"] < 1000
    assert set(found["cpu_ms_per_mail"]) == {"web", "worker", "relay", "beat"}
    assert found["cpu_ms_per_mail"]["worker"] > 0


@pytest.mark.slow
def test_run_shows_its_addresses_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    with started("run", "--home", str(tmp_path / "run")) as process:
        text = read_until(process, "Ctrl-C stops it.")
        page = re.search(r"Live page +(http://\S+)", text)
        assert page is not None
        assert requests.get(page[1], timeout=10).status_code == 200
        assert "anna@example.com" in text
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 8

        press_ctrl_c(process)

        assert process.wait(timeout=40) == 0
        assert psutil.wait_procs(family, timeout=5)[1] == []


@pytest.mark.slow
def test_lab_alone_serves_exchange_with_the_printed_ca_and_account(tmp_path: Path) -> None:
    with started("lab", "--home", str(tmp_path / "lab")) as process:
        text = read_until(process, "Ctrl-C stops it.")
        address = re.search(r"Exchange \(EWS\) +(https://\S+)", text)
        ca = re.search(r"its CA +(\S+exchange\S+)", text)
        account = re.search(r"anna@example\.com +(\S+) +(\S+)", text)
        assert address and ca and account
        with requests.Session() as http:
            http.trust_env, http.verify = False, ca[1]
            wrong = http.post(address[1], auth=(account[1], "wrong"), data=b"", timeout=10)
            right = http.post(address[1], auth=(account[1], account[2]), data=b"", timeout=10)
        assert wrong.status_code == 401
        assert right.status_code not in (401, 403, 404)
        press_ctrl_c(process)
        assert process.wait(timeout=30) == 0
