"""A phone that knows no EWS address: ENS finds it by the user's mail address, and it rings."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from apps.lab.phone import Phone
from apps.lab.phone.client import Account, EnsClient
from apps.lab.phone.pushes import Apns
from apps.lab.stand.facts import APP_ID, DemoUser
from apps.lab.stand.waiting import until
from tests.e2e.autodiscover import DNS_PORT
from tests.e2e.road import RING_S, Road
from tests.exchange.dns_server import NameServer, in_thread

pytestmark = pytest.mark.timeout(150)

# Of names below `localhost` nobody outside is asked.
DOMAIN = "corp.localhost"
RECORD = f"_autodiscover._tcp.{DOMAIN}"


@pytest.fixture(scope="module")
def dns() -> Iterator[NameServer]:
    with in_thread({}, DNS_PORT) as server:
        yield server


@pytest.fixture(scope="module")
def ens(stand: object) -> EnsClient:
    """A group of its own, whose mail system has a domain and no default address."""
    road = Road(stand)  # type: ignore[arg-type]
    og, host = f"Found {secrets.token_hex(4)}", f"localhost:{_port(road)}"
    *_, token = road.stand.manage(
        ["ens_og", "create", og],
        [
            *("ens_mail_system", "add", "--og", og, "--name", "Exchange", "--host", host),
            *("--ca-file", str(road.stand.exchange_ca), "--smtp-domain", DOMAIN),
        ],
        ["ens_token", "create", "--og", og, "--label", "lab"],
    )
    road.stand.make_keys()
    made = EnsClient(road.stand.link_address, token)
    until("keys for the new group", lambda: _has_keys(made), 30)
    return made


def _port(road: Road) -> int:
    return urlsplit(road.stand.ews_url).port or 0


def _has_keys(ens: EnsClient) -> bool:
    try:
        ens.public_key()
    except Exception:
        return False
    return True


def _user(road: Road) -> DemoUser:
    name = f"anna-{secrets.token_hex(4)}"
    password = secrets.token_hex(8)
    user = DemoUser("Anna", f"{name}@{DOMAIN}", f"CORP\\{name}", password)
    road.exchange.add(user)
    return user


def _phone(road: Road, ens: EnsClient, user: DemoUser) -> Phone:
    account = Account(user.address, user.username, user.password)
    return Phone(account, ens, Apns(road.stand.apns_control), app_id=APP_ID)


def test_a_phone_without_an_address_joins_and_rings(
    road: Road, ens: EnsClient, dns: NameServer
) -> None:
    dns.records[RECORD] = [f"0 0 {_port(road)} localhost."]
    user = _user(road)
    phone = _phone(road, ens, user)
    assert phone.join() == "active", phone.code
    assert set(dns.asked) == {RECORD}
    road.exchange.deliver(user, "Found you")
    road.rings(phone, "Found you")
    # The daily proof goes where it went well before, whatever has become of DNS.
    asked = len(dns.asked)
    dns.records.clear()
    phone.check_in(credentials=True)
    until("a new proof", lambda: phone.check_in().do == "nothing", RING_S)
    assert phone.state == "active"
    assert len(dns.asked) == asked


def test_a_phone_hears_that_nothing_was_found(road: Road, ens: EnsClient, dns: NameServer) -> None:
    # Another domain than the one that workers remember; the only mail system is asked for it.
    user = _user(road)
    account = Account(f"anna@other.{DOMAIN}", user.username, user.password)
    phone = Phone(account, ens, Apns(road.stand.apns_control), app_id=APP_ID)
    assert phone.join() == "refused"
    assert phone.code == "autodiscover_failed"
    assert road.exchange.refused_logins(user) == 0
