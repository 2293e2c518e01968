"""The order of places, redirects and their bounds, what is remembered, how few logins it takes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest

from apps.exchange.autodiscover import service as module
from apps.exchange.autodiscover.service import MAX_REDIRECTS, domain_of
from apps.exchange.errors import (
    AutodiscoverFailed,
    AutodiscoverHostNotAllowed,
    CredentialsRefused,
    ExchangeError,
    LoginImpossible,
    MailboxNotFound,
    ServerBusy,
)
from apps.exchange.interface import Credentials
from apps.lab.exchange.autodiscover import POX_PATH, SOAP_PATH, Detour
from tests.exchange.autodiscover.world import ADDRESS, ANNA, RECORD, World, world
from tests.wire.servers import Seen, http_answer, http_site

EWS = "/EWS/Exchange.asmx"


def asked(company: World) -> list[str]:
    """What the lab was asked, as `soap <first label of the host>`, in order."""
    found = company.lab.autodiscover.asked
    return [f"{key.partition(' ')[0]} {key.partition(' ')[2].partition('.')[0]}" for key in found]


class TestPlaces:
    async def test_the_domain_itself_comes_first(self, company: World) -> None:
        url = await company.find("corp.localhost", "autodiscover.corp.localhost")
        assert url == company.at("corp.localhost", EWS)
        assert asked(company) == ["soap corp"]

    async def test_then_autodiscover_before_the_domain(self, company: World) -> None:
        company.lab.autodiscover.detours = [
            Detour("missing", host=f"corp.localhost:{company.port}")
        ]
        url = await company.find("corp.localhost", "autodiscover.corp.localhost")
        assert url == company.at("autodiscover.corp.localhost", EWS)
        assert asked(company) == ["soap corp", "pox corp", "soap autodiscover"]

    async def test_a_host_that_is_not_listed_is_not_asked(self, company: World) -> None:
        url = await company.find("autodiscover.corp.localhost")
        assert url == company.at("autodiscover.corp.localhost", EWS)
        assert asked(company) == ["soap autodiscover"]

    async def test_pox_where_there_is_no_soap(self, company: World) -> None:
        company.lab.autodiscover.detours = [Detour("missing", protocol="soap")]
        url = await company.find("corp.localhost")
        assert url == company.at("corp.localhost", EWS)
        assert asked(company) == ["soap corp", "pox corp"]

    @pytest.mark.parametrize("path", [POX_PATH, "/Autodiscover/Autodiscover.xml"])
    async def test_then_the_redirect_by_plain_http(self, company: World, path: str) -> None:
        location = company.at("mail.corp.localhost", POX_PATH)
        company.http_port = await company.lab.listen_plain(location)
        url = await company.find("mail.corp.localhost")
        assert url == company.at("mail.corp.localhost", EWS)
        assert asked(company) == ["soap mail"]
        assert company.dns.asked == []

    async def test_the_plain_request_bears_nothing(self, company: World) -> None:
        async def answer(_seen: Seen) -> bytes:
            return http_answer(301, Location=company.at("mail.corp.localhost", POX_PATH))

        async with http_site(answer) as site:
            company.http_port = site.port
            await company.find("mail.corp.localhost")
        (seen,) = site.requests
        assert (seen.method, seen.target, seen.body) == ("GET", POX_PATH, b"")
        assert seen.headers["host"] == f"autodiscover.corp.localhost:{site.port}"
        assert not {"authorization", "cookie"} & set(seen.headers)
        assert ADDRESS not in str(seen)

    async def test_then_the_srv_record(self, company: World) -> None:
        company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
        url = await company.find("mail.corp.localhost")
        assert url == company.at("mail.corp.localhost", EWS)
        assert company.dns.asked == [RECORD]

    async def test_of_srv_records_the_one_of_highest_priority(self, company: World) -> None:
        company.dns.records[RECORD] = [
            f"20 0 {company.port} two.localhost.",
            f"10 0 {company.port} one.localhost.",
        ]
        assert await company.find("one.localhost", "two.localhost") == company.at(
            "one.localhost", EWS
        )

    async def test_nothing_anywhere(self, company: World) -> None:
        with pytest.raises(AutodiscoverFailed) as caught:
            await company.find("mail.corp.localhost")
        assert not caught.value.transient
        assert company.dns.asked == [RECORD]

    async def test_the_name_server_is_silent(self, company: World) -> None:
        company.dns.silent = True
        began = time.monotonic()
        with pytest.raises(AutodiscoverFailed) as caught:
            await company.find("mail.corp.localhost", deadline_s=1.5)
        assert caught.value.transient
        assert time.monotonic() - began < 4


class TestWhatIsFound:
    async def test_an_ews_address_elsewhere_in_the_mail_system(self, company: World) -> None:
        company.lab.autodiscover.ews_url = company.at("mail.corp.localhost", EWS)
        url = await company.find("corp.localhost", "mail.corp.localhost")
        assert url == company.at("mail.corp.localhost", EWS)

    async def test_an_ews_address_that_is_not_listed(self, company: World) -> None:
        company.lab.autodiscover.ews_url = "https://mail.elsewhere.example/EWS/Exchange.asmx"
        with pytest.raises(AutodiscoverHostNotAllowed) as caught:
            await company.find("corp.localhost", "autodiscover.corp.localhost")
        assert caught.value.hosts == ("mail.elsewhere.example",)
        assert "elsewhere" not in str(caught.value)
        assert asked(company) == ["soap corp"]

    async def test_a_mailbox_that_nobody_knows(self, company: World) -> None:
        with pytest.raises(MailboxNotFound):
            await company.find("corp.localhost", address="nobody@corp.localhost")

    async def test_the_service_is_busy(self, company: World) -> None:
        company.lab.autodiscover.detours = [Detour("busy")]
        with pytest.raises(ServerBusy):
            await company.find("corp.localhost")
        # Not at once again in another protocol.
        assert asked(company) == ["soap corp"]

    @pytest.mark.parametrize("protocol", ["soap", "pox"])
    async def test_the_address_has_changed(self, company: World, protocol: str) -> None:
        company.lab.add_mailbox("anna.new@new.localhost", "Anna", "x")
        company.lab.autodiscover.detours = [
            Detour("missing", protocol="soap") if protocol == "pox" else Detour("slow", host="-"),
            Detour("redirect_address", "anna.new@new.localhost", ADDRESS),
        ]
        url = await company.find("corp.localhost", "autodiscover.new.localhost")
        assert url == company.at("autodiscover.new.localhost", EWS)


class TestRedirects:
    @pytest.mark.parametrize("kind", ["redirect_url", "moved"])
    @pytest.mark.parametrize("path", [SOAP_PATH, POX_PATH])
    async def test_three_in_a_row(self, company: World, kind: str, path: str) -> None:
        chain = ["corp", "one", "two", "three"]
        company.lab.autodiscover.detours = [
            Detour(kind, company.at(f"{there}.localhost", path), host=f"{here}:{company.port}")  # type: ignore[arg-type]
            for here, there in (
                ("corp.localhost", "one"),
                ("one.localhost", "two"),
                ("two.localhost", "three"),
            )
        ]
        url = await company.find(*(f"{name}.localhost" for name in chain))
        assert url == company.at("three.localhost", EWS)
        protocol = "soap" if path == SOAP_PATH else "pox"
        assert asked(company) == ["soap corp", *(f"{protocol} {name}" for name in chain[1:])]

    @pytest.mark.parametrize("kind", ["redirect_url", "moved"])
    async def test_in_a_circle(self, company: World, kind: str) -> None:
        company.lab.autodiscover.detours = [
            Detour(
                kind, company.at("two.localhost", SOAP_PATH), host=f"one.localhost:{company.port}"
            ),  # type: ignore[arg-type]
            Detour(kind, company.at("one.localhost", SOAP_PATH)),  # type: ignore[arg-type]
        ]
        with pytest.raises(AutodiscoverFailed):
            await company.find("corp.localhost", "one.localhost", "two.localhost")
        assert max(company.lab.autodiscover.asked.values()) == 1

    async def test_addresses_in_a_circle(self, company: World) -> None:
        company.lab.autodiscover.detours = [
            Detour("redirect_address", "b@corp.localhost", "a@corp.localhost"),
            Detour("redirect_address", "A@corp.localhost", "b@corp.localhost"),
        ]
        with pytest.raises(AutodiscoverFailed):
            await company.find("corp.localhost", address="a@corp.localhost")
        assert sum(company.lab.autodiscover.asked.values()) == 2

    async def test_never_more_than_ten(self, company: World) -> None:
        company.lab.autodiscover.detours = [
            Detour("redirect_address", f"{number + 1}@corp.localhost", f"{number}@corp.localhost")
            for number in range(50)
        ]
        with pytest.raises(AutodiscoverFailed):
            await company.find("corp.localhost", address="0@corp.localhost")
        assert sum(company.lab.autodiscover.asked.values()) == MAX_REDIRECTS + 1

    async def test_to_a_host_that_is_not_listed(self, company: World) -> None:
        company.lab.autodiscover.detours = [
            Detour("redirect_url", "https://mail.elsewhere.example/autodiscover/autodiscover.svc")
        ]
        with pytest.raises(AutodiscoverHostNotAllowed) as caught:
            await company.find("corp.localhost")
        assert caught.value.hosts == ("mail.elsewhere.example",)

    async def test_plain_http_leads_to_a_host_that_is_not_listed(self, company: World) -> None:
        company.http_port = await company.lab.listen_plain("https://x.example/autodiscover.xml")
        with pytest.raises(AutodiscoverHostNotAllowed) as caught:
            await company.find("mail.corp.localhost")
        assert caught.value.hosts == ("x.example",)

    async def test_plain_http_shows_that_the_host_is_there(self, company: World) -> None:
        async def forbidden(_seen: Seen) -> bytes:
            return http_answer(403)

        async with http_site(forbidden) as site:
            company.http_port = site.port
            with pytest.raises(AutodiscoverHostNotAllowed) as caught:
                await company.find("mail.corp.localhost")
        assert caught.value.hosts == (f"autodiscover.corp.localhost:{company.port}",)


class TestLogins:
    async def test_a_wrong_password_is_tried_once(self, company: World) -> None:
        wrong = replace(ANNA, password="guess")
        company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
        reach = company.reach(
            "corp.localhost", "autodiscover.corp.localhost", "mail.corp.localhost"
        )
        with pytest.raises(CredentialsRefused):
            await company.service().ews_url(reach, wrong, ADDRESS, 8)
        assert company.refused() == 1
        assert company.dns.asked == []

    async def test_also_at_the_place_that_is_known(self, company: World) -> None:
        service, reach = company.service(), company.reach("corp.localhost")
        await service.ews_url(reach, ANNA, ADDRESS, 8)
        with pytest.raises(CredentialsRefused):
            await service.ews_url(reach, replace(ANNA, password="guess"), ADDRESS, 8)
        assert company.refused() == 1

    async def test_by_ntlm(self) -> None:
        async with world("ntlm") as company:
            url = await company.find("corp.localhost", "autodiscover.corp.localhost")
            assert url == company.at("corp.localhost", EWS)
            reach = company.reach("corp.localhost", "autodiscover.corp.localhost")
            with pytest.raises(CredentialsRefused):
                await company.service().ews_url(reach, replace(ANNA, password="guess"), ADDRESS, 8)
            assert company.refused() == 1

    async def test_no_way_to_log_in(self) -> None:
        async with world("bearer") as company:
            with pytest.raises(LoginImpossible):
                await company.find("corp.localhost", "autodiscover.corp.localhost")
            assert company.refused() == 0


class TestMemory:
    async def test_the_place_is_remembered_and_answers_are_not(self, company: World) -> None:
        company.lab.add_mailbox(
            "ben@corp.localhost", "Ben", "ben-pw", username="ben", domain="CORP"
        )
        ben = Credentials(type="basic", username="CORP\\ben", password="ben-pw")
        company.dns.records[RECORD] = [f"0 0 {company.port} mail.corp.localhost."]
        service, reach = company.service(), company.reach("mail.corp.localhost", "one.localhost")
        await service.ews_url(reach, ANNA, ADDRESS, 8)
        company.lab.autodiscover.ews_url = company.at("one.localhost", EWS)
        url = await service.ews_url(reach, ben, "ben@corp.localhost", 8)
        assert url == company.at("one.localhost", EWS)
        assert company.dns.asked == [RECORD]
        assert company.lab.autodiscover.asked == {f"soap mail.corp.localhost:{company.port}": 2}

    async def test_a_place_that_answers_no_more_is_forgotten(self, company: World) -> None:
        service = company.service()
        reach = company.reach("corp.localhost", "autodiscover.corp.localhost")
        await service.ews_url(reach, ANNA, ADDRESS, 8)
        company.lab.autodiscover.detours = [
            Detour("missing", host=f"corp.localhost:{company.port}")
        ]
        url = await service.ews_url(reach, ANNA, ADDRESS, 8)
        assert url == company.at("autodiscover.corp.localhost", EWS)

    async def test_a_place_that_leads_away_by_http_is_forgotten(self, company: World) -> None:
        service = company.service()
        reach = company.reach("corp.localhost", "autodiscover.corp.localhost")
        await service.ews_url(reach, ANNA, ADDRESS, 8)
        away = Detour("moved", "https://x.example/", host=f"corp.localhost:{company.port}")
        company.lab.autodiscover.detours = [away]
        url = await service.ews_url(reach, ANNA, ADDRESS, 8)
        assert url == company.at("autodiscover.corp.localhost", EWS)

    async def test_that_there_is_none_is_remembered_for_minutes(
        self, company: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service, reach = company.service(), company.reach("mail.corp.localhost")
        for _ in range(3):
            with pytest.raises(AutodiscoverFailed):
                await service.ews_url(reach, ANNA, ADDRESS, 8)
        assert company.dns.asked == [RECORD]
        other = replace(reach, name="another")
        with pytest.raises(AutodiscoverFailed):
            await service.ews_url(other, ANNA, ADDRESS, 8)
        assert company.dns.asked == [RECORD] * 2
        later = time.monotonic() + module.UNKNOWN_FOR_S + 1
        monkeypatch.setattr("apps.exchange.autodiscover.service.time.monotonic", lambda: later)
        with pytest.raises(AutodiscoverFailed):
            await service.ews_url(reach, ANNA, ADDRESS, 8)
        assert company.dns.asked == [RECORD] * 3

    async def test_one_mailbox_tells_nothing_of_its_domain(self, company: World) -> None:
        company.lab.add_mailbox(
            "ben@corp.localhost", "Ben", "ben-pw", username="ben", domain="CORP"
        )
        circle = company.at("corp.localhost", SOAP_PATH)
        company.lab.autodiscover.detours = [Detour("redirect_url", circle, ADDRESS)]
        service, reach = company.service(), company.reach("corp.localhost")
        for address in (ADDRESS, "nobody@corp.localhost", ADDRESS):
            with pytest.raises((AutodiscoverFailed, MailboxNotFound)):
                await service.ews_url(reach, ANNA, address, 8)
        assert service.known(reach, "corp.localhost") is None
        for address in ("ben@corp.localhost", "nobody@corp.localhost", ADDRESS):
            with suppress(AutodiscoverFailed, MailboxNotFound):
                await service.ews_url(reach, ANNA, address, 8)
        place = service.known(reach, "corp.localhost")
        assert place is not None and place.place is not None

    async def test_nor_does_an_answer_to_it_that_makes_no_sense(self, company: World) -> None:
        """A user may claim an address that Exchange has no sensible word for."""
        company.lab.add_mailbox(
            "ben@corp.localhost", "Ben", "ben-pw", username="ben", domain="CORP"
        )
        company.lab.autodiscover.detours = [Detour("raw", "<x/>", ADDRESS)]
        service, reach = company.service(), company.reach("corp.localhost")
        with pytest.raises(AutodiscoverFailed):
            await service.ews_url(reach, ANNA, ADDRESS, 8)
        url = await service.ews_url(reach, ANNA, "ben@corp.localhost", 8)
        assert url == company.at("corp.localhost", EWS)

    async def test_a_place_that_hangs_now_leaves_time_for_another(self, company: World) -> None:
        service = company.service()
        reach = company.reach("corp.localhost", "autodiscover.corp.localhost")
        await service.ews_url(reach, ANNA, ADDRESS, 8)
        company.lab.autodiscover.detours = [
            Detour("slow", host=f"corp.localhost:{company.port}", delay_s=30)
        ]
        url = await service.ews_url(reach, ANNA, ADDRESS, 3)
        assert url == company.at("autodiscover.corp.localhost", EWS)

    async def test_only_so_many_domains_are_remembered(self, company: World) -> None:
        service, reach = company.service(), company.reach("mail.corp.localhost")
        for number in range(1500):
            service.learn(reach, f"{number}.example", None)
        assert service.known(reach, "0.example") is None
        assert service.known(reach, "1499.example") is not None
        assert len(service._known) == 1000


class TestTime:
    async def test_one_slow_place_leaves_time_for_the_next(self, company: World) -> None:
        company.lab.autodiscover.detours = [
            Detour("slow", host=f"corp.localhost:{company.port}", delay_s=30)
        ]
        began = time.monotonic()
        url = await company.find("corp.localhost", "autodiscover.corp.localhost", deadline_s=3.0)
        assert url == company.at("autodiscover.corp.localhost", EWS)
        assert time.monotonic() - began < 3.5

    async def test_all_are_slow(self, company: World) -> None:
        company.lab.autodiscover.detours = [Detour("slow", delay_s=30)]
        began = time.monotonic()
        with pytest.raises(AutodiscoverFailed) as caught:
            await company.find("corp.localhost", "autodiscover.corp.localhost", deadline_s=1.5)
        assert caught.value.transient
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "address",
    [
        "",
        "anna",
        "@corp.example",
        "anna@",
        "anna@.",
        "anna@a..b",
        "anna@127.0.0.1",
        "anna@2130706433",
        "anna@0x7f000001",
        "anna@[::1]",
        "anna@corp.example/..",
        "anna@corp.example:443",
        "anna@corp.example\\x",
        "anna@corp.example#",
        "anna@" + "a." * 120 + "example",
        "anna@\ud800.example",
        "anna@corp\r\n.example",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(AutodiscoverFailed):
        domain_of(address)


def test_domains() -> None:
    assert domain_of("Anna@Corp.Example") == "corp.example"
    assert domain_of('"a@b"@bücher.example') == "xn--bcher-kva.example"
    assert issubclass(AutodiscoverFailed, ExchangeError)
