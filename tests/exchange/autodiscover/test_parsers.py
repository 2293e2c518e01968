"""What both protocols ask, and what they make of answers: good ones, hostile ones, any bytes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from lxml import etree

from apps.exchange.autodiscover import pox, soap
from apps.exchange.autodiscover.answers import Answer, Found, ToAddress, ToUrl
from apps.exchange.errors import ExchangeError, MailboxNotFound, NotEws, ServerBusy
from tests.exchange.autodiscover import messages
from tests.exchange.autodiscover.messages import INNER, URL, account, protocol

NASTY = "a<&>\"'\x00\ud800\u202e@b.example"
PARSERS: dict[str, Callable[[bytes], Answer]] = {"soap": soap.parse, "pox": pox.parse}
GOOD = {
    "soap": [
        messages.settings(ExternalEwsUrl=URL, InternalEwsUrl=INNER),
        messages.user_error("RedirectAddress", "a@b.example"),
        messages.user_error("RedirectUrl", "https://b.example/autodiscover/autodiscover.svc"),
    ],
    "pox": [
        account(protocol("EXCH", EwsUrl=INNER, ASUrl=INNER), protocol("EXPR", EwsUrl=URL)),
        account(action="<Action>redirectAddr</Action><RedirectAddr>a@b.example</RedirectAddr>"),
        messages.pox('<Error Time="1" Id="2"><ErrorCode>500</ErrorCode></Error>'),
    ],
}


class TestSoap:
    def test_request(self) -> None:
        root = etree.fromstring(soap.request("https://a.example/x", NASTY))
        service = "{http://schemas.microsoft.com/exchange/2010/Autodiscover}"
        assert root.findtext(f".//{service}Mailbox") == "a<&>\"'\ufffd\ufffd\u202e@b.example"
        assert [one.text for one in root.iter(f"{service}Setting")] == [
            "ExternalEwsUrl",
            "InternalEwsUrl",
        ]
        assert root.findtext(f".//{service}RequestedServerVersion") == "Exchange2010"
        assert root.findtext(".//{http://www.w3.org/2005/08/addressing}To") == "https://a.example/x"

    def test_the_outer_address_comes_first(self) -> None:
        raw = messages.settings(InternalEwsUrl=INNER, UserDN="/o=x", ExternalEwsUrl=URL)
        assert soap.parse(raw) == Found((URL, INNER))
        assert soap.parse(messages.settings(InternalEwsUrl=INNER)) == Found((INNER,))
        same = messages.settings(InternalEwsUrl=URL, ExternalEwsUrl=f" {URL} ")
        assert soap.parse(same) == Found((URL,))

    def test_redirects(self) -> None:
        raw = messages.user_error("RedirectAddress", "a@b.example")
        assert soap.parse(raw) == ToAddress("a@b.example")
        assert "b.example" not in repr(soap.parse(raw))
        assert soap.parse(messages.user_error("RedirectUrl", URL)) == ToUrl(URL)

    @pytest.mark.parametrize(
        ("raw", "kind"),
        [
            (messages.user_error("InvalidUser"), MailboxNotFound),
            (messages.user_error("InvalidDomain"), MailboxNotFound),
            (messages.user_error("ServerBusy"), ServerBusy),
            (messages.user_error("InternalServerError"), NotEws),
            (messages.user_error("SettingIsNotAvailable"), NotEws),
            (messages.user_error("RedirectUrl"), NotEws),
            (messages.user_error("RedirectUrl", "x" * 501), NotEws),
            (messages.soap("", "InvalidRequest"), NotEws),
            (messages.soap("", "ServerBusy"), ServerBusy),
            (messages.soap(""), NotEws),
            (messages.settings(), NotEws),
            (messages.settings(ExternalEwsUrl=""), NotEws),
            (messages.settings(ExternalEwsUrl="x" * 501), NotEws),
            (GOOD["pox"][0], NotEws),
        ],
    )
    def test_errors(self, raw: bytes, kind: type[ExchangeError]) -> None:
        with pytest.raises(kind):
            soap.parse(raw)


class TestPox:
    def test_request(self) -> None:
        root = etree.fromstring(pox.request(NASTY))
        names = {etree.QName(one).localname: one.text for one in root.iter()}
        assert names["EMailAddress"] == "a<&>\"'\ufffd\ufffd\u202e@b.example"
        assert str(names["AcceptableResponseSchema"]).endswith("outlook/responseschema/2006a")

    def test_from_outside_then_from_inside_then_the_browsers(self) -> None:
        web = protocol("WEB", External=protocol("EXPR", ASUrl="https://w.example/EWS/x"))
        raw = account(web, protocol("EXCH", EwsUrl=INNER), protocol("EXPR", EwsUrl=URL))
        assert pox.parse(raw) == Found((URL, INNER, "https://w.example/EWS/x"))

    def test_old_servers_name_the_availability_service_only(self) -> None:
        assert pox.parse(account(protocol("EXPR", ASUrl=URL, EwsUrl=""))) == Found((URL,))

    def test_no_action_means_settings(self) -> None:
        assert pox.parse(account(protocol("EXPR", EwsUrl=URL), action="")) == Found((URL,))

    @pytest.mark.parametrize("name", ["RedirectUrl", "RedirectURL"])
    def test_redirects(self, name: str) -> None:
        url = f"<Action>redirectUrl</Action><{name}>{URL}</{name}>"
        assert pox.parse(account(action=url)) == ToUrl(URL)
        address = "<Action>redirectAddr</Action><RedirectAddr>a@b.example</RedirectAddr>"
        assert pox.parse(account(action=address)) == ToAddress("a@b.example")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("500", MailboxNotFound),
            ("501", MailboxNotFound),
            ("602", MailboxNotFound),
            ("600", NotEws),
            ("601", NotEws),
            ("603", NotEws),
            ("", NotEws),
        ],
    )
    def test_errors(self, code: str, kind: type[ExchangeError]) -> None:
        error = f'<Error Time="1" Id="2"><ErrorCode>{code}</ErrorCode><Message>x</Message></Error>'
        for raw in (
            messages.pox(error, "responseschema/2006"),
            messages.pox(f"<Account>{error}</Account>"),
        ):
            with pytest.raises(kind):
                pox.parse(raw)

    @pytest.mark.parametrize(
        "raw",
        [
            account(),
            account(protocol("IMAP", EwsUrl=URL)),
            account(protocol("EXPR", EwsUrl="x" * 501)),
            account(action="<Action>redirectAddr</Action>"),
            messages.pox(""),
            GOOD["soap"][0],
        ],
    )
    def test_what_is_no_answer(self, raw: bytes) -> None:
        with pytest.raises(NotEws):
            pox.parse(raw)

    def test_only_so_many_addresses(self) -> None:
        many = [protocol("EXPR", EwsUrl=f"https://{n}.example/") for n in range(500)]
        found = pox.parse(account(*many))
        assert isinstance(found, Found)
        assert len(found.ews_urls) == 8


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("name", messages.BOMBS)
def test_bombs(kind: str, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotEws):
        PARSERS[kind](messages.BOMBS[name])
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("kind", PARSERS)
@given(st.data())
@profile(max_examples=300, deadline=None)
def test_damaged_answers(kind: str, data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(GOOD[kind]))
    start = data.draw(st.integers(0, len(good)))
    length = data.draw(st.integers(0, 80))
    patch = data.draw(st.one_of(st.binary(max_size=40), st.sampled_from(_PIECES)))
    _survives(kind, good[:start] + patch + good[start + length :])


@pytest.mark.parametrize("kind", PARSERS)
@given(st.lists(st.sampled_from([*range(40)]), max_size=40), st.binary(max_size=60))
@profile(max_examples=200, deadline=None)
def test_answers_made_of_pieces(kind: str, order: list[int], tail: bytes) -> None:
    _survives(kind, b"".join(_PIECES[number % len(_PIECES)] for number in order) + tail)


@pytest.mark.parametrize("kind", PARSERS)
@given(st.binary(max_size=2000))
@profile(max_examples=200, deadline=None)
def test_any_bytes(kind: str, raw: bytes) -> None:
    _survives(kind, raw)


_PIECES = [
    b"<",
    b"</UserResponse>",
    b"<UserResponse>",
    b"<ErrorCode>RedirectUrl</ErrorCode>",
    b"<RedirectTarget>https://[::1</RedirectTarget>",
    b"<Account>",
    b"</Account>",
    b"<Protocol><Type>WEB</Type><External><Protocol><ASUrl>x</ASUrl></Protocol></External>",
    b"<!-- x -->",
    b"<?pi x?>",
    b"<![CDATA[x]]>",
    b"&#0;",
    b"&#xd800;",
    b"&amp;",
    b"&unknown;",
    b"<!DOCTYPE x>",
    b'<x xmlns=""/>',
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x00",
    b" xml:id='x'",
    b"]]>",
    *[one for kind in GOOD.values() for one in kind],
]


def _survives(kind: str, raw: bytes) -> None:
    """Whatever it is: an answer within bounds, or an error of ours that tells nothing of it."""
    try:
        answer = PARSERS[kind](raw)
    except ExchangeError as error:
        assert str(error) in ("not_ews", "mailbox_not_found", "server_busy")
        return
    match answer:
        case Found(urls):
            assert 0 < len(urls) <= 8
            assert all(0 < len(url) <= 500 for url in urls)
        case ToAddress(target) | ToUrl(target):
            assert 0 < len(target) <= 500
