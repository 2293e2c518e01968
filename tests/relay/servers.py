"""The relay as it runs in production: a process of its own with the vault's and its tables."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import psutil

from apps.lab.apns import LabApns
from apps.lab.ca import LabCa
from apps.lab.fcm import LabFcm

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerThread:
    """A pretend push service in a thread and loop of its own, for a whole session of tests."""

    def __init__(self, server: LabApns | LabFcm) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.call(server.start())

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def stop(self) -> None:
        self.call(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)


class ApnsThread(ServerThread):
    """The pretend APNs."""

    def __init__(self, directory: Path) -> None:
        self.apns = LabApns(LabCa(directory))
        super().__init__(self.apns)


class FcmThread(ServerThread):
    """The pretend FCM."""

    def __init__(self, directory: Path) -> None:
        self.fcm = LabFcm(LabCa(directory))
        super().__init__(self.fcm)


class Relay:
    """One relay deployment: its home, its database, its processes."""

    def __init__(
        self, home: Path, apns: LabApns, fcm: LabFcm | None = None, roles: str = "relay"
    ) -> None:
        self.home = home
        self.port = free_port()
        self.audience = f"http://127.0.0.1:{self.port}"
        ca_file, key_file = home / "apns-ca.pem", home / "master.key"
        ca_file.write_text(apns.ca_pem)
        key_file.write_text(f"relay:{b64encode(os.urandom(32)).decode()}\n")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ENS_")} | {
            "ENS_ENV_FILE": str(home / "ens.env"),
            "ENS_SECRET_KEY": "only-for-tests-0123456789-0123456789",
            "ENS_LINK_ADDRESS": "https://ens.example/MailNotificationService/api/ens",
            "ENS_ROLES": roles,
            "ENS_DATA_DIR": str(home),
            "ENS_MASTER_KEY_FILE": str(key_file),
            "ENS_RELAY_AUDIENCE": self.audience,
            "ENS_RELAY_APNS_URL": apns.url,
            "ENS_RELAY_APNS_CA_FILE": str(ca_file),
            # Nobody is there: no test asks Amazon.
            "ENS_RELAY_SNS_URL": "http://127.0.0.1:9",
        }
        if fcm is not None:
            fcm_ca_file = home / "fcm-ca.pem"
            fcm_ca_file.write_text(fcm.ca_pem)
            self.environment |= {
                "ENS_RELAY_FCM_URL": fcm.url,
                "ENS_RELAY_FCM_TOKEN_URL": fcm.token_url,
                "ENS_RELAY_FCM_CA_FILE": str(fcm_ca_file),
            }
        self.manage("migrate", "--verbosity", "0")

    def manage(self, *arguments: str | Path, fails: bool = False) -> str:
        """Run a command; its output, or its complaint when it should fail."""
        done = subprocess.run(
            [sys.executable, "manage.py", *map(str, arguments)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def serve(self, port: int | None = None) -> RelayProcess:
        return RelayProcess(self, port or free_port())


class RelayProcess:
    """The relay's web server, its output kept in a file."""

    def __init__(self, relay: Relay, port: int) -> None:
        self.port = port
        self.log = relay.home / f"relay-{self.port}.log"
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--access-log"]
        command += ["--port", str(self.port), "--blocking-threads", "4"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "ens_project.wsgi:application"],
                cwd=ROOT,
                env=relay.environment,
                stdout=log,
                stderr=log,
            )
        self._await_answer()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(
        self,
        body: bytes,
        headers: dict[str, str],
        *,
        path: str = "/nws/notify/apns",
        method: str = "POST",
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def kill(self) -> None:
        """Kill -9 the web server and the workers it started, which would live on without it."""
        family = [self._process, *psutil.Process(self._process.pid).children(recursive=True)]
        for process in family:
            process.kill()
        for process in family:
            process.wait(20)

    def _await_answer(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                status, _ = self.post(b"", {}, method="GET")
                assert status == 405
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < end, self.log.read_text()
                time.sleep(0.1)
