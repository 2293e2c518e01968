"""Who calls: Basic, NTLM, Negotiate (Kerberos), bearer tokens and client certificates.

Basic and bearer tokens authenticate a request. NTLM and Kerberos authenticate the connection, as
IIS has it: what comes on it afterwards is that user's, whoever sent it. With `certificate` the TLS
handshake asks for a certificate of the lab's CA: alone it names the user, beside another method
both are wanted.

Accounts are the store's mailboxes. Kerberos takes its service key from the keytab that KRB5_KTNAME
names.
"""

from __future__ import annotations

import hmac
import os
import ssl
import struct
import threading
from base64 import b64decode, b64encode
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import spnego
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import BadBindingsError, SpnegoError

from .journal import Journal
from .lockout import LockOut
from .model import Mailbox
from .store import Store
from .tokens import Tokens

Method = Literal["basic", "ntlm", "negotiate", "bearer", "certificate"]

_REALM = 'Basic realm="lab.example"'
# Told only to those who come with a bearer token, be it an empty one:
# https://techcommunity.microsoft.com/blog/exchange/announcing-hybrid-modern-authentication-for-exchange-on-premises/607476
_BEARER = 'Bearer client_id="lab", trusted_issuers="lab@*", token_types="app_asserted_user_v1"'
_CHALLENGES = {"negotiate": "Negotiate", "ntlm": "NTLM", "basic": _REALM}
_NTLM_SIGNATURE = b"NTLMSSP\x00"
# The mechanism's id at the beginning of a token (RFC 4178): some wrap Kerberos in it.
_SPNEGO = bytes.fromhex("06062b0601050502")
# pyspnego's acceptor reads its accounts from the file that an environment variable names.
_environment = threading.Lock()


@dataclass(slots=True)
class _Connection:
    """What the server knows of a connection; `user` is logged in on it."""

    user: Mailbox | None = None
    way: str = ""
    acceptor: Any = None
    served: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Refusal(Exception):
    """A 401, with what is said to the scheme that was tried; `wrong` is whose password failed."""

    challenge: str = ""
    wrong: str | None = None
    status: int = 401


class Doorman:
    """Lets callers in.

    `extended_protection`: a login by NTLM or Kerberos must name `certificate` (the server's, PEM).
    `each_request`: no login lasts longer than a request. `served` counts requests by user,
    `connections` those that ever carried one, `shared` those that served more than one user.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        lock_out: LockOut,
        tokens: Tokens,
        methods: frozenset[Method],
        directory: Path,
        *,
        extended_protection: bool = False,
        each_request: bool = False,
    ) -> None:
        self._store = store
        self._journal = journal
        self._lock_out = lock_out
        self._tokens = tokens
        self._methods = methods
        self._accounts = directory / "ntlm-accounts"
        self._extended_protection = extended_protection
        self._each_request = each_request
        self._bindings: GssChannelBindings | None = None
        self._known: dict[BaseProtocol, _Connection] = {}
        self.connections = 0
        self.shared = 0
        self.served: Counter[str] = Counter()
        self.logins: Counter[str] = Counter()

    def show(self, certificate_pem: bytes) -> None:
        """Take the server's certificate, whose hash is the channel binding (RFC 5929, 4.1)."""
        digest = x509.load_pem_x509_certificate(certificate_pem).fingerprint(hashes.SHA256())
        data = b"tls-server-end-point:" + digest
        self._bindings = GssChannelBindings(application_data=data)

    @property
    def open_connections(self) -> int:
        """Connections that carried a request and are still open."""
        self._forget_closed()
        return len(self._known)

    def admit(self, request: web.Request) -> Mailbox | web.Response:
        """The caller, or the answer to somebody who isn't one."""
        connection = self._connection(request)
        try:
            caller = self._identify(request, connection)
        except _Refusal as refusal:
            if refusal.wrong is not None:
                self._journal.unauthorized[refusal.wrong] += 1
            return self._demand(request, refusal)
        finally:
            if self._each_request:
                connection.user = None
        self.served[caller.address] += 1
        if caller.address not in connection.served:
            connection.served.add(caller.address)
            self.shared += len(connection.served) == 2
        return caller

    def _identify(self, request: web.Request, connection: _Connection) -> Mailbox:
        owner = self._owner_of_certificate(request) if "certificate" in self._methods else None
        if self._methods == {"certificate"}:
            if owner is None:
                raise _Refusal(status=403)
            return owner
        scheme, _, said = request.headers.get("Authorization", "").partition(" ")
        if connection.user is not None and not scheme:
            return connection.user
        caller = self._by_scheme(scheme.lower(), said.strip(), connection)
        if "certificate" in self._methods and owner is not caller:
            raise _Refusal(status=403)
        return caller

    def _by_scheme(self, scheme: str, said: str, connection: _Connection) -> Mailbox:
        if scheme not in self._methods:
            # Without credentials a client only asks what the server offers.
            raise _Refusal(wrong=self._whoever(scheme, said) if scheme and said else None)
        if scheme == "basic":
            return self._basic(said)
        if scheme == "bearer":
            return self._bearer(said)
        return self._windows(scheme, said, connection)

    def _whoever(self, scheme: str, said: str) -> str:
        """A password that came by a scheme which nobody offered: it is on the wire all the same."""
        mailbox = self._store.by_login(_login(said)[0]) if scheme == "basic" else None
        return mailbox.address if mailbox else "unknown"

    def _basic(self, said: str) -> Mailbox:
        login, password = _login(said)
        mailbox = self._store.by_login(login)
        right = mailbox is not None and hmac.compare_digest(
            mailbox.password.encode(), password.encode()
        )
        if mailbox is None or not self._lock_out.lets_in(mailbox, right):
            raise _Refusal(wrong=mailbox.address if mailbox else "unknown")
        return mailbox

    def _bearer(self, said: str) -> Mailbox:
        if not said:
            raise _Refusal
        address = self._tokens.owner(said)
        if address is None:
            raise _Refusal('Bearer error="invalid_token"', wrong="unknown")
        return self._store.mailbox(address)

    def _windows(self, scheme: str, said: str, connection: _Connection) -> Mailbox:
        """One step of a login that takes several, on this connection."""
        try:
            token = b64decode(said, validate=True)
        except ValueError:
            raise _Refusal from None
        first = scheme == "negotiate" or token[8:9] == b"\x01"
        if first:
            connection.user, connection.way = None, scheme
            connection.acceptor = self._acceptor(scheme, token)
        elif connection.acceptor is None or connection.way != scheme:
            # The last word of a login that was begun on another connection: nobody is asked.
            raise _Refusal
        name = _ntlm_user(token) if scheme == "ntlm" and not first else ""
        try:
            answer = self._step(connection, token)
        except BadBindingsError:
            connection.acceptor = None
            raise _Refusal from None
        except (SpnegoError, ValueError, struct.error, AttributeError):
            # By Kerberos the KDC has seen the password, and gssapi stumbles over foreign bindings.
            connection.acceptor = None
            raise _Refusal(wrong=self._wrong(name) if scheme == "ntlm" else None) from None
        spoken = b64encode(answer).decode() if answer else ""
        if not connection.acceptor.complete:
            raise _Refusal(f"{'NTLM' if scheme == 'ntlm' else 'Negotiate'} {spoken}")
        if connection.acceptor.negotiated_protocol != ("ntlm" if name else "kerberos"):
            raise _Refusal
        name = name or str(connection.acceptor.client_principal)
        connection.acceptor = None
        mailbox = self._store.by_login(name)
        if mailbox is None or not self._lock_out.lets_in(mailbox, True):
            raise _Refusal(wrong=mailbox.address if mailbox else "unknown")
        connection.user = mailbox
        self.logins[mailbox.address] += 1
        return mailbox

    def _wrong(self, name: str) -> str | None:
        mailbox = self._store.by_login(name)
        if mailbox is None:
            return "unknown"
        self._lock_out.lets_in(mailbox, False)
        return mailbox.address

    def _acceptor(self, scheme: str, token: bytes) -> Any:
        protocol = "negotiate" if _SPNEGO in token[:20] else "kerberos"
        bindings = self._bindings if self._extended_protection else None
        with _environment:
            if scheme == "ntlm":
                self._write_accounts()
            try:
                return spnego.server(
                    protocol="ntlm" if scheme == "ntlm" else protocol,
                    service="HTTP",
                    hostname="localhost",
                    channel_bindings=bindings,
                )
            except SpnegoError:
                raise _Refusal from None

    def _step(self, connection: _Connection, token: bytes) -> bytes | None:
        with _environment:
            os.environ["NTLM_USER_FILE"] = str(self._accounts)
            said: bytes | None = connection.acceptor.step(token)
            return said

    def _write_accounts(self) -> None:
        """Each in the forms in which a user may name himself."""
        lines = (
            f"{mailbox.domain}:{mailbox.username}:{mailbox.password}\n"
            f":{mailbox.username}@{mailbox.domain}:{mailbox.password}\n"
            f":{mailbox.address}:{mailbox.password}\n"
            for mailbox in self._store.mailboxes()
        )
        self._accounts.write_text("".join(lines), "utf-8")
        os.environ["NTLM_USER_FILE"] = str(self._accounts)

    def _owner_of_certificate(self, request: web.Request) -> Mailbox | None:
        """By the address in a certificate that the TLS handshake has verified."""
        transport = request.transport
        tls: ssl.SSLObject | None = (
            transport.get_extra_info("ssl_object") if transport is not None else None
        )
        shown: Any = tls.getpeercert() if tls is not None else None
        for kind, value in (shown or {}).get("subjectAltName", ()):
            if kind == "email":
                return self._store.local(value)
        return None

    def _demand(self, request: web.Request, refusal: _Refusal) -> web.Response:
        answer = web.Response(status=refusal.status)
        if refusal.status != 401:
            return answer
        if " " in refusal.challenge and not refusal.challenge.startswith("Bearer"):
            answer.headers.add("WWW-Authenticate", refusal.challenge)
            return answer
        for method, challenge in _CHALLENGES.items():
            if method in self._methods:
                answer.headers.add("WWW-Authenticate", challenge)
        asked = request.headers.get("Authorization", "").lower().startswith("bearer")
        if "bearer" in self._methods and asked:
            answer.headers.add("WWW-Authenticate", refusal.challenge or _BEARER)
        return answer

    def _connection(self, request: web.Request) -> _Connection:
        found = self._known.get(request.protocol)
        if found is None:
            self._forget_closed()
            found = self._known[request.protocol] = _Connection()
            self.connections += 1
        return found

    def _forget_closed(self) -> None:
        for protocol in [known for known in self._known if not known.connected]:
            del self._known[protocol]


def _login(said: str) -> tuple[str, str]:
    """User and password of a Basic Authorization."""
    try:
        login, _, password = b64decode(said, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return login, password


def _ntlm_user(token: bytes) -> str:
    """`DOMAIN\\user` or `user@domain` of an AUTHENTICATE_MESSAGE: [MS-NLMP], section 2.2.1.3."""
    if token[:8] != _NTLM_SIGNATURE or len(token) < 64:
        return ""
    names: list[str] = []
    for place in (28, 36):
        length, _, offset = struct.unpack_from("<HHI", token, place)
        names.append(token[offset : offset + length].decode("utf-16-le", "replace"))
    domain, user = names
    return f"{domain}\\{user}" if domain else user
