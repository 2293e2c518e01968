"""Nobody hears of another user's mail, and ENS runs no errands for strangers.

Every intruder here has a valid API token, as every phone of the organization has.
"""

from __future__ import annotations

import secrets
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest
import requests

from apps.lab.phone import Account, Phone, Refused
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.stand import OG
from apps.lab.stand.waiting import until
from tests.e2e.road import Road, second_mail_server
from tests.e2e.webhooks import webhooks_asked_for

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def victim(road: Road) -> DemoUser:
    return road.user("victim")


@pytest.fixture
def phone(road: Road, victim: DemoUser) -> Phone:
    """The victim's own."""
    return road.joined(victim, "victim's phone")


def test_the_address_without_the_password(road: Road, victim: DemoUser, phone: Phone) -> None:
    guess = road.stand.phone(replace(road.stand.account(victim), password="guess"), "intruder")
    assert (guess.join(), guess.code) == ("refused", "credentials_refused")
    # One attempt and no more, however often it is asked for: the victim's account must not lock.
    assert road.exchange.refused_logins(victim) == 1
    assert (guess.join(), guess.code) == ("refused", "credentials_refused")
    guess.check_in(credentials=True)
    _hears_nothing(road, victim, phone, guess)
    assert road.exchange.refused_logins(victim) == 1


def test_a_refused_stranger_does_not_silence_the_victim(
    road: Road, victim: DemoUser, phone: Phone
) -> None:
    guess = road.stand.phone(replace(road.stand.account(victim), password="guess"), "intruder")
    guess.join()
    road.exchange.deliver(victim, "Still told")
    assert road.rings(phone, "Still told", 5).title == "Ben Carter"
    assert phone.check_in().do == "nothing"


@pytest.mark.parametrize("right", ["", "Reviewer", "FullAccess"])
def test_credentials_of_another_user(
    road: Road, victim: DemoUser, phone: Phone, right: str
) -> None:
    intruder = road.user("intruder")
    if right:
        road.exchange.grant(victim, intruder, "inbox" if right == "Reviewer" else "")
    account = replace(road.stand.account(intruder), email=victim.address)
    other = road.stand.phone(account, "intruder")
    assert (other.join(), other.code) == ("refused", "not_this_mailbox")
    _hears_nothing(road, victim, phone, other)
    with suppress(Refused):
        other.check_in(credentials=True)
    _hears_nothing(road, victim, phone, other)
    assert {held["owner"] for held in road.exchange.subscriptions(victim)} == {victim.address}


def test_a_phone_that_was_let_in_cannot_move_to_another_mailbox(
    road: Road, victim: DemoUser, phone: Phone
) -> None:
    intruder = road.user("intruder")
    other = road.joined(intruder, "intruder")
    other.account = replace(other.account, email=victim.address)
    with pytest.raises(Refused, match="not_this_mailbox"):
        other.check_in(credentials=True)
    _hears_nothing(road, victim, phone, other)


def test_a_phone_whose_password_was_changed_hears_no_more(road: Road, victim: DemoUser) -> None:
    thief = road.joined(victim, "stolen phone")
    road.exchange.set_password(victim, "a new one")
    road.exchange.deliver(victim, "For the owner alone")
    until("a refused login", lambda: road.exchange.refused_logins(victim) == 1, 10)
    changed = replace(victim, password="a new one")
    phone = road.joined(changed, "new phone")
    road.exchange.deliver(victim, "This one too")
    road.rings(phone, "This one too")
    road.quiet()
    assert "This one too" not in road.subjects(thief)
    assert "For the owner alone" not in road.subjects(thief)


def test_the_same_address_on_another_mail_server(
    road: Road, victim: DemoUser, phone: Phone
) -> None:
    with second_mail_server(road) as (url, there):
        own = replace(victim, username="EXAMPLE\\intruder", password="mine")
        there.add(own)
        intruder = road.stand.phone(
            Account(victim.address, own.username, own.password, url), "intruder"
        )
        # It is their mailbox, over there, and they hear of its mail: of that and nothing else.
        assert intruder.join() == "active"
        there.deliver(victim, "Over there")
        road.rings(intruder, "Over there")
        road.exchange.deliver(victim, "Secret")
        road.rings(phone, "Secret")
        road.quiet()
        assert road.subjects(intruder) == ["Over there"]
        assert road.subjects(phone) == ["Secret"]
        # The victim's password is not carried there either.
        assert there.refused_logins(victim) == 0
        # Their own password at the victim's server is a wrong one.
        moved = replace(intruder.account, ews_url=road.stand.ews_url)
        again = road.stand.phone(moved, "intruder")
        assert (again.join(), again.code) == ("refused", "credentials_refused")
        intruder.unsubscribe()


def test_an_api_token_that_is_none(road: Road, victim: DemoUser) -> None:
    token = road.stand.facts.api_token
    before = road.exchange.connections()
    for wrong in ("", "ens_", "ens_" + "x" * 43, token[:-1], token.swapcase(), token + "x"):
        answers = [
            requests.post(
                f"{road.stand.link_address}/{call}",
                json={"jwe": "a.b.c.d.e"} if call == "subscribe" else {},
                headers={"Authorization": f"Bearer {wrong}"},
                timeout=10,
            )
            for call in ("publickey", "subscribe")
        ]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert {answer.json()["code"] for answer in answers} == {"unauthorized"}
    assert road.exchange.connections() == before


# {port} is where somebody listens who must not be called, {lab} the listed host of the lab.
FORBIDDEN_URLS = [
    "https://127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://localhost:{port}/EWS/Exchange.asmx",
    "https://LOCALHOST.:{port}/EWS/Exchange.asmx",
    "https://127.1:{port}/EWS/Exchange.asmx",
    "https://127.0.0.2:{port}/EWS/Exchange.asmx",
    "https://0:{port}/EWS/Exchange.asmx",
    "https://0.0.0.0:{port}/EWS/Exchange.asmx",
    "https://2130706433:{port}/EWS/Exchange.asmx",
    "https://0x7f000001:{port}/EWS/Exchange.asmx",
    "https://0177.0.0.1:{port}/EWS/Exchange.asmx",
    "https://[::1]:{port}/EWS/Exchange.asmx",
    "https://[::]:{port}/EWS/Exchange.asmx",
    "https://[::ffff:127.0.0.1]:{port}/EWS/Exchange.asmx",
    "https://[64:ff9b::7f00:1]:{port}/EWS/Exchange.asmx",
    "https://①②⑦.⓪.⓪.①:{port}/EWS/Exchange.asmx",
    "https://169.254.169.254/latest/meta-data",
    "https://[fe80::1]:{port}/EWS/Exchange.asmx",
    "https://mail.elsewhere.example/EWS/Exchange.asmx",
    "https://{lab}@127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://{lab}\\@127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://127.0.0.1:{port}#@{lab}/EWS/Exchange.asmx",
    "https://127.0.0.1:{port}?{lab}/EWS/Exchange.asmx",
    "https://{lab}.elsewhere.example/EWS/Exchange.asmx",
    "https://{lab}./EWS/Exchange.asmx",
    "http://127.0.0.1:{port}/EWS/Exchange.asmx",
    "http://{lab}/EWS/Exchange.asmx",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}",
]


def test_an_ews_url_of_a_strangers_choice(road: Road, victim: DemoUser) -> None:
    lab = road.stand.exchange_hosts[0]
    with _listener() as (port, connected):
        before = road.exchange.connections()
        for template in FORBIDDEN_URLS:
            url = template.format(port=port, lab=lab)
            # Another address each time: joins are limited by address.
            account = Account(f"{secrets.token_hex(4)}@example.com", "name", "password", url)
            phone = road.stand.phone(account)
            with pytest.raises(Refused) as refused:
                phone.subscribe()
            assert (refused.value.status, refused.value.code) == (400, "ews_url_not_allowed"), url
        # The join that follows went its whole way; what the others had begun would have too.
        road.joined(victim)
        assert connected == []
        assert road.exchange.connections() - before <= 2


def test_a_mail_system_on_a_forbidden_address_cannot_be_listed(road: Road) -> None:
    for host in ("[::1]:443", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"):
        with pytest.raises(Exception, match="ews_url_address_refused"):
            road.stand.manage(
                ["ens_mail_system", "add", "--og", OG, "--name", "Bad", "--host", host]
            )


def test_a_webhook_with_a_wrong_mac(road: Road, victim: DemoUser) -> None:
    with webhooks_asked_for(road.stand) as urls:
        phone = road.joined(victim)
    (webhook,) = urls
    item = road.exchange.deliver(victim, "Announced once")
    road.rings(phone, "Announced once")
    road.quiet()
    calls, pushes, entries = road.exchange.calls(), road.pushes(phone), _entries_ever(road)

    (held,) = road.exchange.subscriptions(victim)
    body = webhook.new_mail(held["id"], item)
    name, key_id, mac = webhook.ticket.split(".")
    other_mac = ("B" if mac[0] == "A" else "A") + mac[1:]
    other_name = ("B" if name[0] == "A" else "A") + name[1:]
    tickets = [
        f"{name}.{key_id}.{other_mac}",
        f"{other_name}.{key_id}.{mac}",
        f"{name}.{key_id}9.{mac}",
        f"{name}.{key_id}.{mac[:-1]}",
        f"{name}.{key_id}.",
        f"{name}..{mac}",
        f"{name}.{mac}",
        name,
        "",
        "x" * 2000,
        "\x00",
    ]
    for ticket in tickets:
        answer = webhook.post(body, ticket=ticket)
        assert answer.status_code == 404, ticket
        assert webhook.creds not in answer.text
    assert webhook.post(body, method="GET", ticket="").status_code == 404
    road.quiet()
    assert road.exchange.calls() == calls
    assert road.pushes(phone) == pushes
    assert _entries_ever(road) == entries

    # The same body under the right MAC is taken: the test's own body was a good one.
    assert "OK" in webhook.post(body).text
    assert _entries_ever(road) == entries + 1


def _hears_nothing(road: Road, victim: DemoUser, phone: Phone, intruder: Phone) -> None:
    """The victim's mail rings at the victim's phone and nowhere else."""
    secret = f"Secret {secrets.token_hex(4)}"
    item = road.exchange.deliver(victim, secret)
    assert road.rings(phone, secret).title == "Ben Carter"
    road.exchange.read(item)
    road.quiet()
    # One that was let in to its own, empty mailbox has heard of that one's badge.
    assert [push for push in road.pushes(intruder) if push.kind != "badge" or push.badge] == []


@contextmanager
def _listener() -> Iterator[tuple[int, list[str]]]:
    """A port on this machine, on all its addresses, and who connected to it."""
    connected: list[str] = []
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    server = socket.create_server(("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                connected.append("somebody")
                connection.close()

    threading.Thread(target=accept, daemon=True).start()
    port = server.getsockname()[1]
    try:
        # It does hear of connections.
        socket.create_connection(("127.0.0.1", port)).close()
        while not connected:
            pass
        connected.clear()
        yield port, connected
    finally:
        server.close()


def _entries_ever(road: Road) -> int:
    """How many entries ENS's event log ever took: SQLite's own counter of the table's ids."""
    file = road.stand.home / "ens" / "data" / "ens.sqlite3"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        row = database.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'eventlog_logentry'"
        ).fetchone()
    return int(row[0]) if row else 0
