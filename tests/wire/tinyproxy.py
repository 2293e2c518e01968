"""A real HTTP proxy: Debian's tinyproxy, on a free port of loopback, ending with the test."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.wire.proxy import Proxy

USER, PASSWORD = "ens", "Secret-of-tinyproxy"


@contextmanager
def tinyproxy(folder: Path, *, basic: bool = False, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """How to reach one that tunnels to any host and port; with `basic` it wants a login."""
    program = shutil.which("tinyproxy")
    if program is None:
        pytest.skip("tinyproxy is not installed")
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    lines = [f"Port {port}", f"Listen {host}", "Timeout 60", "MaxClients 50"]
    lines += ["Allow 127.0.0.0/8", f'LogFile "{folder / "tinyproxy.log"}"', "LogLevel Info"]
    if basic:
        lines.append(f"BasicAuth {USER} {PASSWORD}")
    settings = folder / "tinyproxy.conf"
    settings.write_text("\n".join(lines) + "\n")
    running = subprocess.Popen([program, "-d", "-c", str(settings)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(host, port, running)
        login = (USER, PASSWORD) if basic else ("", "")
        yield Proxy(host, port, "basic" if basic else "none", *login)
    finally:
        running.terminate()
        running.wait(10)


def connects(folder: Path) -> list[str]:
    """What it was asked to connect to, by its own log: `host:port`, oldest first."""
    return re.findall(r"\): CONNECT (\S+) HTTP/1", (folder / "tinyproxy.log").read_text())


def _wait_for(host: str, port: int, running: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert running.poll() is None, "tinyproxy has ended"
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("tinyproxy does not listen")
