"""The pretend FCM as a whole: one TLS port for providers, one plain control port for the lab."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable

from apps.lab.apns.connection import Connection, Request
from apps.lab.apns.faults import Fault, Faults
from apps.lab.ca import LabCa
from apps.lab.fcm import rules
from apps.lab.fcm.accounts import Accounts, ServiceAccount, new_account
from apps.lab.fcm.answers import Answer, FcmFault, Refused
from apps.lab.fcm.control import Control
from apps.lab.fcm.phones import Phones

_SEND = re.compile(r"/v1/projects/(?P<project>[a-z0-9:.%-]+)/messages:send")
_TOKEN = "/token"


class _GoogleConnection(Connection):
    """Google allows 100 streams from the start."""

    first_streams = 100


class LabFcm:
    """A pretend FCM on loopback. Start, use and stop it in one event loop.

    Attributes:
        ca_pem: the CA that signed its certificate.
        accounts: service accounts and their access tokens.
        phones: registration tokens, what arrived, and waiting for what will.
        answers: how often each (status, reason) was answered, tokens and messages alike.
        connections_opened: how many connections providers have made so far.
        streams: how many streams a connection may have at once.
    """

    def __init__(
        self,
        ca: LabCa,
        *,
        port: int = 0,
        control_port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tls = ca.issue("fcm").server_context()
        self._tls.set_alpn_protocols(["h2"])
        self.ca_pem = ca.pem
        self.streams = _GoogleConnection.first_streams
        self.goaway_after = 0
        self.accounts = Accounts()
        self.phones = Phones()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.connections_opened = 0
        self._faults = {"messages": Faults(), "token": Faults()}
        self._ports = (port, control_port)
        self._clock = clock
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._control = Control(self)

    async def start(self) -> None:
        """Listen; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        port, control_port = self._ports
        self._server = await loop.create_server(
            lambda: _GoogleConnection(self),
            "127.0.0.1",
            port,
            ssl=self._tls,
            # A provider that idles doesn't answer our goodbye; stopping must not wait for it.
            ssl_shutdown_timeout=1,
        )
        await self._control.start(control_port)
        self._ports = (self._server.sockets[0].getsockname()[1], self._control.port)

    async def stop(self) -> None:
        """Take leave of all providers and close both ports."""
        await self._control.stop()
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.leave()
            await self._server.wait_closed()
            self._server = None

    @property
    def url(self) -> str:
        """Where messages go to, as `https://127.0.0.1:<port>`."""
        return f"https://127.0.0.1:{self._ports[0]}"

    @property
    def token_url(self) -> str:
        """Where access tokens are given."""
        return f"{self.url}{_TOKEN}"

    @property
    def control_url(self) -> str:
        """The control port's address, as `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self._ports[1]}"

    def new_account(self, project_id: str) -> ServiceAccount:
        """Hand out a service account of a project, as Google's console does."""
        account, public_pem = new_account(project_id)
        self.accounts.add(project_id, account.client_email, public_pem)
        return account

    def register(self, package: str, project_id: str, token: str = "") -> str:
        """Make a token valid for an app and its sender; without one, a fresh one. Returns it."""
        token = token or f"{secrets.token_urlsafe(16)}:APA91b{secrets.token_urlsafe(100)}"
        self.phones.register(token, project_id, package)
        return token

    def order(self, fault: FcmFault) -> None:
        """Let a fault happen to coming messages or requests for tokens."""
        self._faults[fault.place].order(fault)

    def clear_faults(self) -> None:
        """Forget every fault that has not happened."""
        for faults in self._faults.values():
            faults.clear()

    def opened(self, connection: Connection) -> None:
        """A provider has connected."""
        self._connections.add(connection)
        self.connections_opened += 1

    def closed(self, connection: Connection) -> None:
        """A provider's connection has ended."""
        self._connections.discard(connection)

    def fault_for(self, request: Request) -> Fault | None:
        """The fault ordered for this request, if any."""
        if dict(request.headers).get(":path") == _TOKEN:
            return self._faults["token"].next_for("")
        try:
            token = str(json.loads(bytes(request.body))["message"]["token"])
        except (ValueError, KeyError, TypeError, RecursionError):
            token = "?"
        return self._faults["messages"].next_for(token)

    def answer(self, request: Request, fault: Fault | None) -> Answer:
        """Check a request as Google does, do what it asks, and count the answer."""
        try:
            if isinstance(fault, FcmFault) and fault.action == "refuse":
                found = Refused(fault.reason).answer(fault.retry_after_s, fault.body)
            else:
                found = self._done(request)
        except Refused as refused:
            found = refused.answer()
        self.answers[found.status, found.reason] += 1
        return found

    def _done(self, request: Request) -> Answer:
        headers = dict(request.headers)
        path, now = headers.get(":path", ""), self._clock()
        send = _SEND.fullmatch(path)
        if headers.get(":method") != "POST" or (path != _TOKEN and send is None):
            raise Refused("NOT_FOUND")
        if send is None:
            return self.accounts.give_token(bytes(request.body), now)
        project = self.accounts.project_of(headers.get("authorization", ""), now)
        if project != send["project"]:
            raise Refused("PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied")
        self.phones.deliver(rules.parse(bytes(request.body)), project, now)
        return Answer(200, {"name": f"projects/{project}/messages/0:{secrets.token_hex(16)}"})
