"""exchangelib asks the lab's Autodiscover as if it were Exchange's."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from exchangelib import BASIC, Configuration, Credentials
from exchangelib.autodiscover.protocol import AutodiscoverProtocol
from exchangelib.errors import ErrorNonExistentMailbox, RedirectError, UnauthorizedError
from exchangelib.properties import UserResponse
from exchangelib.protocol import BaseProtocol, FailFast

from apps.lab.exchange import LabExchange, in_thread
from apps.lab.exchange.autodiscover import POX_PATH, SOAP_PATH, Detour
from tests.exchange.autodiscover import messages


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[LabExchange]:
    lab = LabExchange()
    lab.add_demo_accounts()
    adapter = type("LabAdapter", (requests.adapters.HTTPAdapter,), {})

    def cert_verify(self: object, conn: object, url: str, verify: object, cert: object) -> None:
        requests.adapters.HTTPAdapter.cert_verify(self, conn, url, str(lab.ca_file), cert)

    adapter.cert_verify = cert_verify
    monkeypatch.setattr(BaseProtocol, "HTTP_ADAPTER_CLS", adapter)
    with in_thread(lab):
        yield lab


def base(lab: LabExchange) -> str:
    return f"https://{urlsplit(lab.url).netloc}"


def ask(lab: LabExchange, address: str, password: str = "anna-lab-1") -> UserResponse:
    configuration = Configuration(
        service_endpoint=base(lab) + SOAP_PATH,
        credentials=Credentials("EXAMPLE\\anna", password),
        auth_type=BASIC,
        retry_policy=FailFast(),
    )
    return AutodiscoverProtocol(config=configuration).get_user_settings(user=address)


def test_settings(lab: LabExchange) -> None:
    assert ask(lab, "anna@example.com").ews_url == lab.url
    # An alias is the mailbox' own.
    assert ask(lab, "a.adler@example.com").ews_url == lab.url


def test_redirects(lab: LabExchange) -> None:
    lab.autodiscover.detours = [
        Detour("redirect_address", "anna@new.example", "anna@example.com"),
        Detour("redirect_url", "https://new.example/x.svc"),
    ]
    assert ask(lab, "anna@example.com").redirect_address == "anna@new.example"
    assert ask(lab, "ben@example.com").redirect_url == "https://new.example/x.svc"
    lab.autodiscover.detours = [Detour("moved", "https://new.example/x.svc")]
    with pytest.raises(RedirectError):
        ask(lab, "anna@example.com")


def test_nobody_and_a_wrong_password(lab: LabExchange) -> None:
    with pytest.raises(ErrorNonExistentMailbox):
        ask(lab, "nobody@example.com").raise_errors()
    with pytest.raises(UnauthorizedError):
        ask(lab, "anna@example.com", "guess")


def test_in_plain_xml(lab: LabExchange) -> None:
    """exchangelib has given POX up; so this is as Microsoft's pages show it."""
    request = messages_request("anna@example.com")
    session = requests.Session()
    session.trust_env, session.verify = False, str(lab.ca_file)
    answer = session.post(
        base(lab) + POX_PATH,
        request,
        auth=("EXAMPLE\\anna", "anna-lab-1"),
        headers={"Content-Type": "text/xml"},
        timeout=10,
    )
    assert f"<Type>EXPR</Type><Server>exchange.lab.example</Server><ASUrl>{lab.url}" in answer.text
    assert answer.text.startswith(messages.pox("").decode()[:60])


def messages_request(address: str) -> bytes:
    base = "http://schemas.microsoft.com/exchange/autodiscover/outlook"
    return (
        f'<Autodiscover xmlns="{base}/requestschema/2006"><Request>'
        f"<EMailAddress>{address}</EMailAddress>"
        f"<AcceptableResponseSchema>{base}/responseschema/2006a</AcceptableResponseSchema>"
        "</Request></Autodiscover>"
    ).encode()
