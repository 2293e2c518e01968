"""What an Exchange says of its version decides what it is asked; nobody is asked for too much."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from apps.exchange.errors import ExchangeError, VersionRefused
from apps.exchange.ews import get_item, versions
from apps.exchange.ews.server import EwsServer
from apps.exchange.ews.versions import KnownVersions, ServerVersion
from apps.exchange.interface import Credentials, Endpoint, Extras
from apps.lab.exchange import EXCHANGES, LabExchange
from apps.lab.exchange import ServerVersion as LabVersion
from tests.exchange import answers

ANNA = Credentials("basic", "anna@example.com", "anna-lab-1")
PREVIEW = Extras(preview=True, conversation=True)


def told(version: str) -> bytes:
    major, minor, build, revision = version.split(".")
    return (
        '<s:Envelope><s:Header><h:ServerVersionInfo xmlns:h="types" '
        f'MajorVersion="{major}" MinorVersion="{minor}" MajorBuildNumber="{build}" '
        f'MinorBuildNumber="{revision}" Version="V2_8"/></s:Header><s:Body/></s:Envelope>'
    ).encode()


@pytest.mark.parametrize(
    ("version", "name", "supported"),
    [
        ("8.3.83.6", "Exchange 2007 SP3", False),
        ("14.2.247.5", "Exchange 2010 SP2", False),
        ("14.3.123.4", "Exchange 2010 SP3", True),
        ("15.0.516.32", "Exchange 2013", True),
        ("15.0.1497.2", "Exchange 2013 SP1", True),
        ("15.1.2507.6", "Exchange 2016", True),
        ("15.2.1544.4", "Exchange 2019", True),
        ("15.2.2562.17", "Exchange Subscription Edition", True),
        ("15.20.8000.1", "Exchange Online", True),
        ("99.1.0.0", "Exchange", True),
    ],
)
def test_what_it_is_called(version: str, name: str, supported: bool) -> None:
    found = versions.read(told(version))
    assert found is not None
    assert (str(found), found.supported) == (f"{name} ({version})", supported)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        answers.response("FindItem", answers.found()).replace(b"MajorVersion", b"Major"),
        told("1.2.3.4").replace(b'"1"', b'"one"'),
        told("9999999.2.3.4"),
        b" " * 4096 + told("15.1.2.3"),
        told("15.1.2.3").replace(b"Version=", b"x" * 700 + b"="),
    ],
)
def test_an_answer_that_does_not_say(raw: bytes) -> None:
    assert versions.read(raw) is None


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(versions, "time", clock)
    return clock


def test_a_farm_is_as_old_as_its_oldest_member(time: Time) -> None:
    known = KnownVersions()
    assert not known.have_previews("farm")
    known.learn("farm", told("15.1.2507.6"))
    assert known.have_previews("farm")
    known.learn("farm", told("14.3.513.0"))
    known.learn("farm", told("15.1.2507.6"))
    assert not known.have_previews("farm") and not known.have_previews("other")
    assert [version.major for version in known.of("farm")] == [14, 15]
    # The last of the old ones is switched off.
    time.now += 3000
    known.learn("farm", told("15.1.2507.6"))
    time.now += 601
    assert known.have_previews("farm")


def test_a_refusal_counts_whatever_the_server_calls_itself(time: Time) -> None:
    known = KnownVersions()
    known.learn("farm", told("15.1.2507.6"))
    known.refused("farm")
    known.learn("farm", told("15.1.2507.6"))
    assert not known.have_previews("farm")
    time.now += 3601
    known.learn("farm", told("15.1.2507.6"))
    assert known.have_previews("farm")


def test_what_is_remembered_is_bounded() -> None:
    known = KnownVersions()
    for number in range(1100):
        known.learn(f"host{number}", told("15.1.2507.6"))
        known.learn("often", told(f"15.1.{number}.0"))
    assert known.of("host0") == () and known.of("host1099")
    assert len(known.of("often")) == 8 and known.of("often")[-1].build == 1099
    assert len(known._hosts) == 1000


@asynccontextmanager
async def lab_of(
    kinds: Sequence[str], seen: list[bytes]
) -> AsyncIterator[tuple[LabExchange, EwsServer, Endpoint]]:
    def keep(direction: str, body: bytes) -> None:
        if direction == "request":
            seen.append(body)

    async with LabExchange(version=[EXCHANGES[kind] for kind in kinds], on_message=keep) as lab:
        lab.add_demo_accounts()
        server = EwsServer("0.1.0")
        networks = (ip_network("127.0.0.0/8"),)
        yield lab, server, Endpoint(lab.url, ca_pem=lab.ca_pem, exceptions=networks)
        await server.close()


def letter(lab: LabExchange) -> str:
    return lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch", "Hi Anna")


@pytest.mark.parametrize("kind", EXCHANGES)
async def test_each_version_is_asked_what_it_knows(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bytes] = []
    with caplog.at_level(logging.INFO, logger="apps.exchange"):
        async with lab_of([kind], seen) as (lab, server, endpoint):
            await server.prove(endpoint, ANNA, "anna@example.com", 5)
            found = await server.describe(endpoint, ANNA, [letter(lab)], True, 5, PREVIEW)
            await server.newest_unread(endpoint, ANNA, lab.clock.now(), 5, 5, PREVIEW)
    (item,) = found.items.values()
    assert (item.subject, item.preview, found.unread_count) == ("Lunch", "Hi Anna", 1)
    asked = {body.partition(b'Version Version="')[2].partition(b'"')[0] for body in seen}
    newer = set() if kind == "2010SP3" else {b"Exchange2013"}
    assert asked == {b"Exchange2010_SP2"} | newer
    (product,) = server.products(endpoint.url)
    assert product.supported and product.name.startswith("Exchange ")
    assert caplog.text.count("answers") == 1 and product.name in caplog.text


@pytest.mark.parametrize(
    "members", [["2010SP3", "2016"], ["2016", "2010SP3"], ["2019", "2019", "2010SP3", "2016"]]
)
async def test_two_versions_behind_one_name_never_flap(members: list[str]) -> None:
    seen: list[bytes] = []
    async with lab_of(members, seen) as (lab, server, endpoint):
        item_id = letter(lab)
        for _ in range(12):
            found = await server.describe(endpoint, ANNA, [item_id], True, 5, PREVIEW)
            assert found.items[item_id].preview == "Hi Anna"
    newer = [body for body in seen if b'"Exchange2013"' in body]
    # Before the oldest member had answered one may have been asked too much, then none.
    assert len(newer) <= 2
    assert {product.name for product in server.products(endpoint.url)} == {
        str(ServerVersion(*_numbers(EXCHANGES[kind]))) for kind in members
    }


@pytest.mark.parametrize(("major", "minor"), [(8, 3), (14, 1)])
async def test_a_server_that_is_too_old_says_so_and_is_known_by_it(major: int, minor: int) -> None:
    async with LabExchange(version=LabVersion(major, minor, 1, 2)) as lab:
        lab.add_demo_accounts()
        server = EwsServer("0.1.0")
        networks = (ip_network("127.0.0.0/8"),)
        endpoint = Endpoint(lab.url, ca_pem=lab.ca_pem, exceptions=networks)
        with pytest.raises(VersionRefused):
            await server.prove(endpoint, ANNA, "anna@example.com", 5)
        (product,) = server.products(endpoint.url)
        assert not product.supported and "Exchange 20" in product.name
        await server.close()


def _numbers(version: LabVersion) -> tuple[int, int, int, int]:
    return version.major, version.minor, version.build, version.revision


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"Exchange2010_SP2", b"Exchange2013"),
        lambda body: body.replace(b"message:IsRead", b"item:Preview"),
        lambda body: body.replace(b"Exchange2010_SP2", b"Exchange2099"),
    ],
)
async def test_the_lab_refuses_what_its_version_does_not_know(
    kind: str, change: Callable[[bytes], bytes]
) -> None:
    async with lab_of([kind], []) as (lab, server, endpoint):
        body = change(get_item.request([letter(lab)]))
        knows = kind != "2010SP3" and b'"Exchange2013"' in body
        try:
            raw = await server._call(endpoint, ANNA, body, 5)
            get_item.parse(raw, ["x"])
        except ExchangeError:
            assert not knows
        else:
            assert knows
