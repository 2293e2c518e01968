"""The check of Autodiscover, against the lab's Exchange, a plain web server and a name server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_django.fixtures import Settings

from apps.diagnosis.registry import Context, Step
from apps.lab.exchange import LabExchange
from apps.lab.exchange.autodiscover import POX_PATH, Detour
from apps.operations.checks import autodiscover, exchange
from apps.subscriptions import runtime
from apps.tenants.models import MailSystem, OrganizationGroup
from tests.exchange.autodiscover.world import ADDRESS, ANNA, NAMES, RECORD
from tests.exchange.dns_server import NameServer, name_server
from tests.operations.test_diagnose import LOOPBACK, configure, steps_of

NAME = "exchange.autodiscover"
WHOLE = "EWS address of the test mailbox"
MAILBOX = Context(address=ADDRESS, username=ANNA.username, password=ANNA.password)


@dataclass
class Company:
    """The servers, and the mail system that names them."""

    lab: LabExchange
    dns: NameServer
    system: MailSystem
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return urlsplit(self.lab.url).port or 0

    def list_hosts(self, *names: str) -> None:
        self.system.hosts = [f"{name}:{self.port}" for name in names]
        self.system.save()

    def redirect(self, location: str) -> int:
        made = asyncio.run_coroutine_threadsafe(self.lab.listen_plain(location), self.loop)
        return made.result(10)

    def steps(self, context: Context | None = None) -> dict[str, Step]:
        found = steps_of(NAME, context)
        return {name.replace(f":{self.port}", ""): step for name, step in found.items()}


@pytest.fixture
def company(
    og: OrganizationGroup, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Company]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    lab, stack = LabExchange(names=NAMES), AsyncExitStack()
    lab.add_mailbox(ADDRESS, "Anna", ANNA.password, username="anna", domain="CORP")
    run(stack.enter_async_context(lab))
    dns = run(stack.enter_async_context(name_server()))
    configure(settings, guard_exceptions=LOOPBACK, dns_servers=[dns.address])
    system = MailSystem.objects.create(
        og=og, name="Lab", ca_pem=lab.ca_pem, smtp_domains=["corp.localhost"]
    )
    made = Company(lab, dns, system, loop)
    monkeypatch.setattr(autodiscover, "PORTS", (made.port, 9))
    monkeypatch.setattr(exchange, "_refused", set())
    monkeypatch.setattr(exchange, "_wrong", {})
    runtime.mail_server.cache_clear()
    yield made
    runtime.mail_server.cache_clear()
    run(stack.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_place_that_answers(company: Company) -> None:
    company.list_hosts("autodiscover.corp.localhost")
    found = company.steps()
    place = found["https://autodiscover.corp.localhost"]
    assert (place.status, place.detail) == ("ok", "SOAP, offers Basic")
    assert found["https://corp.localhost"].status == "skipped"
    assert found["Autodiscover"].status == "ok"
    # It asks without credentials, and so is let in nowhere.
    assert not company.lab.autodiscover.asked
    assert not company.lab.counters()["unauthorized"]


def test_a_gateway_that_refuses_who_names_no_device(company: Company) -> None:
    company.list_hosts("autodiscover.corp.localhost")
    # As far as one can see from outside, the lab's 401 is such a refusal.
    MailSystem.objects.update(gateway=True, gateway_refusals=[401])
    place = company.steps()["https://autodiscover.corp.localhost"]
    assert place.status == "warning" and "gateway" in place.detail


def test_nothing_is_listed_nor_published(company: Company) -> None:
    found = company.steps()
    assert found["SRV record"].detail == f"{RECORD}: there is none"
    assert found["redirect by plain HTTP"].status == "skipped"
    assert found["Autodiscover"].status == "failed" and "SRV" in found["Autodiscover"].advice


def test_a_default_address_makes_it_needless(company: Company) -> None:
    company.system.default_ews_url = company.lab.url
    company.system.save()
    assert company.steps()["Autodiscover"].status == "skipped"


def test_the_srv_record_and_the_redirect(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
    location = f"https://one.localhost:{company.port}{POX_PATH}"
    monkeypatch.setattr(autodiscover, "PORTS", (company.port, company.redirect(location)))
    for name, host in (("SRV record", "mail.corp"), ("redirect by plain HTTP", "one")):
        step = company.steps()[name]
        assert step.status == "warning" and f"{host}.localhost" in step.detail
        assert "Add the host" in step.advice
    company.list_hosts("mail.corp.localhost", "one.localhost")
    found = company.steps()
    assert found["SRV record"].status == found["redirect by plain HTTP"].status == "ok"
    assert found["Autodiscover"].status == "ok"


def test_name_servers_that_do_not_answer(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autodiscover, "_PLACE_S", 0.5)
    company.dns.silent = True
    assert "ENS_DNS_SERVERS" in company.steps()["SRV record"].advice


class TestTheWholeWay:
    def test_found(self, company: Company) -> None:
        company.list_hosts("mail.corp.localhost")
        company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
        step = company.steps(MAILBOX)[WHOLE]
        assert step.status == "ok"
        assert step.detail.startswith("https://mail.corp.localhost:")

    def test_on_a_host_that_is_not_listed(self, company: Company) -> None:
        company.list_hosts("mail.corp.localhost")
        company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
        company.lab.autodiscover.detours = [
            Detour("redirect_url", "https://new.example/autodiscover/autodiscover.svc")
        ]
        step = company.steps(MAILBOX)[WHOLE]
        assert step.status == "failed" and "new.example" in step.detail
        assert "Add the host" in step.advice and "anna" not in f"{step}"

    def test_a_wrong_password_is_tried_once(self, company: Company) -> None:
        company.list_hosts("mail.corp.localhost")
        company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
        wrong = Context(address=ADDRESS, username=ANNA.username, password="canary-1")
        assert company.steps(wrong)["sign in"].status == "failed"
        assert company.steps(wrong)["sign in"].status == "skipped"
        assert sum(company.lab.counters()["unauthorized"].values()) == 1

    def test_a_mailbox_of_another_domain(self, company: Company) -> None:
        other = Context(address="a@elsewhere.example", username="x", password="y")
        assert WHOLE not in company.steps(other)


def test_without_domains(company: Company) -> None:
    MailSystem.objects.update(smtp_domains=[])
    assert company.steps()["mail domains"].status == "warning"
    # That of the test mailbox will do.
    assert "Autodiscover" in company.steps(MAILBOX)
    MailSystem.objects.update(autodiscover=False)
    assert set(company.steps()) == {"Autodiscover"}
