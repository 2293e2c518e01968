"""Keys, certificates' keys and passwords of push apps stand nowhere: not sealed, not gone.

Searched are the relay's directory (its database with -wal, its settings), its log at its most
talkative, and everything its commands and its answers said.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from apps.cns.channel import make_channel
from apps.cns.client import CnsClient
from apps.lab.apns import Asked, Fault
from tests.e2e.marks import Searcher
from tests.relay.servers import ApnsThread, Relay, RelayProcess
from tests.relay.test_bad_day import push_to

APP, OTHER, TEAM = "com.example.mail", "com.example.other", "TEAM123456"
PASSWORD = f"Pä55/w+rd {secrets.token_hex(8)}"
WRONG = f"Wröng {secrets.token_hex(8)}"


class Home:
    """A relay in one directory, what is uploaded to it in another, and the marks of all that."""

    def __init__(self, folder: Path) -> None:
        self.uploads = folder / "uploads"
        self.uploads.mkdir()
        (folder / "relay").mkdir()
        self.thread = ApnsThread(folder)
        self.relay = Relay(folder / "relay", self.thread.apns)
        self.relay.environment["ENS_LOG_LEVEL"] = "DEBUG"
        self.said: list[str] = []
        self.marks = {"the password": PASSWORD, "the wrong password": WRONG}
        self.raw: list[bytes] = []
        self.process: RelayProcess | None = None

    def manage(self, *arguments: str | Path, fails: bool = False) -> None:
        self.said.append(self.relay.manage(*arguments, fails=fails))

    def file(self, name: str, content: bytes | str) -> Path:
        file = self.uploads / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def note(self, name: str, key: object) -> None:
        """The lines of a private key in PEM that hold the secret, and its numbers."""
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        # The first line of a P-256 key is the same for all; the last may be short.
        for nth, line in enumerate(pem.splitlines()[2:-2]):
            self.marks[f"{name}, line {nth}"] = line
        numbers = key.private_numbers()
        if isinstance(numbers, rsa.RSAPrivateNumbers):
            self.raw += [numbers.p.to_bytes(128), numbers.d.to_bytes(256)]
        else:
            self.raw.append(numbers.private_value.to_bytes(32))

    def new_key(self, name: str) -> tuple[str | Path, ...]:
        made = self.thread.apns.new_key(TEAM, [APP])
        self.note(name, load_pem_private_key(made.p8.encode(), None))
        file = self.file(f"{name}.p8", made.p8)
        return "--key-file", file, "--key-id", made.key_id, "--team-id", TEAM

    def new_certificate(self, name: str, password: Path) -> tuple[str | Path, ...]:
        p12 = self.thread.apns.certificates.issue(Asked(OTHER), PASSWORD)
        whole = pkcs12.load_pkcs12(p12, PASSWORD.encode())
        self.note(name, whole.key)
        file = self.file(f"{name}.p12", p12)
        return "--certificate", file, "--password-file", password


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    if made.process is not None:
        made.process.stop()
    made.thread.stop()


@pytest.mark.slow
def test_nothing_of_push_credentials_stands_anywhere(home: Home) -> None:
    key, certificate = make_channel("ours")
    home.manage(
        *("relay_deployment", "add", "--name", "ours"),
        *("--certificate", home.file("ours.pem", certificate)),
    )
    right, wrong = home.file("right", PASSWORD), home.file("wrong", WRONG)
    share = ("--share", "ours")
    home.manage("relay_push_app", "add", "--app", APP, *home.new_key("key"), *share)
    by_certificate = home.new_certificate("certificate", right)
    home.manage("relay_push_app", "add", "--app", OTHER, *by_certificate, *share)
    home.manage("relay_push_app", "replace", "--app", APP, *home.new_key("next key"))
    # What is refused, and what is not at all what it should be.
    for app, file in ((OTHER, wrong), ("com.example.third", right)):
        command = "replace" if app == OTHER else "add"
        refused = home.new_certificate("refused", file)
        home.manage("relay_push_app", command, "--app", app, *refused, fails=True)
    p12 = by_certificate[1]
    ids = ("--key-id", "KEYID12345", "--team-id", TEAM)
    home.manage("relay_push_app", "replace", "--app", APP, "--key-file", p12, *ids, fails=True)
    home.manage("relay_push_app", "list")

    home.process = home.relay.serve(home.relay.port)
    tokens = {app: home.thread.apns.register(app) for app in (APP, OTHER)}

    async def push() -> list[str]:
        client = CnsClient(home.relay.audience, key + certificate)
        statuses = []
        for reason in ("", "InvalidProviderToken", "BadCertificate", "ExpiredProviderToken"):
            if reason:
                home.thread.apns.faults.order(Fault("refuse", times=2, reason=reason))
            pushes = [push_to(APP, tokens[APP]), push_to(OTHER, tokens[OTHER])]
            results = await client.send("apns", pushes)
            home.said += [result.reason for result in results]
            statuses += [result.status for result in results]
        await client.close()
        return statuses

    statuses = asyncio.run(push())
    assert statuses[:4] == ["accepted", "accepted", "failed", "failed"]
    home.manage("relay_push_app", "list")
    assert "TROUBLE" in home.said[-1]

    searcher = Searcher(home.marks)
    # It would find them: they are all in what was uploaded.
    assert {finding.mark for finding in searcher.in_folder(home.uploads)} >= {
        "the password",
        "key, line 0",
    }
    assert b"notifications answered" in home.process.log.read_bytes()
    assert searcher.in_folder(home.relay.home) == set()
    assert searcher.in_bytes("\n".join(home.said).encode(), "said") == set()
    for file in home.relay.home.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(raw in content for raw in home.raw), file.name
