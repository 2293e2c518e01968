"""Diagnosis, against real servers: what is well, and plain advice for what isn't."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from io import StringIO
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.alerts.models import Severity
from apps.alerts.service import raise_alert
from apps.cns.site import CnsSite
from apps.diagnosis import registry
from apps.diagnosis.registry import Context, Step
from apps.exchange.diagnosis import judge
from apps.exchange.interface import Product
from apps.history import buffer, counters, names
from apps.lab.exchange import LabExchange
from apps.lab.gateway import LabGateway
from apps.lab.gateway import in_thread as gateway_in_thread
from apps.operations import database_clock
from apps.operations.checks import exchange, hosts, webhook
from apps.operations.checks import relay as relay_checks
from apps.operations.lease import BEAT, Holder
from apps.operations.models import Lease
from apps.relay import signature
from apps.relay.models import Deployment
from apps.subscriptions.models import Scan
from apps.subscriptions.runtime import mail_server
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.groups import create_group
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.wire import certificates
from apps.wire.errors import AddressRefused
from tests.operations.test_secure_channel import _Quiet, relay  # noqa: F401
from tests.wire.servers import Authority, Site
from tests.wire.test_tls_floor import server_of
from tests.wire.tinyproxy import connects, tinyproxy

LOOPBACK = (ip_network("127.0.0.0/8"),)


def configure(settings: Settings, **values: Any) -> None:
    settings.ENS = settings.ENS.model_copy(update=values)


def steps_of(name: str, context: Context | None = None) -> dict[str, Step]:
    """The steps of one check by name; of several of a name the last."""
    (check,) = [one for one in registry.checks() if one.name == name]
    return {step.name: step for step in check.run(context or Context())}


@pytest.fixture
def lab() -> Iterator[LabExchange]:
    """The pretend Exchange, in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = LabExchange()
    made.add_demo_accounts()

    def run(coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    run(made.__aenter__())
    yield made
    run(made.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def in_thread(server: AbstractAsyncContextManager[Site]) -> Iterator[Site]:
    """A small server in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(20)
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def lab_system(og: OrganizationGroup, lab: LabExchange) -> MailSystem:
    host = lab.url.removeprefix("https://").partition("/")[0]
    return MailSystem.objects.create(
        og=og, name="Lab", hosts=[host], default_ews_url=lab.url, ca_pem=lab.ca_pem
    )


class TestExchange:
    def test_a_good_one(self, lab_system: MailSystem, settings: Settings) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        found = steps_of("exchange.reach")
        assert {step.status for step in found.values()} <= {"ok", "warning"}, found
        assert {"DNS", "TLS chain", "TLS name", "TLS expiry", "EWS", "ways to sign in"} == set(
            found
        )
        assert "Basic" in found["ways to sign in"].detail

    def test_one_whose_ca_is_not_known(self, lab_system: MailSystem, settings: Settings) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        MailSystem.objects.update(ca_pem="")
        step = steps_of("exchange.reach")["TLS chain"]
        assert step.status == "failed" and "CA bundle" in step.advice

    def test_the_guard_stands_in_front(self, lab_system: MailSystem) -> None:
        found = steps_of("exchange.reach")
        assert set(found) == {"DNS"} and found["DNS"].status == "failed"
        assert "loopback" in found["DNS"].advice

    def test_nobody_is_there(self, lab_system: MailSystem, settings: Settings) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        MailSystem.objects.update(hosts=["127.0.0.1:1"], default_ews_url="")
        assert "firewall" in steps_of("exchange.reach")["connection"].advice
        MailSystem.objects.update(hosts=["no-such-host.invalid"])
        assert "DNS" in steps_of("exchange.reach")["DNS"].advice

    def test_only_the_mail_systems_of_ones_groups(self, lab_system: MailSystem) -> None:
        other = create_group("Other")
        assert set(steps_of("exchange.reach", Context(og_paths=(other.path,)))) == {"mail systems"}
        assert set(steps_of("exchange.reach", Context(og_paths=()))) == {"mail systems"}
        ours = Context(og_paths=(lab_system.og.path,))
        assert set(steps_of("exchange.reach", ours)) == {"DNS"}

    def test_one_that_speaks_old_tls_only(
        self, og: OrganizationGroup, settings: Settings, tmp_path: Path
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        authority = Authority(tmp_path)
        with in_thread(server_of("1.0", authority)) as site:
            url = site.url("/EWS/Exchange.asmx")
            host = url.removeprefix("https://").partition("/")[0]
            system = MailSystem.objects.create(
                og=og, name="Old", hosts=[host], default_ews_url=url, ca_pem=authority.pem
            )
            step = steps_of("exchange.reach")["TLS version"]
            assert step.status == "failed" and "older than TLS 1.2" in step.detail
            assert "SchUseStrongCrypto" in step.advice
            assert "SystemDefaultTlsVersions" in step.advice
            MailSystem.objects.filter(pk=system.pk).update(tls_floor="1.0")
            found = steps_of("exchange.reach")
            assert found["TLS chain"].status == "ok" and found["TLS version"].status == "warning"
            assert "SchUseStrongCrypto" in found["TLS version"].advice
        with in_thread(server_of("1.2", authority)) as site:
            url = site.url("/EWS/Exchange.asmx")
            host = url.removeprefix("https://").partition("/")[0]
            MailSystem.objects.update(hosts=[host], default_ews_url=url)
            step = steps_of("exchange.reach")["TLS version"]
            assert step.status == "warning" and "choose that again" in step.advice

    def test_through_a_proxy(
        self, lab_system: MailSystem, settings: Settings, tmp_path: Path
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        with tinyproxy(tmp_path) as proxy:
            url = f"http://{proxy.host}:{proxy.port}"
            MailSystem.objects.update(proxy_url=url)
            found = steps_of("exchange.reach")
            assert {step.status for step in found.values()} <= {"ok", "warning"}, found
            assert "DNS" not in found and found["EWS"].status == "ok"
            assert connects(tmp_path)
        step = steps_of("exchange.reach")["connection"]
        assert step.status == "failed" and "proxy" in step.advice
        configure(settings, guard_exceptions=())
        MailSystem.objects.update(hosts=["mail.invalid"], default_ews_url="")
        assert "loopback" in steps_of("exchange.reach")["connection"].advice

    def test_behind_a_gateway(
        self, lab: LabExchange, lab_system: MailSystem, settings: Settings
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        MailSystem.objects.update(gateway=True)
        assert steps_of("exchange.reach")["gateway"].status == "warning"  # there is none
        with gateway_in_thread(LabGateway(lab.url, lab.ca_pem)) as gateway:
            host = gateway.url.split("/")[2]
            MailSystem.objects.update(
                hosts=[host], default_ews_url=gateway.url, ca_pem=gateway.ca_pem
            )
            found = steps_of("exchange.reach")
            assert found["gateway"].status == "ok" and "EWS" not in found
            tried = Context(address="anna@example.com", username="EXAMPLE\\anna", password="x-1")
            step = steps_of("exchange.sign_in", tried)["sign in"]
            assert (step.detail, "gateway" in step.advice) == ("gateway", True)

    def test_signing_in(
        self, lab_system: MailSystem, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        monkeypatch.setattr(exchange, "_refused", set())
        monkeypatch.setattr(exchange, "_wrong", {})

        def tried(password: str, address: str = "anna@example.com") -> Step:
            context = Context(address=address, username="EXAMPLE\\anna", password=password)
            return steps_of("exchange.sign_in", context)["sign in"]

        assert tried("anna-lab-1").status == "ok"
        assert tried("anna-lab-1", "ben@example.com").detail == "not_this_mailbox"
        wrong = tried("canary-4711")
        assert wrong.status == "failed" and "canary" not in f"{wrong}"
        assert tried("canary-4711").status == "skipped"  # never tried twice
        assert {tried(f"canary-{n}").detail for n in range(2)} == {"credentials_refused"}
        assert tried("canary-9").detail == "too_many_attempts"  # nobody guesses here
        for spelt in ("anna", "Änna@example.com"):
            other = Context(address="anna@example.com", username=spelt, password="canary-9")
            assert steps_of("exchange.sign_in", other)["sign in"].detail == "too_many_attempts"
        assert steps_of("exchange.sign_in")["sign in"].status == "skipped"

    def test_the_version_that_answered(
        self,
        lab: LabExchange,
        lab_system: MailSystem,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        assert "version" not in steps_of("exchange.reach")
        context = Context(
            address="anna@example.com", username="EXAMPLE\\anna", password="anna-lab-1"
        )
        step = steps_of("exchange.sign_in", context)["version"]
        assert (step.status, step.detail) == ("ok", "Exchange 2019 (15.2.1544.4)")
        # Known now, whoever asks.
        assert steps_of("exchange.reach")["version"] == step
        old = Product("Exchange 2010 SP1 (14.1.0.0)", supported=False)
        monkeypatch.setattr(mail_server()._inner, "products", lambda _: (old,))  # type: ignore[attr-defined]
        step = steps_of("exchange.sign_in", context)["version"]
        assert step.status == "warning" and "2010 SP3" in step.advice

    @pytest.mark.parametrize(
        ("code", "reason", "advice"),
        [
            ("ErrorNonExistentMailbox", "mailbox_not_found", "Get-Recipient"),
            ("ErrorMailboxMoveInProgress", "mailbox_moving", "Get-MoveRequest"),
            ("ErrorMailboxStoreUnavailable", "mailbox_store_unavailable", "Get-MailboxDatabase"),
            ("ErrorAccessDenied", "exchange_forbidden", "EwsApplicationAccessPolicy"),
            ("ErrorInvalidServerVersion", "exchange_version", "2010 SP3"),
            ("ErrorExceededConnectionCount", "too_many_connections", "EwsMaxConcurrency"),
            ("ErrorTooManyObjectsOpened", "too_many_objects", "objects"),
            ("ErrorServerBusy", "server_busy", "throttles"),
        ],
    )
    def test_a_mailbox_in_trouble(
        self,
        lab: LabExchange,
        lab_system: MailSystem,
        settings: Settings,
        code: str,
        reason: str,
        advice: str,
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        lab.faults.add("error", 60, code=code)
        context = Context(
            address="anna@example.com", username="EXAMPLE\\anna", password="anna-lab-1"
        )
        step = steps_of("exchange.sign_in", context)["sign in"]
        assert (step.status, step.detail) == ("failed", reason)
        assert advice in step.advice

    def test_a_wrong_password_is_tried_at_one_server_only(
        self, lab_system: MailSystem, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure(settings, guard_exceptions=LOOPBACK)
        monkeypatch.setattr(exchange, "_refused", set())
        monkeypatch.setattr(exchange, "_wrong", {})
        MailSystem.objects.create(
            og=lab_system.og,
            name="The same directory",
            hosts=lab_system.hosts,
            ca_pem=lab_system.ca_pem,
        )
        context = Context(address="anna@example.com", username="EXAMPLE\\anna", password="wrong")
        assert [step.detail for step in exchange.sign_in(context)] == ["credentials_refused"]


@pytest.mark.parametrize(
    ("status", "headers", "code", "usable"),
    [
        (401, {"www-authenticate": ("Negotiate", "NTLM", 'Basic realm="mail"')}, "ews", True),
        (401, {"www-authenticate": ("Negotiate, NTLM",)}, "ews", True),
        (401, {"www-authenticate": ("Digest x=y",)}, "nothing_offered", False),
        (401, {}, "nothing_offered", False),
        (404, {}, "not_found", False),
        (403, {}, "forbidden", False),
        (302, {"location": ("/owa",)}, "redirected", False),
        (200, {}, "open", False),
        (500, {}, "broken", False),
        (503, {}, "busy", False),
    ],
)
def test_what_an_answer_tells(status: int, headers: Any, code: str, usable: bool) -> None:
    verdict = judge(status, headers)
    assert (verdict.code, verdict.usable) == (code, usable)
    if code != "ews":
        assert exchange._ADVICE[code]


def test_what_a_gateway_does_not_let_through() -> None:
    windows = {"www-authenticate": ("Negotiate", "NTLM")}
    assert not judge(401, windows, gateway=True).usable
    assert judge(401, {"www-authenticate": ("NTLM", "Basic")}, gateway=True).usable
    assert judge(401, windows).usable


@pytest.fixture
def public(
    transactional_db: None, settings: Settings, tmp_path: Path
) -> Iterator[tuple[Authority, ssl.SSLContext]]:
    """ENS on a TLS socket, at the address that Exchange is told."""
    authority = Authority(tmp_path)
    context, _ = authority.context()
    with make_server("127.0.0.1", 0, WSGIHandler(), WSGIServer, _Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        base = f"https://127.0.0.1:{server.server_port}/MailNotificationService/api/ens"
        configure(settings, link_address=base, guard_exceptions=LOOPBACK)
        yield authority, context
        server.shutdown()
        thread.join()


def test_our_own_address_as_others_reach_it(public: Any) -> None:
    found = steps_of("webhook.address")
    assert found["alive"].status == found["webhook"].status == "ok", found
    assert found["TLS name"].status == "ok"
    # A CA that this machine doesn't know: Exchange needs it, too.
    assert found["TLS chain"].status == "warning" and "root CA" in found["TLS chain"].advice
    root = webhook.root_ca()
    assert "BEGIN CERTIFICATE" in root.certificate.pem and not root.complete


def test_an_address_behind_which_nobody_stands(settings: Settings) -> None:
    configure(settings, link_address="https://127.0.0.1:1/x", guard_exceptions=LOOPBACK)
    assert steps_of("webhook.address")["connection"].status == "warning"


def test_the_script_for_exchange(settings: Settings) -> None:
    configure(settings, link_address="https://ens.o'neill.example:8443/api/ens/")
    script = webhook.powershell()
    assert "$url = 'https://ens.o''neill.example:8443/api/ens'\r\n" in script
    assert "$port = [int]'8443'" in script and "@" + "URL@" not in script
    assert script.isascii() and "\n" not in script.replace("\r\n", "")


def test_the_relay(relay: None, settings: Settings) -> None:  # noqa: F811
    found = steps_of("relay.channel")
    assert found["signed call"].status == found["secure channel"].status == "ok", found
    assert found["pin"].status == "skipped"  # plain http, on this machine
    Deployment.objects.update(revoked_at=timezone.now())
    signature._known.clear()  # what the relay forgets by itself after some seconds
    step = steps_of("relay.channel")["signed call"]
    assert step.detail == "certificate_revoked" and "operator" in step.advice
    configure(settings, cns_url=None)
    assert steps_of("relay.channel")["address"].status == "failed"


def test_the_relays_pin(public: Any, settings: Settings) -> None:
    authority, _ = public
    url = settings.ENS.link_address
    pin = certificates.fetch(url, lambda _: None).chain[0].pin

    def found(*pins: str) -> dict[str, Step]:
        site = CnsSite(url, pins, authority.pem)
        return {step.name: step for step in relay_checks._relays_certificate(site)}

    assert found(pin)["pin"].status == found(pin)["TLS chain"].status == "ok"
    assert found("another")["pin"].status == "failed"
    assert found()["pin"].status == "warning" and pin in found()["pin"].detail


@pytest.mark.django_db
class TestDeployment:
    def test_the_database(self) -> None:
        found = steps_of("deployment.database")
        assert found["tables"].status == "ok" and found["answer"].status in ("ok", "warning")

    def test_the_log(self) -> None:
        found = steps_of("deployment.queue")
        assert found["event log"].status == "ok" and found["mail that waits"].detail == "0"

    def test_workers_and_beat(self) -> None:
        assert {step.status for step in steps_of("deployment.processes").values()} == {
            "failed",
            "warning",
        }
        counters.count(names.DRAIN_RUNS)
        buffer.buffer.flush()
        Scan.objects.create(here_since=timezone.now(), last_at=timezone.now())
        found = steps_of("deployment.processes")
        assert (found["beat"].status, found["beat's turn"].status) == ("ok", "warning")
        holder = Holder(BEAT)
        assert holder.take()
        found = steps_of("deployment.processes")
        assert {step.status for step in found.values()} == {"ok"}
        assert holder.identity in found["beat's turn"].detail
        Lease.objects.update(expires_at=0)
        left = steps_of("deployment.processes")["beat's turn"]
        assert left.status == "warning" and holder.identity in left.detail and left.advice

    def test_clocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert steps_of("deployment.clock")["clock"].status == "skipped"
        there = SimpleNamespace(vendor="postgresql")
        monkeypatch.setattr("apps.operations.checks.deployment.connection", there)
        for ahead, status in ((4.5, "ok"), (6.0, "warning"), (-6.0, "warning")):
            monkeypatch.setattr(database_clock, "now", lambda ahead=ahead: time.time() - ahead)
            assert steps_of("deployment.clock")["clock"].status == status
        raise_alert("clock_differs:web-2", Severity.WARNING, "clock_differs", {})
        assert steps_of("deployment.clock")["another clock"].detail == "web-2"

    @pytest.mark.skipif(os.name == "nt", reason="no POSIX modes")
    def test_a_master_key_that_others_may_read(self, settings: Settings, tmp_path: Path) -> None:
        key = tmp_path / "master.key"
        key.write_text(settings.ENS.master_key_file.read_text())
        key.chmod(0o644)
        configure(settings, master_key_file=key)
        step = steps_of("deployment.files")["master key"]
        assert step.status == "failed" and "600" in step.advice
        key.chmod(0o600)
        assert steps_of("deployment.files")["master key"].status == "ok"
        key.unlink()
        assert steps_of("deployment.files")["master key"].status == "failed"

    def test_the_command(self, settings: Settings) -> None:
        out = StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("diagnose", area="relay", json=True, stdout=out)
        assert ended.value.code == 1  # the tests' relay is nowhere
        (check,) = json.loads(out.getvalue())
        assert check["area"] == "relay" and check["status"] == "failed"
        out = StringIO()
        call_command("diagnose", area="exchange", stdout=out)
        assert "no host is listed" in out.getvalue()
        with pytest.raises(CommandError, match="one of deployment, exchange"):
            call_command("diagnose", area="kitchen")


def test_a_certificate_for_pinning_is_fetched_through_the_guard(
    public: Any, settings: Settings
) -> None:
    address = settings.ENS.link_address
    shown = hosts.fetch_certificate(address)
    assert len(shown.chain[0].pin) == 44 and not shown.trusted
    configure(settings, guard_exceptions=())
    for one in (address, address.removeprefix("https://").partition("/")[0]):
        with pytest.raises(AddressRefused):
            hosts.fetch_certificate(one)
    for bad in ("http://x.example/", "https://a@b.example/", "a b", ""):
        with pytest.raises(EwsUrlRefused):
            hosts.fetch_certificate(bad)
