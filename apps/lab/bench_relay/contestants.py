"""Who takes part in `make bench-relay`, and how each is started."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.lab.stand.side import ROOT

_HERE = Path(__file__).resolve().parent / "contenders"
_PACKAGE = "apps.lab.bench_relay.contenders"
_INSTALL_S = 120


class Absent(Exception):
    """A contender can't take part on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table.

    `share`: what part of the bench's pushes it is given, so that the slow don't take all the
    time. `relay`: whether the relay's processes are measured and not its own. `more`: further
    members of its set-up.
    """

    name: str
    what: str
    program: str
    share: float = 1.0
    relay: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


CONTENDERS = (
    Contender("provider", "our provider alone", "our_provider", more={"batch": 100}),
    Contender(
        "provider_encrypted",
        "our provider, each sealed first",
        "our_provider",
        share=0.2,
        more={"batch": 100, "sealed": True},
    ),
    Contender("node_apn", "@parse/node-apn (npm)", "node_apn.js"),
    Contender("aioapns", "aioapns (PyPI)", "by_aioapns", share=0.3),
    Contender(
        "relay",
        "our relay, HTTP in, batches of 100",
        "relay_caller",
        relay=True,
        more={"batch": 100, "calls": 4},
    ),
    Contender(
        "relay_encrypted",
        "our relay, 100 that ENS has sealed",
        "relay_caller",
        share=0.3,
        relay=True,
        more={"batch": 100, "calls": 4, "sealed": True},
    ),
    Contender(
        "relay_500",
        "our relay, batches of 500",
        "relay_caller",
        relay=True,
        more={"batch": 500, "calls": 2},
    ),
    Contender(
        "relay_1",
        "our relay, one a call",
        "relay_caller",
        share=0.1,
        relay=True,
        more={"batch": 1, "calls": 8},
    ),
)


def command(contender: Contender) -> list[str]:
    """The command line that starts a contender.

    Raises:
        Absent: it needs something that this machine doesn't have.
    """
    if not contender.program.endswith(".js"):
        return [sys.executable, "-m", f"{_PACKAGE}.{contender.program}"]
    node = shutil.which("node")
    if node is None:
        raise Absent("Node.js is not installed")
    return [node, str(_HERE / contender.program)]


def node_modules() -> Path:
    """Where npm's packages are, installed as `package-lock.json` says on first use.

    Raises:
        Absent: no npm, or it could not install them.
    """
    lock = (_HERE / "package-lock.json").read_text("utf-8")
    digest = hashlib.sha256("\n".join(lock.splitlines()).encode()).hexdigest()[:16]
    home = ROOT / "var" / "bench-relay" / digest
    installed, mark = home / "node_modules", home / "complete"
    if mark.exists():
        return installed
    npm = shutil.which("npm")
    if npm is None:
        raise Absent("npm is not installed")
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, home)
    words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(words, cwd=home, check=True, capture_output=True, timeout=_INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise Absent(f"npm ci failed ({type(error).__name__})") from None
    mark.touch()
    return installed
