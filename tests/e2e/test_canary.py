"""The canary: after a demo with everything marked, no mark stands anywhere but in the pushes.

Searched are the directories of ENS and of its relay (databases with their -wal, the broker's
folders, keys and settings), or what PostgreSQL and Redis hold in their place; the logs of their
processes, at their most talkative; and every answer to calls that go wrong. The lab's own
directories are left out: in life they are Exchange's, Apple's and Google's.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from apps.lab.phone import Phone, Refused
from apps.lab.phone.client import Account
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.stand import DEPLOYMENT, Layout, Stand
from apps.lab.stand.waiting import until
from tests.e2e.grounds import (
    Embedded,
    Ground,
    Pairs,
    Servers,
    rename_in_sqlite,
    skip_without_servers,
)
from tests.e2e.marks import Finding, Searcher
from tests.e2e.road import Road
from tests.e2e.webhooks import Webhook, webhooks_asked_for
from tests.exchange.auth.test_client_certificate import file as p12_file
from tests.exchange.auth.test_client_certificate import rsa_key

pytestmark = pytest.mark.timeout(480)

SENDER_NAME = 'Sündér & Söhne "Cánary" ' + secrets.token_hex(6)
SENDER_ADDRESS = f"Sender.{secrets.token_hex(6)}@Partner.Example"
METRICS_TOKEN = secrets.token_urlsafe(32)


_SHOW_SIGNING_KEY = """
from apps.keypairs import signing
from apps.tenants.models import OrganizationGroup
signer = signing.current(OrganizationGroup.objects.get(name="Lab"))
number = signer._key.raw_value.private_numbers().private_value
"""


_NAME_A_PROXY = """
from apps.subscriptions.way import seal_proxy_login
from apps.tenants.models import MailSystem, OrganizationGroup
system = MailSystem.objects.create(
    og=OrganizationGroup.objects.get(name="Lab"), name="Behind", hosts=["behind.example"],
    autodiscover=False, proxy_url="http://proxy.example:8080", proxy_auth="basic",
)
seal_proxy_login(system, "svc", open({file!r}).read())
system.save()
"""


@dataclass
class Canary:
    """The marked users with their phones, and the marks of all that was sent so far."""

    road: Road
    ground: Ground
    marks: dict[str, str] = field(default_factory=dict)
    mails: int = 0

    def user(self, name: str, password: str) -> DemoUser:
        user = DemoUser(
            f"Name {secrets.token_hex(6)}",
            f"Address.{secrets.token_hex(6)}@Example.com",
            f"DOMAIN-{secrets.token_hex(5)}\\user-{secrets.token_hex(5)}",
            password,
        )
        self.road.exchange.add(user)
        self.marks |= {
            f"{name}'s display name": user.name,
            f"{name}'s address": user.address,
            f"{name}'s user id": hashlib.sha256(user.address.lower().encode()).hexdigest(),
            f"{name}'s user name": user.username.rpartition("\\")[2],
            f"{name}'s password": password,
        }
        return user

    def phone(self, user: DemoUser, name: str, **options: Any) -> Phone:
        phone = self.road.phone(user, "a phone", **options)
        self.marks[f"{name}'s push token"] = phone.token
        for key in phone.content_keys:
            self.marks[f"{name}'s content key"] = _hex(key.private_jwk["d"])
        return phone

    def phone_that_wishes(self, user: DemoUser, name: str) -> Phone:
        """A phone with a content key, VIPs, and another account beside this one."""
        vip = f"Vip.{secrets.token_hex(6)}@Partner.Example"
        also = f"Also.{secrets.token_hex(6)}@Example.com"
        self.marks |= {
            "a VIP": vip,
            "another account": also,
            "another account's user id": hashlib.sha256(also.lower().encode()).hexdigest(),
        }
        wishes = {"vips": [vip, SENDER_ADDRESS]}
        accounts = [user.address, also]
        return self.phone(user, name, encrypted=True, wishes=wishes, accounts=accounts)

    def note_signing_key(self) -> None:
        """Our own mark: the private half of what signs announcements."""
        # Beside the stand's home, which is searched.
        file = self.road.stand.home.parent / "signing-key"
        code = _SHOW_SIGNING_KEY + f"open({str(file)!r}, 'w').write(f'{{number:064x}}')\n"
        self.road.stand.manage(["shell", "--no-imports", "-c", code])
        self.marks["the signing key"] = file.read_text("ascii")

    def note_secret(self, phone: Phone, name: str) -> None:
        assert phone.device is not None
        self.marks[f"{name}'s secret"] = phone.device.secret

    def deliver(self, user: DemoUser, **more: object) -> str:
        """A marked mail; returns its subject."""
        self.mails += 1
        subject = f'Sübject <{secrets.token_hex(6)}> / "{self.mails}"'
        self.marks[f"subject {self.mails}"] = subject
        self.road.exchange.deliver(
            user, subject, from_name=SENDER_NAME, from_address=SENDER_ADDRESS, **more
        )
        return subject

    def searcher(self) -> Searcher:
        assert all(len(mark) > 10 for mark in self.marks.values())
        return Searcher(self.marks)

    def findings(self, searcher: Searcher | None = None, *, running: bool = True) -> set[Finding]:
        """Every mark in what belongs to ENS and to its relay; servers must be running to tell."""
        searcher, home = searcher or self.searcher(), self.road.stand.home
        found = self.in_logs(searcher)
        for place, content in self.ground.dump() if running else ():
            found |= searcher.in_bytes(content, place)
        for folder in self.ground.folders:
            found |= searcher.in_folder(home / folder)
        return found

    def in_logs(self, searcher: Searcher) -> set[Finding]:
        """What a searcher finds in the logs of ENS, of its relay and of the servers below."""
        logs = [self.road.stand.logs / f"{name}.log" for name in self.ground.logs]
        return {
            finding for log in logs for finding in searcher.in_bytes(log.read_bytes(), log.name)
        }


@pytest.fixture(params=["embedded", "servers"])
def canary(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Canary]:
    """On SQLite and folders, and on PostgreSQL and Redis."""
    on_servers = request.param == "servers"
    if on_servers:
        skip_without_servers()
    layout = Layout(postgres=on_servers, redis=on_servers)
    settings = {
        "LOG_LEVEL": "DEBUG",
        "ROLES": "device-api,notify,metrics",
        "METRICS_TOKEN": METRICS_TOKEN,
    }
    with Stand(tmp_path / "stand", settings=settings, record=True, layout=layout) as stand:
        canary = Canary(Road(stand), Servers(stand) if on_servers else Embedded(stand))
        canary.marks |= {
            "the API token": stand.facts.api_token,
            "the sender": SENDER_NAME,
            "the sender's address": SENDER_ADDRESS,
        }
        yield canary


def test_no_mark_stands_anywhere_but_in_the_pushes(canary: Canary) -> None:
    road = canary.road
    owner = canary.user("the owner", f'Pä55/w+rd "q" {secrets.token_hex(6)}')
    # Too long for the webhook URL: these credentials are kept the other way round.
    other = canary.user("the other", f"{secrets.token_hex(6)}" + "ä" * 400)
    first = canary.phone(owner, "the first")
    second = canary.phone_that_wishes(owner, "the second")
    third = canary.phone(other, "the third", android=True)
    _push_apps(canary)
    with webhooks_asked_for(road.stand) as urls:
        for phone, name in ((first, "the first"), (second, "the second"), (third, "the third")):
            assert phone.join() == "active", phone.code
            canary.note_secret(phone, name)
        _everyday(canary, owner, first)
        _everyday(canary, other, third)
    _check_the_pushes(canary, owner, first)
    _check_the_pushes(canary, other, third)
    canary.note_signing_key()
    assert canary.road.subjects(second)[-1] in canary.marks.values()
    raw = repr([push.payload for push in canary.road.pushes(second)])
    assert canary.searcher().in_bytes(raw.encode(), "an encrypted push") == set()

    _refused_joins(canary, owner)
    _other_credentials(canary, owner)
    _proxy_login(canary)
    _trouble_at_exchange(canary, owner, first)
    _trouble_at_apns(canary, owner, first)
    _trouble_at_home(canary, owner, first)
    assert canary.findings() == set()

    _pages_for_operators(canary)
    _calls_that_go_wrong(canary, urls, first)
    _broken_databases(canary, urls, owner, first)
    second.unsubscribe()
    first.unsubscribe()
    third.unsubscribe()
    road.quiet()
    assert canary.findings() == set()
    _marks_would_be_found(canary)
    road.stand.stop()
    assert canary.findings(running=False) == set()
    # Sealed, they stand in the database while an entry is in flight; in a log they never do.
    sealed = Searcher({"creds": urls[0].creds, "ticket": urls[0].ticket})
    assert canary.in_logs(sealed) == set()
    _the_search_was_one(canary)


def _push_apps(canary: Canary) -> None:
    """What the relay pushes with: Apple's and Google's keys, and one for Amazon, added now."""
    stand = canary.road.stand
    apple = load_pem_private_key(stand.provider_key.p8_file.read_bytes(), None)
    account = json.loads(stand.service_account.file.read_text())
    google = load_pem_private_key(account["private_key"].encode(), None)
    assert isinstance(apple, EllipticCurvePrivateKey) and isinstance(google, RSAPrivateKey)
    # Of the PEM files a line, and of the keys the numbers that must stay secret.
    canary.marks |= {
        "Apple's key": f"{apple.private_numbers().private_value:064x}",
        "Apple's key in PEM": stand.provider_key.p8_file.read_text().splitlines()[1],
        "the service account's key": f"{google.private_numbers().p:0256x}",
        "the service account's key in PEM": account["private_key"].splitlines()[12],
        "Amazon's key": (amazon := secrets.token_urlsafe(30).replace("-", "+").replace("_", "/")),
    }
    content = {
        "region": "eu-central-1",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": amazon,
        "platform_application_arn": "arn:aws:sns:eu-central-1:123456789012:app/GCM/mail",
    }
    file = stand.home.parent / "sns.json"
    file.write_text(json.dumps(content))
    words = ("--app", "com.example.cloud", "--share", DEPLOYMENT, "--sns-fcm", str(file))
    (told,) = stand.manage_relay(["relay_push_app", "add", *words])
    assert "com.example.cloud through sns" in told
    assert canary.searcher().in_bytes(told.encode(), "what the command said") == set()


def _hex(base64url: str) -> str:
    return urlsafe_b64decode(base64url + "=" * (-len(base64url) % 4)).hex()


def _everyday(canary: Canary, user: DemoUser, phone: Phone) -> None:
    """Mail of every kind, read and moved; a check-in with credentials."""
    road = canary.road
    for kind in ("Message", "MeetingRequest", "MeetingResponse", "MeetingCancellation"):
        subject = canary.deliver(user, kind=kind)
        assert road.rings(phone, subject).title == SENDER_NAME
    newest = road.exchange.items(user)[0]["item_id"]
    road.exchange.read(newest)
    road.badge(phone, 3)
    phone.check_in(credentials=True)
    until("a proof", lambda: phone.check_in().do == "nothing", 15)


def _check_the_pushes(canary: Canary, user: DemoUser, phone: Phone) -> None:
    """What left for Apple or Google carries sender and subject, and no other mark."""
    allowed = {"the sender"} | {name for name in canary.marks if name.startswith("subject")}
    told = "".join(repr(push.payload) for push in canary.road.pushes(phone))
    found = {finding.mark for finding in canary.searcher().in_bytes(told.encode(), "a push")}
    assert "the sender" in found
    assert found <= allowed
    assert canary.road.subjects(phone)[-1] in canary.marks.values()


def _refused_joins(canary: Canary, owner: DemoUser) -> None:
    """A wrong password, another's mailbox, and requests that are none."""
    road = canary.road
    wrong = f"wrong-{secrets.token_hex(6)}"
    canary.marks["the wrong password"] = wrong
    guess = canary.phone(replace(owner, password=wrong), "the guessing phone")
    assert (guess.join(), guess.code) == ("refused", "credentials_refused")
    stranger = canary.user("the stranger", f"Stranger-{secrets.token_hex(6)}")
    account = replace(road.stand.account(stranger), email=owner.address)
    other = road.stand.phone(account, "a phone")
    assert (other.join(), other.code) == ("refused", "not_this_mailbox")
    elsewhere = replace(account, ews_url=f"https://{secrets.token_hex(8)}.example/EWS")
    canary.marks["a forbidden EWS URL"] = str(elsewhere.ews_url)
    with pytest.raises(Refused, match="ews_url_not_allowed"):
        road.stand.phone(elsewhere, "a phone").subscribe()


@dataclass(frozen=True)
class _Bearing(Account):
    """An account whose phone brings other credentials than a password."""

    brought: dict[str, Any] = field(default_factory=dict, repr=False)

    def credentials(self) -> dict[str, Any]:
        return self.brought


def _other_credentials(canary: Canary, owner: DemoUser) -> None:
    """A token, and a client certificate, at an Exchange that wants neither."""
    stand = canary.road.stand
    claims = urlsafe_b64encode(json.dumps({"iss": "x", "oid": secrets.token_hex(16)}).encode())
    token = f"{secrets.token_urlsafe(12)}.{claims.decode().rstrip('=')}.{secrets.token_urlsafe(30)}"
    key, password = rsa_key(), f"p12 {secrets.token_hex(8)}"
    raw = p12_file(key, password=password)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    canary.marks |= {
        "a bearer token": token,
        "the token's end": token.rpartition(".")[2],
        "a certificate's password": password,
        "a certificate's key": f"{key.private_numbers().d:0512x}",
        "a certificate's key in PEM": pem.splitlines()[5],
    }
    bearer = {"type": "oauth", "token": token, "expires_at": int(time.time()) + 3600}
    packed = {"type": "certificate", "pkcs12": b64encode(raw).decode()}
    for number, brought in enumerate(
        (bearer, packed | {"pkcs12_password": password}, packed | {"pkcs12_password": token})
    ):
        account = _Bearing(*astuple(stand.account(owner)), brought=brought)
        eas, uem = (f"{kind}-{secrets.token_hex(12)}" for kind in ("eas", "uem"))
        canary.marks |= {f"EAS id {number}": eas, f"UEM id {number}": uem}
        phone = stand.phone(account, "a phone", eas_id=eas)
        phone._ref["uem_id"] = uem
        canary.marks[f"bearing phone {number}'s push token"] = phone.token
        if number == 2:
            with pytest.raises(Refused, match="certificate_unusable"):
                phone.subscribe()
        elif number == 1:
            assert (phone.join(), phone.code) == ("refused", "credentials_refused")
        else:
            phone.subscribe()
            # It is tried again and again, for an administrator may mend it.
            time.sleep(3)
            assert canary.findings() == set()
            phone.unsubscribe()


def _proxy_login(canary: Canary) -> None:
    """The password of a proxy, and what the check of that mail system says."""
    stand = canary.road.stand
    canary.marks["the proxy's password"] = password = f"proxy {secrets.token_hex(8)}"
    file = stand.home.parent / "proxy-password"
    file.write_text(password)
    stand.manage(["shell", "--no-imports", "-c", _NAME_A_PROXY.format(file=str(file))])


def _trouble_at_exchange(canary: Canary, user: DemoUser, phone: Phone) -> None:
    road = canary.road
    for number, trouble in enumerate(
        ({"kind": "busy", "back_off_ms": 60_000}, {"kind": "unavailable"}), 1
    ):
        road.exchange.trouble(user=user, **trouble)
        canary.deliver(user)
        road.plain(phone, number)
        road.exchange.clear_faults()
    # Else the server is left alone for a while.
    road.stand.kill("worker")
    # While details are waited for, the entry lies in the log.
    road.exchange.trouble("busy", user, seconds=3, back_off_ms=2000)
    subject = canary.deliver(user)
    until("an entry in the log", lambda: canary.ground.entries() > 0, 10)
    assert canary.findings() == set()
    road.rings(phone, subject, 30)
    road.exchange.clear_faults()


def _trouble_at_apns(canary: Canary, user: DemoUser, phone: Phone) -> None:
    faults: list[dict[str, object]] = [
        {"action": "refuse", "reason": "InternalServerError"},
        {"action": "refuse", "reason": "TooManyRequests", "retry_after_s": 1},
        {"action": "refuse", "reason": "PayloadTooLarge"},
        {"action": "drop"},
    ]
    for fault in faults:
        canary.road.apns_fault(fault | {"token": phone.token})
        subject = canary.deliver(user)
        if fault.get("reason") != "PayloadTooLarge":
            canary.road.rings(phone, subject, 30)


def _trouble_at_home(canary: Canary, user: DemoUser, phone: Phone) -> None:
    """The relay is away for a moment."""
    supervisor = canary.road.stand.supervisor
    supervisor.stop("relay")
    subject = canary.deliver(user)
    until("an entry in the log", lambda: canary.ground.entries() > 0, 10)
    canary.road.quiet()
    assert canary.findings() == set()
    supervisor.start_again("relay")
    canary.road.rings(phone, subject, 60)


def _pages_for_operators(canary: Canary) -> None:
    """Metrics, and whether all is ready."""
    stand = canary.road.stand
    bearer = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    metrics_url = stand.link_address.replace("/api/ens", "/metrics")
    metrics = requests.get(metrics_url, headers=bearer, timeout=20)
    assert "ens_" in metrics.text
    ready = [f"{stand.link_address}/ready", f"{stand.relay_url}/nws/ready"]
    _search_answers(canary, [metrics, *(requests.get(url, timeout=20) for url in ready)])


def _calls_that_go_wrong(canary: Canary, urls: list[Webhook], phone: Phone) -> None:
    """Marks in places where they don't belong, and bodies that are none: what is answered?"""
    stand = canary.road.stand
    base, marks = stand.link_address, canary.marks
    password, token = marks["the owner's password"], marks["the API token"]
    bearer = {"Authorization": f"Bearer {token}"}
    answers = [
        requests.request(method, url, **how, timeout=20)  # type: ignore[arg-type]
        for method, url, how in [
            ("GET", f"{base}/{password}", {}),
            ("GET", f"{base}/alive", {"params": {"a": password}, "headers": bearer}),
            ("GET", f"{base}/subscribe", {"headers": bearer}),
            ("POST", f"{base}/subscribe", {"data": password.encode(), "headers": bearer}),
            ("POST", f"{base}/subscribe", {"json": {"jwe": password}, "headers": bearer}),
            ("POST", f"{base}/subscribe", {"json": [password], "headers": bearer}),
            ("POST", f"{base}/subscribe", {"json": {"jwe": [password] * 9}, "headers": bearer}),
            ("POST", f"{base}/subscribe", {"json": {"jwe": password * 2000}, "headers": bearer}),
            ("POST", f"{base}/publickey", {"headers": {"Authorization": token}, "json": {}}),
            ("POST", f"{base}/publickey", {"headers": {"Authorization": f"Bearer {token}x"}}),
            ("POST", f"{base}/checkin", {"json": {"device_id": password}, "headers": bearer}),
            ("DELETE", f"{base}/checkin/{password}", {"headers": bearer}),
            ("GET", f"{base}/notify", {"params": {"id": password, "creds": password}}),
            ("POST", f"{base}/notify", {"params": {"id": password, "creds": password}}),
            ("POST", f"{stand.relay_url}/nws/notify/apns", {"json": {"a": password}}),
            ("POST", f"{stand.relay_url}/nws/notify/{phone.token}", {"data": b""}),
            ("GET", f"{stand.relay_url}/nws/notify/apns", {"params": {"a": phone.token}}),
            (
                "POST",
                f"{stand.relay_url}/nws/notify/apns",
                {"json": {"a": 1}, "headers": {"ENS-Signature": f"{token}.{token}.{token}"}},
            ),
        ]
    ]
    webhook = urls[0]
    for body in (b"", b"<", password.encode(), f"<a>{password}</a>".encode()):
        answers.append(webhook.post(body))
    answers.append(webhook.post(f"<!DOCTYPE a [<!ENTITY b '{password}'>]><a>&b;</a>".encode()))
    answers.append(webhook.post(password.encode() * 20_000))
    answers.append(webhook.post(password.encode(), content_type=f"text/{token}"))
    answers.append(webhook.post(b"", method="GET"))
    answers.append(webhook.post(b"", creds=password))
    assert {answer.status_code // 100 for answer in answers} <= {2, 4}
    assert {400, 401, 404, 405, 413, 415} <= {answer.status_code for answer in answers}
    assert not [answer for answer in answers if webhook.creds.encode() in _whole(answer)]
    _search_answers(canary, answers)
    _search_raw_answers(canary)


def _broken_databases(canary: Canary, urls: list[Webhook], user: DemoUser, phone: Phone) -> None:
    """Tables that are away: every process fails in the middle of something marked."""
    road, stand = canary.road, canary.road.stand
    base, home = stand.link_address, stand.home
    bearer = {"Authorization": f"Bearer {canary.marks['the API token']}"}
    secret = {"Authorization": f"Bearer {phone.device.secret if phone.device else ''}"}
    body = urls[0].new_mail("AAAA", canary.marks["the owner's user id"])
    rename = canary.ground.rename
    with _without(rename, "eventlog_logentry", "devices_device", "tenants_apitoken"):
        subject = canary.deliver(user)
        answers = [
            requests.post(f"{base}/publickey", json={}, headers=bearer, timeout=30),
            requests.post(
                f"{base}/checkin",
                json={"device_id": "0b2f8c0e-3c9d-4a39-9a3e-0d6a3c1f2b11"},
                headers=secret,
                timeout=30,
            ),
        ]
        with _without(rename, "subscriptions_subscription"):
            # This process may remember the subscription; one that has just started does not.
            stand.kill("web")
            road.web_is_back()
            answers.append(urls[-1].post(body))
        answers.append(urls[0].post(body))
        road.quiet()
    relays = home / "relay" / "data" / "ens.sqlite3"
    with _without(partial(rename_in_sqlite, relays), "relay_deployment"):
        answers.append(requests.post(f"{stand.relay_url}/nws/notify/apns", json={}, timeout=30))
        canary.deliver(user)
        road.quiet()
    assert {500, 503} & {answer.status_code for answer in answers}
    _search_answers(canary, answers)
    # Nothing was lost by it: Exchange and the worker come again, after 30 and 60 seconds.
    road.rings(phone, subject, 90)


def _search_answers(canary: Canary, answers: list[requests.Response]) -> None:
    searcher = canary.searcher()
    for answer in answers:
        place = f"{answer.status_code} of {answer.request.method} {answer.request.path_url[:60]}"
        assert searcher.in_bytes(_whole(answer), place) == set()


def _whole(answer: requests.Response) -> bytes:
    return repr(sorted(answer.headers.items())).encode() + answer.content


def _search_raw_answers(canary: Canary) -> None:
    """What is no HTTP: the web server's own error pages."""
    token = canary.marks["the API token"]
    address = urlsplit(canary.road.stand.ens_url)
    for request in (
        f"GET /{token} {token}\r\n\r\n",
        f"{token}\r\n\r\n",
        f"GET /?{token * 3000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {token}\r\n\r\n",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=10) as wire:
            wire.sendall(request.encode())
            wire.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := wire.recv(65536):
                answer += piece
        assert canary.searcher().in_bytes(answer, "a raw answer") == set()


@contextmanager
def _without(rename: Callable[[Pairs], None], *tables: str) -> Iterator[None]:
    """Take tables away from a database for a while."""
    rename([(table, f"{table}_away") for table in tables])
    try:
        yield
    finally:
        rename([(f"{table}_away", table) for table in tables])


def _marks_would_be_found(canary: Canary) -> None:
    """What was searched is what ENS uses, and another mark, put there now, is found."""
    dumped = {place for place, _ in canary.ground.dump()}
    for expected in canary.ground.expected:
        assert any(place.startswith(expected) for place in dumped), expected
    planted = secrets.token_hex(20)
    ends = canary.ground.plant(planted)
    places = {finding.place for finding in canary.findings(Searcher({"planted": planted}))}
    for end in ends:
        assert any(place.endswith(end) for place in places), end


def _the_search_was_one(canary: Canary) -> None:
    """What was searched is what ENS writes to."""
    home = canary.road.stand.home
    searched = {file.relative_to(home).as_posix() for file in home.rglob("*") if file.is_file()}
    folders = {file.partition("/")[0] for file in searched}
    assert {"logs", *canary.ground.folders} <= folders
    assert "relay/data/ens.sqlite3" in searched
    assert (home / "logs" / "worker.log").stat().st_size > 0
