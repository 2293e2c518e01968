"""No connection that is logged in as one user ever serves another; and there are not too many."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from spnego._ntlm_raw.crypto import ntowfv1

from apps.exchange.auth import connection
from apps.exchange.auth.connections import UserConnections
from apps.exchange.errors import CredentialsRefused, Forbidden, LoginImpossible, Unreachable
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Endpoint
from apps.exchange.transport import Transport
from tests.exchange.auth.ways import MANY, WAYS, Way, add_many, endpoint_of
from tests.lab.exchange_helpers import until

pytestmark = pytest.mark.usefixtures("in_realm")

EACH = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
_ROUNDS = 3


@EACH
async def test_fifty_users_at_once(way: Way) -> None:
    """Counted by the server: whom it took each request for, and whom each connection served."""
    lab, server = way.lab(), EwsServer("0.1.0")
    add_many(lab)
    async with lab:
        endpoint = endpoint_of(lab)
        users = [(name, way.credentials(lab, name)) for name in MANY]
        items = {
            name: lab.deliver(f"{name}@example.com", "Ben", "ben@example.com", f"for {name}")
            for name in MANY
        }

        async def subject(name: str, credentials: object) -> tuple[str, str]:
            found = await server.describe(endpoint, credentials, [items[name]], False, 60)  # type: ignore[arg-type]
            return name, found.items[items[name]].subject

        try:
            for _ in range(_ROUNDS):
                told = await asyncio.gather(*(subject(*user) for user in users))
                assert told == [(name, f"for {name}") for name in MANY]
        finally:
            counted = lab.counters()
            await server.close()
        assert Counter(counted["served"]) == {f"{name}@example.com": _ROUNDS for name in MANY}
        assert counted["unauthorized"] == {}
        if way.own_connection:
            assert counted["connections"]["shared"] == 0
            assert counted["connections"]["total"] <= len(MANY) + 1
        assert set(counted["logins"].values()) <= {1}


async def test_the_test_above_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one connection for all users the server takes everybody for the first."""
    real, users = UserConnections.of, []

    def of(self: UserConnections, endpoint: Endpoint, credentials: Credentials) -> object:
        users.append(credentials)
        return real(self, endpoint, users[0])

    monkeypatch.setattr(UserConnections, "of", of)
    # One's mail is another's, whose caller may not read it.
    with pytest.raises(Forbidden):
        await test_fifty_users_at_once(WAYS["NTLM"])


async def test_idle_connections_are_closed() -> None:
    way = WAYS["NTLM"]
    lab, transport = way.lab(), Transport("0.1.0", idle_s=0.2)
    lab.add_demo_accounts()
    async with lab:
        server = EwsServer("0.1.0")
        server._transport = transport
        for user in ("anna", "ben"):
            credentials = way.credentials(lab, user)
            await server.prove(endpoint_of(lab), credentials, f"{user}@example.com", 5)
        assert lab.counters()["logins"] == {"anna@example.com": 1, "ben@example.com": 1}
        await until(lambda: len(transport._users) == 0)
        # The shared one stays: it has asked what is offered.
        await until(lambda: lab.counters()["connections"]["open"] <= 1)
        await server.prove(endpoint_of(lab), way.credentials(lab), "anna@example.com", 5)
        await server.close()


async def test_there_are_never_more_than_allowed() -> None:
    way = WAYS["NTLM"]
    lab, transport = way.lab(), Transport("0.1.0", max_users=5)
    add_many(lab)
    async with lab:
        server = EwsServer("0.1.0")
        server._transport = transport
        most = 0

        async def prove(name: str) -> None:
            nonlocal most
            credentials = way.credentials(lab, name)
            await server.prove(endpoint_of(lab), credentials, f"{name}@example.com", 20)
            most = max(most, len(transport._users))

        await asyncio.gather(*(prove(name) for name in MANY[:20]))
        assert most == 5
        assert len(lab.counters()["served"]) == 20
        await server.close()


async def test_waiting_for_a_connection_counts_in_the_deadline() -> None:
    """Servers that hang until they are given up must not hold up the users of others for longer."""
    way = WAYS["NTLM"]
    lab, transport = way.lab(), Transport("0.1.0", max_users=1)
    lab.add_demo_accounts()
    async with lab:
        endpoint = endpoint_of(lab)
        ben = way.credentials(lab, "ben")
        async with transport._users.of(endpoint, way.credentials(lab)):
            await asyncio.sleep(0)
            with pytest.raises(Unreachable):
                async with asyncio.timeout(3):
                    await transport.post(endpoint, ben, b"", 0.5)
    await transport.close()


async def test_a_login_that_nobody_waits_for_any_more_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a domain controller hangs; later each would be one more wrong password to it."""
    begun: list[str] = []
    hangs = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(hangs.wait)
        with pytest.raises(LoginImpossible):
            await connection._in_thread(threads, partial(begun.append, "late"), 0.1)
        hangs.set()
    assert begun == []


async def test_the_hash_of_a_password_is_no_password() -> None:
    """Whoever has stolen one must not log in with it from outside, by way of us."""
    way = WAYS["NTLM"]
    lab, server = way.lab(), EwsServer("0.1.0")
    lab.add_demo_accounts()
    async with lab:
        right = way.credentials(lab)
        stolen = replace(right, password=f"{'0' * 32}:{ntowfv1(right.password).hex()}")
        await server.prove(endpoint_of(lab), right, "anna@example.com", 5)
        with pytest.raises(CredentialsRefused):
            await server.prove(endpoint_of(lab), stolen, "anna@example.com", 5)
        await server.close()


async def test_a_connection_that_the_server_closes_is_logged_in_anew() -> None:
    for way in (WAYS["NTLM"], WAYS["Negotiate (Kerberos)"]):
        lab, server = way.lab(), EwsServer("0.1.0")
        lab.add_demo_accounts()
        async with lab:
            anna = way.credentials(lab)
            for _ in range(3):
                await server.prove(endpoint_of(lab), anna, "anna@example.com", 5)
                for connection in lab._runners[0].server.connections:  # type: ignore[union-attr]
                    connection.transport.abort()
                await asyncio.sleep(0.05)
            assert lab.counters()["logins"] == {"anna@example.com": 3}
            assert lab.counters()["unauthorized"] == {}
            lab.set_password("anna@example.com", "changed")
            if way.name == "NTLM":
                with pytest.raises(CredentialsRefused):
                    await server.prove(endpoint_of(lab), anna, "anna@example.com", 5)
                assert sum(lab.counters()["unauthorized"].values()) == 1
            await server.close()
