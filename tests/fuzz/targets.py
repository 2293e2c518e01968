"""The parsers of what comes from outside: each takes bytes, and raises only if it is at fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC

from joserfc.jwk import RSAKey

from apps.exchange.auth import offers
from apps.exchange.autodiscover import pox, soap
from apps.exchange.autodiscover.answers import Found, ToAddress
from apps.exchange.errors import (
    MAX_BACK_OFF_S,
    ExchangeError,
    MailboxNotFound,
    NonPrimaryAddress,
    NotEws,
    ServerBusy,
)
from apps.exchange.ews import find_item, get_folder, get_item, notification, subscribe, versions
from apps.exchange.interface import Endpoint
from apps.keypairs import jwe
from tests.fuzz.seeds import HEADER
from tests.keypairs.devices import b64, encrypt

_KEY = RSAKey.generate_key(2048)
_JWK: dict[str, str] = _KEY.as_dict(kid="k")  # type: ignore[assignment]
_IDS = ("1", "2", "3")


def read_notification(data: bytes) -> None:
    """A call to the webhook, by anybody on the internet."""
    try:
        found = notification.parse_notification(data)
    except notification.NotANotification as refused:
        assert not str(refused)
        return
    assert bool(found.events) != (found.error_code is not None)
    assert len(data) <= notification.MAX_BYTES
    for event in found.events:
        assert event.timestamp is None or event.timestamp.tzinfo is UTC
        assert event.unread_count is None or 0 <= event.unread_count < 10**9
        assert event.kind == "Status" or event.item_id or event.folder_id
    hash(found)


def read_answer(data: bytes) -> None:
    """An answer to each of the operations, by a mail server that a gateway may stand in for."""
    for parse in (
        subscribe.parse,
        find_item.parse,
        get_folder.parse_proof,
        get_folder.parse_unread,
        _items,
    ):
        _parse(parse, data)
    version = versions.read(data)
    assert version is None or str(version)


def _items(data: bytes) -> object:
    error: ExchangeError | None = None
    for count in range(1, len(_IDS) + 1):
        ids: Sequence[str] = _IDS[:count]
        try:
            found = get_item.parse(data, ids)
        except ExchangeError as refused:
            error = refused
            continue
        assert set(found) <= set(ids)
        for item in found.values():
            assert len(item.preview) <= 2000 and item.item_id
            assert item.received_at is None or item.received_at.tzinfo is UTC
            repr(item)
        return found
    assert error is not None
    raise error


def read_autodiscover(data: bytes) -> None:
    """An answer of an Autodiscover service, which is found by a name that anybody may own."""
    for parse in (pox.parse, soap.parse):
        try:
            answer = parse(data)
        except ExchangeError as error:
            assert isinstance(error, MailboxNotFound | NotEws | ServerBusy)
            assert len(repr(error)) < 200
            continue
        if isinstance(answer, Found):
            assert 0 < len(answer.ews_urls) <= 8
            texts: tuple[str, ...] = answer.ews_urls
        else:
            texts = (answer.address if isinstance(answer, ToAddress) else answer.url,)
        assert all(0 < len(text) <= 500 and text == text.strip() for text in texts)
        # Whatever stands there: it has a host, or none, and nothing else happens.
        assert all(len(Endpoint(text).host) <= 500 for text in texts)


def _parse(parse: Callable[[bytes], object], data: bytes) -> None:
    try:
        assert parse(data) is not None
    except ExchangeError as error:
        # What it is called goes to phones and logs; what an answer holds does not.
        assert error.code.isidentifier() and len(error.code) < 40
        assert len(repr(error)) < 200
        if isinstance(error, NonPrimaryAddress) and len(error.primary) > 8:
            assert error.primary not in repr(error)
        if isinstance(error, ServerBusy):
            assert 0 <= error.back_off_s <= MAX_BACK_OFF_S


def open_jwe(data: bytes) -> None:
    """A JWE of a device: all of it made up, or only a part of one that is whole otherwise."""
    kind, rest = (data[0] % 4, data[1:]) if data else (0, data)
    if kind == 0:
        compact = rest.decode("latin-1")
    elif kind == 1:
        compact = encrypt(_JWK, rest, HEADER)
    elif kind == 2:
        compact = encrypt(_JWK, b'{"iat":1,"jti":"12345678"}', rest)
    else:
        parts = encrypt(_JWK, b"{}", HEADER).split(".")
        parts[rest[0] % 5 if rest else 0] = b64(rest[1:])
        compact = ".".join(parts)
    try:
        jwe.key_id(compact)
        claims = jwe.decrypt(compact, _KEY)
    except jwe.JweRefused as refused:
        assert str(refused) == refused.code and refused.__cause__ is None
        return
    assert 8 <= len(claims.jti) <= 128 and type(claims.iat) is int
    assert claims.jti not in repr(claims)


def read_offers(data: bytes) -> None:
    """A WWW-Authenticate of whatever stands at an address that a device named."""
    header = data.decode("latin-1")
    assert all(name == name.lower() for name in offers.schemes(header))
    for scheme in ("ntlm", "negotiate"):
        with suppress(ValueError):
            offers.token(header, scheme)  # type: ignore[arg-type]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "notification": read_notification,
    "answer": read_answer,
    "autodiscover": read_autodiscover,
    "jwe": open_jwe,
    "offers": read_offers,
}
