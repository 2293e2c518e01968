"""The lab's servers alone: a pretend Exchange, APNs and FCM, set up and supervised."""

from __future__ import annotations

import secrets
import string
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from apps.lab.exchange.accounts import demo_mailboxes
from apps.lab.fcm.accounts import new_account
from apps.lab.stand import signals, waiting
from apps.lab.stand.child import Program
from apps.lab.stand.facts import APP_ID, PROJECT_ID, DemoUser
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.side import ROOT, clean_environment
from apps.lab.stand.supervisor import Supervisor

READY_S = 60.0
_APPLE_ID = string.ascii_uppercase + string.digits


class StartFailed(Exception):
    """A program of the stand does not come up; the message ends with its last words."""


@dataclass(frozen=True)
class ProviderKey:
    """The key with which the relay may push to the lab's APNs, as Apple would hand it out."""

    key_id: str
    team_id: str
    p8_file: Path
    public_file: Path


@dataclass(frozen=True)
class ServiceAccount:
    """The account with which the relay may push through the lab's FCM, as Google hands it out."""

    client_email: str
    file: Path
    public_file: Path


class Lab:
    """The lab's three servers in `home`, an empty or missing directory.

    With `record` the Exchange keeps every SOAP message, both ways, in `home/soap`. Its clock runs
    `clock_scale` times as fast as real time, from `clock_origin` (Unix seconds) on.
    """

    def __init__(self, home: Path, *, record: bool = False, clock_scale: float = 1.0) -> None:
        self.home = home
        self.logs = home / "logs"
        self.logs.mkdir(parents=True)
        self.supervisor = Supervisor(home)
        self._record = record
        self.clock_scale = clock_scale
        self.clock_origin = time.time()
        exchange_port, apns_port, fcm_port = free_port(), free_port(), free_port()
        self._exchange_ports = (exchange_port, free_port())
        self._apns_ports = (apns_port, free_port())
        self._fcm_ports = (fcm_port, free_port())
        self.exchange_hosts = [f"{host}:{exchange_port}" for host in (HOST, "localhost")]
        self.ews_url = f"https://{HOST}:{exchange_port}/EWS/Exchange.asmx"
        self.exchange_control = f"http://{HOST}:{self._exchange_ports[1]}"
        self.apns_url = f"https://{HOST}:{apns_port}"
        self.apns_control = f"http://{HOST}:{self._apns_ports[1]}"
        self.fcm_url = f"https://{HOST}:{fcm_port}"
        self.fcm_control = f"http://{HOST}:{self._fcm_ports[1]}"
        self.exchange_ca = self._directory("exchange") / "ca.pem"
        self.apns_ca = self._directory("apns") / "ca.pem"
        self.fcm_ca = self._directory("fcm") / "ca.pem"
        self.provider_key = make_provider_key(self._directory("apple"))
        self.service_account = _make_service_account(self._directory("google"))

    @property
    def users(self) -> tuple[DemoUser, ...]:
        """The demo accounts at the lab's Exchange."""
        return tuple(
            DemoUser(box.name, box.address, f"{box.domain}\\{box.username}", box.password)
            for box in demo_mailboxes()
        )

    def start(self) -> None:
        """Start the servers and wait until they answer; raises StartFailed."""
        self.supervisor.start(self._exchange())
        self.supervisor.start(self._apns())
        self.supervisor.start(self._fcm())
        self.wait_for("exchange", answers(f"{self.exchange_control}/lab/ca.pem"))
        self.wait_for("apns", answers(f"{self.apns_control}/answers"))
        self.wait_for("fcm", answers(f"{self.fcm_control}/answers"))

    def stop(self) -> None:
        """Stop everything."""
        self.supervisor.end()

    def wait_for(self, name: str, ready: Callable[[], bool], seconds: float = READY_S) -> None:
        """Wait until a program is ready; raises StartFailed when it keeps dying or takes long."""
        deaths_before = self.supervisor.starts(name) + 2

        def happened() -> bool:
            if self.supervisor.starts(name) > deaths_before:
                raise StartFailed(f"{name} does not stay up.\n{self.last_words(name)}")
            return ready()

        try:
            waiting.until(f"{name} ready", happened, seconds)
        except waiting.TookTooLong as error:
            raise StartFailed(f"{error}.\n{self.last_words(name)}") from None

    def last_words(self, name: str) -> str:
        """The end of a program's log."""
        file = self.logs / f"{name}.log"
        lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
        return "\n".join(lines[-15:])

    def lab_program(self, name: str, module: str, *words: str) -> Program:
        """A program of the lab: none of ENS's settings reach it."""
        command = [sys.executable, "-m", module, *words]
        return Program(name, command, clean_environment(), ROOT, self.logs / f"{name}.log")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            with signals.undisturbed():
                self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with signals.undisturbed():
            self.stop()

    def _directory(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(exist_ok=True)
        return path

    def _exchange(self) -> Program:
        port, control_port = self._exchange_ports
        words = ["--port", str(port), "--control-port", str(control_port)]
        words += ["--directory", str(self.exchange_ca.parent)]
        words += ["--clock-scale", str(self.clock_scale)]
        words += ["--clock-origin", str(self.clock_origin)]
        if self._record:
            words += ["--record", str(self.home / "soap")]
        return self.lab_program("exchange", "apps.lab.stand.exchange_server", *words)

    def _apns(self) -> Program:
        port, control_port = self._apns_ports
        key = self.provider_key
        return self.lab_program(
            "apns",
            "apps.lab.stand.apns_server",
            *("--port", str(port), "--control-port", str(control_port)),
            *("--directory", str(self.apns_ca.parent), "--public-key", str(key.public_file)),
            *("--key-id", key.key_id, "--team-id", key.team_id, "--topic", APP_ID),
        )

    def _fcm(self) -> Program:
        port, control_port = self._fcm_ports
        account = self.service_account
        return self.lab_program(
            "fcm",
            "apps.lab.stand.fcm_server",
            *("--port", str(port), "--control-port", str(control_port)),
            *("--directory", str(self.fcm_ca.parent), "--public-key", str(account.public_file)),
            *("--project-id", PROJECT_ID, "--client-email", account.client_email),
        )


def answers(url: str, status: int = 200) -> Callable[[], bool]:
    """Whether a GET of the URL is answered with `status` at this moment."""

    def ask() -> bool:
        with suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=5, allow_redirects=False).status_code == status
        return False

    return ask


def make_provider_key(directory: Path) -> ProviderKey:
    """A new provider key, its files in `directory`."""
    key_id, team_id = ("".join(secrets.choice(_APPLE_ID) for _ in range(10)) for _ in range(2))
    private = ec.generate_private_key(ec.SECP256R1())
    p8_file = directory / f"AuthKey_{key_id}.p8"
    p8_file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public_file = directory / "public.pem"
    public_file.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return ProviderKey(key_id, team_id, p8_file, public_file)


def _make_service_account(directory: Path) -> ServiceAccount:
    account, public_pem = new_account(PROJECT_ID)
    file, public_file = directory / "service-account.json", directory / "public.pem"
    file.write_text(account.file, "utf-8")
    public_file.write_text(public_pem, "ascii")
    return ServiceAccount(account.client_email, file, public_file)
