"""Each way to log in against the lab, over real TLS: what it does, and how it is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.exchange.auth import connection as connection_module
from apps.exchange.auth import kerberos
from apps.exchange.errors import (
    CredentialsExpired,
    CredentialsRefused,
    ExchangeError,
    Forbidden,
    LoginImpossible,
)
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Endpoint
from apps.lab.exchange import LabExchange
from tests.exchange.auth.kdc import Kdc, kdc
from tests.exchange.auth.ways import PASSWORDS, WAYS, Way, endpoint_of
from tests.lab.exchange_helpers import Webhook, until

pytestmark = pytest.mark.usefixtures("in_realm")


@asynccontextmanager
async def site(way: Way, **options: Any) -> AsyncIterator[tuple[LabExchange, EwsServer, Endpoint]]:
    lab, server = way.lab(**options), EwsServer("0.1.0")
    lab.add_demo_accounts()
    async with lab:
        try:
            yield lab, server, endpoint_of(lab)
        finally:
            await server.close()


def wrong_ones(lab: LabExchange, realm: Kdc, before: int) -> int:
    """How many wrong passwords the directory has counted: by Exchange, and by the KDC."""
    return sum(lab.counters()["unauthorized"].values()) + realm.wrong_passwords("anna") - before


EACH = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


@EACH
@pytest.mark.parametrize(
    "options",
    [{}, {"extended_protection": True}, {"login_each_request": True}],
    ids=["", "extended protection", "each request"],
)
async def test_subscribe_notify_fetch_and_renew(way: Way, options: dict[str, Any]) -> None:
    async with site(way, **options) as (lab, server, endpoint), Webhook() as hook:
        anna = way.credentials(lab)
        await server.prove(endpoint, anna, "anna@example.com", 5)
        joined = await server.join(endpoint, anna, hook.url, 30, 5)
        item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")
        await until(lambda: "NewMail" in [kind for n in hook.got for kind in n.kinds])
        described = await server.describe(endpoint, anna, [item_id], True, 5)
        assert described.items[item_id].subject == "Lunch?"
        assert (await server.join(endpoint, anna, hook.url, 30, 5)) != joined
        counted = lab.counters()
        assert counted["unauthorized"] == {}
        assert set(counted["served"]) == {"anna@example.com"}
        assert counted["connections"]["shared"] == 0
        assert counted["connections"]["total"] <= 2


@pytest.mark.parametrize("way", [way for way in WAYS.values() if way.name != "Client certificate"])
async def test_what_is_wrong_is_tried_once(way: Way, in_realm: Kdc) -> None:
    before = in_realm.wrong_passwords("anna")
    async with site(way) as (lab, server, endpoint):
        right = way.credentials(lab)
        token = right.token and right.token[:-4] + "hush"
        wrong = replace(right, password=right.password and "guess", token=token)
        with pytest.raises(CredentialsRefused) as caught:
            await server.prove(endpoint, wrong, "anna@example.com", 5)
        assert caught.value.code == "credentials_refused"
        assert wrong_ones(lab, in_realm, before) == 1
        # The right ones get in, and not over the connection of the wrong ones.
        await server.prove(endpoint, right, "anna@example.com", 5)
        assert wrong_ones(lab, in_realm, before) == 1


async def test_half_a_certificate_and_none() -> None:
    way = WAYS["Client certificate"]
    async with site(way) as (lab, server, endpoint):
        whole = way.credentials(lab)
        half = replace(whole, certificate=whole.certificate.partition("-----BEGIN PRIVATE")[0])
        with pytest.raises(CredentialsRefused) as caught:
            await server.prove(endpoint, half, "anna@example.com", 5)
        assert caught.value.code == "certificate_refused"
        with pytest.raises(Forbidden):
            await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
        assert lab.counters()["served"] == {}


@pytest.mark.parametrize("name", ["OAuth bearer token", "Client certificate"])
async def test_what_has_expired_is_never_sent(name: str) -> None:
    async with site(WAYS[name]) as (lab, server, endpoint):
        spent = replace(WAYS[name].credentials(lab), expires_at=int(time.time()))
        with pytest.raises(CredentialsExpired) as caught:
            await server.prove(endpoint, spent, "anna@example.com", 5)
        assert caught.value.code == "credentials_expired"
        assert lab.counters()["connections"]["total"] == 0


async def test_a_token_that_the_server_revoked() -> None:
    way = WAYS["OAuth bearer token"]
    async with site(way) as (lab, server, endpoint):
        anna = way.credentials(lab)
        await server.prove(endpoint, anna, "anna@example.com", 5)
        lab.tokens.revoke(anna.token)
        with pytest.raises(CredentialsRefused):
            await server.prove(endpoint, anna, "anna@example.com", 5)
        await server.prove(endpoint, way.credentials(lab), "anna@example.com", 5)


PASSWORD = Credentials("basic", "EXAMPLE\\anna", PASSWORDS["anna"])


@pytest.mark.parametrize(
    ("offered", "used"),
    [("basic ntlm negotiate", ""), ("ntlm negotiate", "kdc"), ("ntlm", "ntlm")],
)
async def test_the_scheme_is_chosen_from_what_is_offered(
    offered: str, used: str, in_realm: Kdc
) -> None:
    before = in_realm.log.count("HTTP/localhost")
    async with site(replace(WAYS["Basic"], accepts=frozenset(offered.split()))) as (
        lab,
        server,
        endpoint,
    ):
        for _ in range(3):
            await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
        assert lab.counters()["served"] == {"anna@example.com": 3}
        assert sum(lab.counters()["logins"].values()) == (1 if used else 0)
    # One ticket does for a connection.
    assert in_realm.log.count("HTTP/localhost") - before == (1 if used == "kdc" else 0)


@pytest.mark.parametrize("kind", ["basic", "ntlm", "negotiate"])
async def test_no_password_goes_where_its_scheme_is_not_offered(kind: str) -> None:
    async with site(WAYS["OAuth bearer token"]) as (lab, server, endpoint):
        lab._doorman._methods = frozenset({"bearer"})  # type: ignore[attr-defined]
        given = replace(PASSWORD, type=kind)  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(LoginImpossible) as caught:
                await server.prove(endpoint, given, "anna@example.com", 5)
            assert caught.value.code == "login_not_offered"
        assert sum(lab.counters()["unauthorized"].values()) == 0


async def test_a_scheme_that_is_no_longer_offered_is_found_out() -> None:
    async with site(WAYS["Basic"]) as (lab, server, endpoint):
        await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
        lab._doorman._methods = frozenset({"ntlm"})
        with pytest.raises(LoginImpossible):
            await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
        # Asked anew, and by NTLM.
        await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
        assert lab.counters()["logins"] == {"anna@example.com": 1}


class TestExtendedProtection:
    """The lab refuses what names another certificate: else nothing here would show anything."""

    @pytest.mark.parametrize("name", ["NTLM", "Negotiate (Kerberos)"])
    async def test_a_login_meant_for_another_connection_is_refused(
        self, name: str, monkeypatch: pytest.MonkeyPatch, in_realm: Kdc
    ) -> None:
        async with WAYS["NTLM"].lab() as other:
            pem = (other._ca._directory / "exchange.pem").read_text()  # type: ignore[attr-defined]
        ours = connection_module.server_end_point
        monkeypatch.setattr(connection_module, "server_end_point", lambda _: ours(pem))
        before = in_realm.wrong_passwords("anna")
        async with site(WAYS[name], extended_protection=True) as (lab, server, endpoint):
            with pytest.raises(CredentialsRefused):
                await server.prove(endpoint, WAYS[name].credentials(lab), "anna@example.com", 5)
            assert wrong_ones(lab, in_realm, before) == 0
        async with site(WAYS[name]) as (lab, server, endpoint):
            await server.prove(endpoint, WAYS[name].credentials(lab), "anna@example.com", 5)


class TestKerberos:
    async def test_without_its_libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for library in ("krb5", "gssapi"):
            monkeypatch.setitem(__import__("sys").modules, library, None)
        assert not kerberos.available()
        async with site(WAYS["Negotiate (Kerberos)"]) as (lab, server, endpoint):
            with pytest.raises(LoginImpossible) as caught:
                await server.prove(
                    endpoint, replace(PASSWORD, type="negotiate"), "anna@example.com", 5
                )
            assert caught.value.code == "kerberos_unavailable"
            await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
            assert lab.counters()["logins"] == {"anna@example.com": 1}

    @pytest.mark.parametrize(
        ("username", "code"),
        [
            ("OTHER\\anna", "kerberos_failed"),
            ("nobody@EXAMPLE.COM", "kerberos_failed"),
            ("anna@elsewhere.example", "kerberos_failed"),
            ("a@n@n@a", "kerberos_failed"),
            ("anna/admin", "kerberos_failed"),
        ],
    )
    async def test_users_that_no_realm_knows(self, username: str, code: str, in_realm: Kdc) -> None:
        before = in_realm.wrong_passwords("anna")
        async with site(WAYS["Negotiate (Kerberos)"]) as (lab, server, endpoint):
            stranger = Credentials("negotiate", username, "hush")
            with pytest.raises(ExchangeError) as caught:
                await server.prove(endpoint, stranger, "anna@example.com", 5)
            assert (type(caught.value), caught.value.code) == (LoginImpossible, code)
            assert wrong_ones(lab, in_realm, before) == 0

    @pytest.mark.parametrize(
        ("named", "ours", "asked"),
        [
            ("EXAMPLE.COM", "example.com", True),
            ("emea.example.com", "EXAMPLE.COM", True),
            ("example.com", "emea.example.com", True),
            ("com", "example.com", False),
            ("badexample.com", "example.com", False),
            ("example.com.evil.example", "example.com", False),
            ("elsewhere.example", "example.com", False),
            ("", "example.com", False),
        ],
    )
    def test_only_realms_of_our_own_tree_are_looked_up(
        self, named: str, ours: str, asked: bool
    ) -> None:
        """Whoever names a realm must not choose whom ENS talks to."""
        assert kerberos.related(named, ours) == asked

    async def test_a_server_that_kerberos_does_not_know(self, in_realm: Kdc) -> None:
        async with site(WAYS["Negotiate (Kerberos)"]) as (lab, server, endpoint):
            unknown = replace(endpoint, url=lab.url)
            with pytest.raises(LoginImpossible) as caught:
                await server.prove(
                    unknown, replace(PASSWORD, type="negotiate"), "anna@example.com", 5
                )
            assert caught.value.code == "kerberos_failed"
            await server.prove(unknown, PASSWORD, "anna@example.com", 5)
            assert lab.counters()["logins"] == {"anna@example.com": 1}

    @pytest.mark.parametrize(
        "username", ["anna", "EXAMPLE\\anna", "anna@example.com", "Example.Com\\anna"]
    )
    async def test_ways_to_name_oneself(self, username: str) -> None:
        async with site(WAYS["Negotiate (Kerberos)"]) as (_, server, endpoint):
            anna = Credentials("negotiate", username, PASSWORDS["anna"])
            await server.prove(endpoint, anna, "anna@example.com", 5)

    async def test_a_key_that_the_server_has_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Old tickets are no wrong password: new ones are asked for, once."""
        anna = replace(PASSWORD, type="negotiate")
        with kdc(tmp_path, PASSWORDS) as realm:
            for name, value in realm.environment.items():
                monkeypatch.setenv(name, value)
            options = {"login_each_request": True}
            async with site(WAYS["Negotiate (Kerberos)"], **options) as (lab, server, endpoint):
                await server.prove(endpoint, anna, "anna@example.com", 5)
                monkeypatch.setenv("KRB5_KTNAME", realm.change_key("localhost"))
                await server.prove(endpoint, anna, "anna@example.com", 5)
                assert lab.counters()["logins"] == {"anna@example.com": 2}
            assert realm.wrong_passwords("anna") == 0

    async def test_nobody_answers(
        self, in_realm: Kdc, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        away = (in_realm.folder / "krb5.conf").read_text().replace(f":{in_realm.port}", ":9")
        (tmp_path / "krb5.conf").write_text(away)
        monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
        async with site(WAYS["Negotiate (Kerberos)"]) as (lab, server, endpoint):
            with pytest.raises(LoginImpossible) as caught:
                await server.prove(
                    endpoint, replace(PASSWORD, type="negotiate"), "anna@example.com", 5
                )
            assert (caught.value.code, caught.value.transient) == ("kdc_unreachable", True)
            # Whoever left us the choice is let in by NTLM.
            await server.prove(endpoint, PASSWORD, "anna@example.com", 5)
            assert lab.counters()["logins"] == {"anna@example.com": 1}
