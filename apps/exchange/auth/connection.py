"""One user's connection to one server, which is logged in and stays so.

NTLM and Kerberos log connections in, client certificates do so by their nature. So each user has a
client of his own with one connection, which serves nobody else.

It begins with a request of nothing: that opens the connection, tells the server's certificate for
the channel binding, and what is offered. A request on a connection that is logged in carries no
Authorization; a 401 to it only says that the connection isn't logged in any more, and counts as a
wrong password nowhere.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

from apps.exchange.auth import kerberos, offers
from apps.exchange.auth.bindings import server_end_point
from apps.exchange.auth.kerberos import Tickets
from apps.exchange.auth.login import Login, Way
from apps.exchange.auth.offers import Scheme
from apps.exchange.credentials import Credentials
from apps.exchange.errors import CredentialsRefused, LoginImpossible, Unreachable
from apps.wire.client import Client, DeadlineExceeded, Request, Response

T = TypeVar("T")

# NTLM takes two rounds, Kerberos one or two.
_ROUNDS: Final = 4
# A server may close a connection while we log in on it.
_ATTEMPTS: Final = 2
# How much of a call's time may go by until Kerberos is given up where NTLM would do, and how long
# it is then not tried at that server.
_FOR_KERBEROS: Final = 0.4
_NO_KERBEROS_S: Final = 300.0
_KERBEROS_DOWN: Final = frozenset({"kdc_unreachable", "kerberos_unavailable"})
# Domain controllers that hang hold up logins, and nothing else that needs a thread.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="exchange-login")


def basic(credentials: Credentials) -> str:
    """An Authorization by user name and password: RFC 7617, in UTF-8."""
    pair = f"{credentials.username}:{credentials.password}".encode(errors="replace")
    return f"Basic {b64encode(pair).decode()}"


def check_refusal(answer: Response, scheme: Scheme) -> Response:
    """Let an answer pass unless it is a 401.

    Raises:
        CredentialsRefused: a 401 from who offers the scheme.
        LoginImpossible: a 401 from who doesn't offer it any more.
    """
    if answer.status != 401:
        return answer
    offered = offers.schemes(answer.headers.get("www-authenticate", ""))
    if offered and scheme not in offered:
        raise LoginImpossible("login_not_offered")
    raise CredentialsRefused


@dataclass(slots=True)
class Hints:
    """What one user's login tells all users of a server: when to try Kerberos again."""

    kerberos_at: float = 0.0


class UserConnection:
    """Requests of one user, one after the other; `client` must be for nobody else."""

    def __init__(self, client: Client, credentials: Credentials, hints: Hints) -> None:
        self._client = client
        self._credentials = credentials
        self._hints = hints
        self._turn = asyncio.Lock()
        self._tickets = Tickets(credentials)
        self._certificate = ""
        self._logged_in = False
        # What worked; and whether the server wants every request logged in.
        self._scheme: Scheme | None = None
        self._each_request = False

    async def post(self, request: Request) -> Response:
        """Send a request as this user; the answer's status is anything but 401.

        Raises:
            CredentialsRefused: a 401 to what the server offers; never tried again here.
            LoginImpossible: there is no way to log in.
            WireError: see `Client.perform`.
            Unreachable: the connection was lost again and again.
        """
        call = _Call(request, asyncio.get_running_loop().time() + request.deadline_s)
        try:
            async with asyncio.timeout_at(call.ends):
                await self._turn.acquire()
        except TimeoutError:
            raise DeadlineExceeded from None
        try:
            return await self._post(call)
        except (CredentialsRefused, LoginImpossible):
            # What worked so far doesn't any more: from the beginning, next time.
            self._logged_in, self._scheme, self._each_request = False, None, False
            raise
        finally:
            self._turn.release()

    async def close(self) -> None:
        """Close the connection and forget what it was logged in with."""
        await self._client.close()
        await asyncio.get_running_loop().run_in_executor(_threads, self._tickets.close)

    async def _post(self, call: _Call) -> Response:
        if not self._credentials.has_password:
            # The certificate has said it all.
            answer = await self._send(call)
            if answer.status == 401:
                raise CredentialsRefused
            return answer
        if self._scheme is not None and self._each_request:
            return await self._by(self._scheme, call)
        if self._logged_in:
            answer = await self._send(call)
            if answer.status != 401:
                return answer
            self._logged_in = False
            self._each_request = answer.peer is not None and not answer.peer.new
        else:
            answer = await self._send(call, body=b"")
            if answer.status not in (200, 401, 500):
                return answer
        return await self._log_in(call, self._choose(answer))

    def _choose(self, answer: Response) -> tuple[Scheme, ...]:
        """What to try, in this order."""
        offered = offers.schemes(answer.headers.get("www-authenticate", ""))
        found = offers.choose(self._credentials, offered)
        if self._scheme in found:
            return (self._scheme,)
        now = asyncio.get_running_loop().time()
        if "ntlm" in found and (now < self._hints.kerberos_at or not kerberos.available()):
            return tuple(scheme for scheme in found if scheme != "negotiate")
        return found

    async def _log_in(self, call: _Call, schemes: tuple[Scheme, ...]) -> Response:
        """Where a scheme fails before a password was tried, the next one may be used."""
        for scheme in schemes[:-1]:
            try:
                return await self._by(scheme, call, hasty=True)
            except LoginImpossible as error:
                if error.code in _KERBEROS_DOWN:
                    now = asyncio.get_running_loop().time()
                    self._hints.kerberos_at = now + _NO_KERBEROS_S
        return await self._by(schemes[-1], call)

    async def _by(self, scheme: Scheme, call: _Call, *, hasty: bool = False) -> Response:
        if scheme == "basic" or scheme == "bearer":
            answer = await self._send(call, authorization=basic(self._credentials))
            self._scheme, self._each_request = scheme, True
            return check_refusal(answer, scheme)
        for _ in range(_ATTEMPTS):
            from_before = scheme == "negotiate" and self._tickets.held
            try:
                found = await self._shake_hands(scheme, call, hasty=hasty)
            except CredentialsRefused:
                if not from_before:
                    raise
                # Old tickets may be for a key that the server has changed; no password was tried.
                await _in_thread(_threads, self._tickets.close, call.left())
                continue
            if found is not None:
                return found
        raise Unreachable("connection_lost")

    async def _shake_hands(self, way: Way, call: _Call, *, hasty: bool) -> Response | None:
        """Log the connection in, the request on the way; None: it was lost meanwhile."""
        login = Login(way, self._credentials, call.host, self._tickets)
        threads = _threads if way == "negotiate" else None
        share = _FOR_KERBEROS if hasty else 1.0
        said = await _in_thread(
            threads, partial(login.begin, server_end_point(self._certificate)), call.left() * share
        )
        for _ in range(_ROUNDS):
            body = None if login.last_word else b""
            answer = await self._send(call, body=body, authorization=said)
            if answer.status != 401:
                return self._let_in(way, login, answer)
            if login.last_word and answer.peer is not None and answer.peer.new:
                # What was said was meant for the connection before.
                return None
            challenge = _token(answer, way)
            if challenge is None:
                raise LoginImpossible("login_not_offered")
            step = partial(login.go_on, challenge, server_end_point(self._certificate))
            said = await _in_thread(threads, step, call.left())
        raise CredentialsRefused

    def _let_in(self, way: Way, login: Login, answer: Response) -> Response:
        if answer.status in (200, 500):
            if not login.last_word:
                raise LoginImpossible("login_failed")
            login.end(_token(answer, way) or b"")
            self._logged_in, self._scheme = True, way
        return answer

    async def _send(
        self, call: _Call, *, body: bytes | None = None, authorization: str = ""
    ) -> Response:
        """The request, or with `body` one that is like it."""
        request = call.request
        headers = request.headers
        if authorization:
            headers = (("Authorization", authorization), *headers)
        response = await self._client.perform(
            replace(
                request,
                headers=headers,
                body=request.body if body is None else body,
                deadline_s=call.left(),
                ask_peer=True,
            )
        )
        if response.peer is not None and response.peer.new:
            self._certificate = response.peer.certificate
        return response


@dataclass(frozen=True, slots=True)
class _Call:
    request: Request
    ends: float

    @property
    def host(self) -> str:
        return urlsplit(self.request.url).hostname or ""

    def left(self) -> float:
        return self.ends - asyncio.get_running_loop().time()


async def _in_thread(
    threads: ThreadPoolExecutor | None, step: Callable[[], T], seconds: float
) -> T:
    """What may ask a domain controller; one that hangs is left behind."""
    if seconds <= 0:
        raise DeadlineExceeded
    asked = asyncio.get_running_loop().run_in_executor(threads, step)
    try:
        async with asyncio.timeout(seconds):
            # One that has not begun is called off: it would try a password that nobody waits for,
            # and nobody would learn that it is wrong.
            return await asked
    except TimeoutError:
        raise LoginImpossible("kdc_unreachable", transient=True) from None


def _token(answer: Response, way: Way) -> bytes | None:
    try:
        return offers.token(answer.headers.get("www-authenticate", ""), way)
    except ValueError:
        raise LoginImpossible("login_failed") from None
