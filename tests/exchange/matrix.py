"""Makes docs/compatibility.md from what really happens between ENS's client and the lab.

    python -m tests.exchange.matrix

writes the page. `test_matrix.py` fails when it is not what this would write.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final, Literal

from apps.exchange.errors import ExchangeError
from apps.exchange.ews.server import EwsServer
from apps.exchange.gateway import Gateway
from apps.exchange.interface import Credentials, Endpoint
from apps.lab.exchange import LabExchange
from apps.lab.exchange.soap import EXCHANGES
from apps.lab.gateway.server import DEVICE_HEADER, LabGateway
from apps.wire.proxy import Proxy
from tests.exchange.auth.kdc import kdc
from tests.exchange.auth.ways import PASSWORDS, WAYS, Way, endpoint_of
from tests.lab.exchange_helpers import Webhook, until
from tests.wire.tinyproxy import tinyproxy

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
Path_ = Literal["direct", "proxy", "gateway"]
PATHS: Final[tuple[Path_, ...]] = ("direct", "proxy", "gateway")
PRODUCTS: Final = {
    "2010SP3": "2010 SP3",
    "2013SP1": "2013 SP1",
    "2016": "2016",
    "2019": "2019",
    "SE": "Subscription Edition",
}
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_DEADLINE_S: Final = 20.0

_HEAD: Final = """# Which Exchange, which login, which way

Written by `python -m tests.exchange.matrix`; `tests/exchange/test_matrix.py` fails when it is out
of date. Each cell is a run over real sockets: ENS's client subscribes, is notified of a mail,
fetches it, and subscribes anew, at a pretend Exchange (`apps/lab`) that calls itself by that
version, understands as much, and lets in by that login only. **yes** stands for all four; else the
cell says what came instead. The KDC is MIT's krb5kdc, the proxy tinyproxy, the gateway the lab's.

"""
_FOOT: Final = """
- `ntlm_behind_gateway`: NTLM and Kerberos log in the connection, which ends at the gateway. Behind
  one let Exchange offer Basic or OAuth.
- A client certificate ends at the gateway, too: Exchange sees none (`gateway` is the gateway's 403,
  which here is Exchange's own).
- Extended Protection (on by default since Exchange 2019 CU14) changes nothing here: ENS sends the
  channel binding; `tests/exchange/auth/test_methods.py` shows it for NTLM and Kerberos.
- Client certificates in front of Exchange: `tests/exchange/auth/test_nginx.py`, by nginx.
"""


def page() -> str:
    """The page as it should be. Starts servers on loopback; takes some twenty seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        realm = stack.enter_context(kdc(folder, PASSWORDS))
        stack.enter_context(_environment(realm.environment))
        proxy = stack.enter_context(tinyproxy(folder))
        cells = asyncio.run(_cells(proxy))
    lines = [
        "| login | way | " + " | ".join(f"Exchange {name}" for name in PRODUCTS.values()) + " |",
        "| --- " * (2 + len(PRODUCTS)) + "|",
    ]
    for way in WAYS:
        for path in PATHS:
            found = [cells[way, path, version] for version in PRODUCTS]
            lines.append(f"| {way} | {path} | " + " | ".join(found) + " |")
    return _HEAD + "\n".join(lines) + "\n" + _FOOT


async def _cells(proxy: Proxy) -> dict[tuple[str, Path_, str], str]:
    cells: dict[tuple[str, Path_, str], str] = {}
    for version in PRODUCTS:
        for way in WAYS.values():
            lab = way.lab(version=EXCHANGES[version])
            lab.add_demo_accounts()
            async with lab, Webhook() as hook:
                for path in PATHS:
                    async with _endpoint(lab, path, proxy) as endpoint:
                        cells[way.name, path, version] = await _cell(lab, endpoint, way, hook)
    return cells


@asynccontextmanager
async def _endpoint(lab: LabExchange, path: Path_, proxy: Proxy) -> AsyncIterator[Endpoint]:
    direct = endpoint_of(lab)
    if path == "direct":
        yield direct
    elif path == "proxy":
        yield replace(direct, proxy=proxy)
    else:
        async with LabGateway(lab.url, lab.ca_pem) as gateway:
            headers = ((DEVICE_HEADER, "{eas_id}"),)
            yield Endpoint(
                gateway.url, gateway.ca_pem, exceptions=_LOOPBACK, gateway=Gateway(headers)
            )


async def _cell(lab: LabExchange, endpoint: Endpoint, way: Way, hook: Webhook) -> str:
    server = EwsServer("0.1.0")
    anna = replace(way.credentials(lab), identity=(("eas_id", "ABC"),))
    done: list[str] = []
    try:
        await _run(lab, endpoint, server, anna, hook, done)
    except ExchangeError as error:
        return f"`{error.code}`" if not done else f"{', '.join(done)}; then `{error.code}`"
    finally:
        await server.close()
    return "yes"


async def _run(
    lab: LabExchange,
    endpoint: Endpoint,
    server: EwsServer,
    anna: Credentials,
    hook: Webhook,
    done: list[str],
) -> None:
    hook.got.clear()
    await server.prove(endpoint, anna, "anna@example.com", _DEADLINE_S)
    first = await server.join(endpoint, anna, hook.url, 30, _DEADLINE_S)
    done.append("subscribe")
    item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")

    def notified() -> bool:
        told = [n for n in hook.got if n.text("SubscriptionId") == first.subscription_id]
        return "NewMail" in [kind for n in told for kind in n.kinds]

    await until(notified, _DEADLINE_S)
    done.append("notify")
    described = await server.describe(endpoint, anna, [item_id], True, _DEADLINE_S)
    assert described.items[item_id].subject == "Lunch?"
    assert described.unread_count
    done.append("fetch")
    assert await server.join(endpoint, anna, hook.url, 30, _DEADLINE_S) != first


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
