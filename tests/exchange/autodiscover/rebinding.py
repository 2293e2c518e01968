"""One journey through Autodiscover while DNS changes its answer; run by `test_rebinding.py`.

In a process of its own, for nss_wrapper (https://cwrap.org/nss_wrapper.html) stands in for the
system's look-up of names there: from a file that is rewritten between two look-ups. Prints one
line: what became of it, and how many connections came to the forbidden address.

    python -m tests.exchange.autodiscover.rebinding never|srv|redirect|found
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from apps.exchange.autodiscover.service import Autodiscover
from apps.exchange.autodiscover.srv import DnsResolver
from apps.exchange.errors import ExchangeError
from apps.exchange.interface import Credentials, Endpoint, Reach
from apps.exchange.transport import Transport
from apps.lab.exchange import LabExchange
from apps.lab.exchange.autodiscover import SOAP_PATH, Detour
from tests.exchange.dns_server import name_server

# The company's own address, and one that the guard refuses here.
GOOD, FORBIDDEN = "127.0.0.2", "127.0.0.1"
FIRST, SECOND = "mail.corp.example", "other.corp.example"
ANNA = Credentials(type="basic", username="CORP\\anna", password="anna-lab-1")
_HOSTS = Path(os.environ.get("NSS_WRAPPER_HOSTS", os.devnull))


class Names:
    """What the names resolve to just now."""

    def __init__(self) -> None:
        self._changes = 0
        self.point(GOOD)

    def point(self, address: str) -> None:
        """Let all names lead to an address."""
        _HOSTS.write_text("".join(f"{address} {name}\n" for name in (FIRST, SECOND)))
        # It looks at the time of the file, to the second.
        self._changes += 10
        at = 1_700_000_000 + self._changes
        os.utime(_HOSTS, (at, at))


async def journey(flip: str) -> str:
    """Discover, then call what was found; names are led astray at the point that `flip` names."""
    names, accepted = Names(), 0

    def trapped(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    lab, transport = LabExchange(names=[FIRST, SECOND]), Transport("0.1.0")
    lab.add_mailbox("anna@corp.example", "Anna", ANNA.password, username="anna", domain="CORP")
    await lab.start(GOOD)
    port = urlsplit(lab.url).port
    trap = await asyncio.start_server(trapped, FORBIDDEN, port)
    second = f"https://{SECOND}:{port}{SOAP_PATH}"
    lab.autodiscover.detours = [Detour("redirect_url", second, host=f"{FIRST}:{port}")]
    astray = {"srv": 0, "redirect": 1}.get(flip)

    def permit(url: str) -> str:
        # Between the look-up of a record or a redirect, and the connection that follows.
        if astray is not None and url.startswith(f"https://{(FIRST, SECOND)[astray]}:"):
            names.point(FORBIDDEN)
        return url

    exceptions = (ip_network(f"{GOOD}/32"),)
    reach = Reach("rebinding", Endpoint("", lab.ca_pem, exceptions=exceptions), permit)
    async with name_server({"_autodiscover._tcp.corp.example": [f"0 0 {port} {FIRST}."]}) as dns:
        service = Autodiscover(transport, DnsResolver([dns.address]), ports=(9, 9))
        try:
            url = await service.ews_url(reach, ANNA, "anna@corp.example", 8)
            outcome = "found"
            if flip == "found":
                names.point(FORBIDDEN)
            # A worker that has no connection yet.
            fresh = Transport("0.1.0")
            await fresh.post(replace(reach.endpoint, url=url), ANNA, b"<x/>", 4)
        except ExchangeError as error:
            outcome = error.code
    await transport.close()
    trap.close()
    await lab.stop()
    return f"{outcome} {accepted}"


if __name__ == "__main__":
    print(asyncio.run(journey(sys.argv[1])))  # noqa: T201 - this is what it is for
