"""Our own public address, as Exchange and the phones reach it; and the way back, from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from apps.diagnosis.registry import Context, Step, check
from apps.operations.checks import hosts
from apps.wire import certificates
from apps.wire.certificates import Certificate
from apps.wire.errors import WireError

_SCRIPT: Final = Path(__file__).parent.parent / "formats" / "test-from-exchange.ps1"
IMPORT_STEPS: Final = (
    "Copy the file to every Exchange server with the Mailbox role.",
    "There, in PowerShell as an administrator: Import-Certificate -FilePath .\\ens-root.cer "
    "-CertStoreLocation Cert:\\LocalMachine\\Root",
    "Run the test script on the same server. No service needs a restart.",
)


@dataclass(frozen=True, slots=True)
class RootCa:
    """The topmost certificate that our address shows. `complete`: it is a root, nothing above."""

    certificate: Certificate
    complete: bool


def root_ca() -> RootCa:
    """What Exchange must trust to call us.

    Raises:
        WireError: our own address can't be reached from here.
    """
    shown = certificates.fetch(_base(), hosts.address_check(allow_private=True))
    top = shown.chain[-1]
    return RootCa(top, top.self_signed)


@check("webhook.address", title="Our public address", area="webhook")
def address(context: Context) -> Iterator[Step]:
    """Name, certificate, and that ENS itself answers there."""
    url = _base()
    if urlsplit(url).scheme != "https":
        yield Step("scheme", "warning", "http", "For the lab only: Exchange must call by https.")
        return
    guard = hosts.address_check(allow_private=True)
    steps = list(hosts.name_steps(url, guard))
    yield from steps
    if any(step.status == "failed" for step in steps):
        return
    try:
        shown = certificates.fetch(url, guard)
        for step in hosts.tls_steps(shown, url, private_cas=False):
            if step.name == "TLS chain" and step.status == "failed":
                advice = (
                    "Not trusted here, and so probably not by Exchange either: download the root "
                    "CA, import it on each Exchange server, and run the test script there."
                )
                step = Step(step.name, "warning", step.detail, advice)
            yield step
        yield _alive(certificates.ask(f"{url}/alive", guard))
        yield _notify(certificates.ask(f"{url}/notify?id=x&creds=x", guard, method="POST"))
    except WireError as error:
        yield Step("connection", "warning", error.code, _FROM_HERE)


_FROM_HERE: Final = (
    "From this server our public address is not reached. That may be so behind some firewalls; "
    "what counts is Exchange: run the test script there."
)


def _alive(answer: certificates.Answer) -> Step:
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if answer.status == 200 and isinstance(found, dict) and found.get("status") == "ok":
        same = found.get("version") == settings.ENS_VERSION
        advice = "" if same else "Another release answers there: upgrade all servers."
        return Step("alive", "ok" if same else "warning", f"HTTP {answer.status}", advice)
    advice = "Something else answers at ENS_LINK_ADDRESS: check the reverse proxy and its paths."
    return Step("alive", "failed", f"HTTP {answer.status}", advice)


def _notify(answer: certificates.Answer) -> Step:
    if answer.status == 404 and answer.body == b"not found":
        return Step("webhook", "ok", "it refuses what it did not make")
    advice = (
        "The webhook does not answer by itself: does a server with the role `notify` stand behind "
        "this address, and does the proxy let POST and long query strings (2,100 characters) pass?"
    )
    return Step("webhook", "failed", f"HTTP {answer.status}", advice)


def powershell() -> str:
    """A script that tests the way from an Exchange server to us. It changes nothing."""
    parts = urlsplit(_base())
    values = {
        "@URL@": _base(),
        "@HOST@": parts.hostname or "",
        "@PORT@": str(parts.port or (443 if parts.scheme == "https" else 80)),
    }
    script = _SCRIPT.read_text("utf-8")
    for name, value in values.items():
        # A quote in single quotes is written twice; nothing else means anything there.
        script = script.replace(name, value.replace("'", "''"))
    return script.replace("\n", "\r\n")


def _base() -> str:
    return str(settings.ENS.link_address).rstrip("/")
