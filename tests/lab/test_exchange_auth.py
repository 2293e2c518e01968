"""exchangelib logs in to the lab by each method that it knows: the lab is not ours alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from exchangelib import (
    BASIC,
    CBA,
    DELEGATE,
    GSSAPI,
    NTLM,
    OAUTH2,
    Account,
    Configuration,
    Credentials,
    OAuth2AuthorizationCodeCredentials,
)
from exchangelib.errors import UnauthorizedError
from exchangelib.protocol import BaseProtocol, CachingProtocol, FailFast, TLSClientAuth
from oauthlib.oauth2 import OAuth2Token

from apps.lab.exchange import LabExchange, in_thread
from tests.exchange.auth.kdc import Kdc, kdc
from tests.exchange.auth.ways import PASSWORDS


@pytest.fixture(autouse=True)
def no_connection_is_kept() -> Iterator[None]:
    """exchangelib keeps what has logged in by address and user; each test has another server."""
    CachingProtocol.clear_cache()
    yield
    CachingProtocol.clear_cache()


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let exchangelib trust a lab's CA, and show a certificate if there is one."""

    def trust(lab: LabExchange, certificate: Path | None = None) -> None:
        adapter = type("LabAdapter", (TLSClientAuth,), {"cert_file": certificate})

        def cert_verify(self: object, conn: Any, url: str, verify: object, cert: object) -> None:
            requests.adapters.HTTPAdapter.cert_verify(self, conn, url, str(lab.ca_file), cert)  # type: ignore[arg-type]

        adapter.cert_verify = cert_verify  # type: ignore[attr-defined]
        monkeypatch.setattr(BaseProtocol, "HTTP_ADAPTER_CLS", adapter)

    return trust


def read_inbox(lab: LabExchange, auth_type: str, credentials: Any) -> None:
    """Log in as Anna and read her mail."""
    lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")
    account = Account(
        "anna@example.com",
        config=Configuration(
            service_endpoint=lab.url.replace("127.0.0.1", "localhost"),
            credentials=credentials,
            auth_type=auth_type,
            retry_policy=FailFast(),
        ),
        autodiscover=False,
        access_type=DELEGATE,
    )
    assert [mail.subject for mail in account.inbox.all()] == ["Lunch?"]
    assert set(lab.counters()["served"]) == {"anna@example.com"}


ANNA = Credentials("EXAMPLE\\anna", PASSWORDS["anna"])


@pytest.mark.parametrize(("method", "auth_type"), [("basic", BASIC), ("ntlm", NTLM)])
def test_passwords(trusting: Any, method: Any, auth_type: str) -> None:
    lab = LabExchange(auth=[method], extended_protection=True)
    lab.add_demo_accounts()
    with in_thread(lab):
        trusting(lab)
        read_inbox(lab, auth_type, ANNA)
        CachingProtocol.clear_cache()
        with pytest.raises(UnauthorizedError):
            read_inbox(lab, auth_type, Credentials("EXAMPLE\\anna", "guess"))
        assert lab.counters()["unauthorized"]["anna@example.com"] >= 1


def test_a_token(trusting: Any) -> None:
    lab = LabExchange(auth=["bearer"])
    lab.add_demo_accounts()
    with in_thread(lab):
        trusting(lab)
        issued = lab.tokens.issue("anna@example.com")
        token = OAuth2Token({"access_token": issued.token, "token_type": "Bearer"})
        read_inbox(lab, OAUTH2, OAuth2AuthorizationCodeCredentials(access_token=token))


def test_a_certificate(trusting: Any, tmp_path: Path) -> None:
    lab = LabExchange(auth=["certificate"])
    lab.add_demo_accounts()
    with in_thread(lab):
        files = lab.issue_certificate("anna@example.com")
        both = tmp_path / "anna.pem"
        both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
        trusting(lab, both)
        read_inbox(lab, CBA, None)


@pytest.fixture
def in_realm(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kdc]:
    with kdc(tmp_path_factory.mktemp("kdc"), PASSWORDS) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def test_kerberos(
    trusting: Any, in_realm: Kdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tickets from a cache, as `kinit` leaves them; wrapped in SPNEGO."""
    if importlib.util.find_spec("requests_gssapi") is None:
        pytest.skip("gssapi and krb5 are not installed")
    import krb5

    context = krb5.init_context()
    anna = krb5.parse_name_flags(context, b"anna@EXAMPLE.COM")
    options = krb5.get_init_creds_opt_alloc(context)
    tickets = krb5.get_init_creds_password(
        context, anna, options, password=PASSWORDS["anna"].encode()
    )
    cache = krb5.cc_resolve(context, f"FILE:{tmp_path / 'tickets'}".encode())
    krb5.cc_initialize(context, cache, anna)
    krb5.cc_store_cred(context, cache, tickets)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'tickets'}")
    lab = LabExchange(auth=["negotiate"])
    lab.add_demo_accounts()
    with in_thread(lab):
        trusting(lab)
        read_inbox(lab, GSSAPI, None)
