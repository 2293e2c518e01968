"""The pretend APNs as a whole: one TLS port for providers, one plain control port for the lab."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from apps.lab.apns import rules
from apps.lab.apns.answers import Answer, Refused
from apps.lab.apns.certificates import PushCertificates
from apps.lab.apns.connection import Connection, Request
from apps.lab.apns.control import Control
from apps.lab.apns.faults import Fault, Faults
from apps.lab.apns.phones import Phones
from apps.lab.apns.providers import ProviderKey, Providers
from apps.lab.ca import LabCa


class LabApns:
    """A pretend APNs on loopback. Start, use and stop it in one event loop.

    Attributes:
        ca_pem: the CA that signed its certificate.
        phones: device tokens, what arrived, and waiting for what will.
        faults: what shall go wrong; `faults.order(Fault(...))`.
        answers: how often each (status, reason) was answered.
        connections_opened: how many connections providers have made so far.
        streams: how many streams a connection may have at once.
        goaway_after: after how many streams a connection says GOAWAY, answers those, and closes;
            0 for never.
        certificates: issues push certificates, and knows whose are shown.
        refused_dead: the tokens that were answered 410 so far.
    """

    def __init__(
        self,
        ca: LabCa,
        *,
        port: int = 0,
        control_port: int = 0,
        streams: int = 1000,
        sandbox: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tls = ca.issue("apns").server_context()
        self._tls.set_alpn_protocols(["h2"])
        self.certificates = PushCertificates()
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._tls.load_verify_locations(cadata=self.certificates.pem)
        self.ca_pem = ca.pem
        self.streams = streams
        self.goaway_after = 0
        self.refused_dead: set[str] = set()
        self._sandbox = sandbox
        self.phones = Phones()
        self.faults = Faults()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.connections_opened = 0
        self._ports = (port, control_port)
        self._clock = clock
        self._providers = Providers()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._control = Control(self)

    async def start(self) -> None:
        """Listen; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        port, control_port = self._ports
        self._server = await loop.create_server(
            lambda: Connection(self),
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
        """Where providers push to, as `https://127.0.0.1:<port>`."""
        return f"https://127.0.0.1:{self._ports[0]}"

    @property
    def control_url(self) -> str:
        """The control port's address, as `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self._ports[1]}"

    def new_key(self, team_id: str, topics: list[str]) -> ProviderKey:
        """Hand out a provider key for a team's topics, as Apple's developer site does."""
        private = ec.generate_private_key(ec.SECP256R1())
        key_id = secrets.token_hex(5).upper()
        self.add_key(
            key_id,
            team_id,
            private.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode(),
            topics,
        )
        p8 = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return ProviderKey(key_id, team_id, p8.decode())

    def add_key(self, key_id: str, team_id: str, public_pem: str, topics: list[str]) -> None:
        """Know a key that was made elsewhere; raises ValueError unless it is P-256 in PEM."""
        self._providers.add(key_id, team_id, public_pem.encode(), frozenset(topics))

    def revoke_key(self, key_id: str) -> None:
        """Tokens made with it are InvalidProviderToken from now on; raises KeyError."""
        self._providers.remove(key_id)

    def register(self, topic: str, token: str = "") -> str:
        """Make a device token valid for an app; without one, a fresh one. Returns the token."""
        token = token.lower() or secrets.token_hex(32)
        self.phones.register(token, topic)
        return token

    def unregister(self, token: str) -> None:
        """The app was removed: pushes are answered 410 from now on. Raises KeyError."""
        self.phones.unregister(token, self._clock())

    def opened(self, connection: Connection) -> None:
        """A provider has connected."""
        self._connections.add(connection)
        self.connections_opened += 1

    def closed(self, connection: Connection) -> None:
        """A provider's connection has ended."""
        self._connections.discard(connection)

    def fault_for(self, request: Request) -> Fault | None:
        """The fault ordered for this request, if any."""
        path = dict(request.headers).get(":path", "")
        return self.faults.next_for(path.rpartition("/")[2].lower())

    def answer(self, request: Request, fault: Fault | None) -> Answer:
        """Check a notification as Apple does, deliver it, and count the answer."""
        found = self._checked(request, fault)
        self.answers[found.status, found.reason] += 1
        if found.status == 410:
            path = dict(request.headers)[":path"]
            self.refused_dead.add(path.rpartition("/")[2].lower())
        return found

    def _topics(self, headers: Mapping[str, str], certificate: bytes) -> frozenset[str]:
        """What the caller may push to, by its provider token or else its certificate."""
        if certificate and "authorization" not in headers:
            return self.certificates.check(certificate, sandbox=self._sandbox)
        return self._providers.check(headers, self._clock())

    def _checked(self, request: Request, fault: Fault | None) -> Answer:
        apns_id = str(uuid4())
        try:
            headers = rules.single_headers(request.headers)
            apns_id = rules.message_id(headers, uuid4())
            if fault is not None and fault.action == "refuse":
                raise Refused(fault.reason)
            token = rules.device_token(headers)
            allowed = self._topics(headers, request.certificate)
            topic = rules.topic(headers)
            if topic not in allowed:
                raise Refused("TopicDisallowed")
            push = rules.push(headers, bytes(request.body), token, topic)
            self.phones.check(token, topic)
            self.phones.deliver(push, apns_id, self._clock())
        except Refused as refused:
            answer = refused.answer(apns_id)
            if fault is not None and fault.action == "refuse":
                return Answer(
                    answer.status, apns_id, answer.reason, retry_after_s=fault.retry_after_s
                )
            return answer
        return Answer(200, apns_id)
