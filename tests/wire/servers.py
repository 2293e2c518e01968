"""Small real servers on loopback, each on a free port, ending with the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import h2.config
import h2.connection
import h2.events
import h2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

P256 = ec.SECP256R1()


@dataclass
class Authority:
    """A private CA that signs certificates for loopback names."""

    folder: Path
    common_name: str = field(default_factory=lambda: f"Test CA {uuid4()}")
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(P256))

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])
        builder = self._builder(self.name, self.key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = builder.sign(self.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def context(
        self, *names: str, alpn: tuple[str, ...] = ("http/1.1",)
    ) -> tuple[ssl.SSLContext, bytes]:
        """A server's TLS context for `names`, and its SubjectPublicKeyInfo."""
        names = names or ("localhost", "127.0.0.1", "::1")
        key = ec.generate_private_key(P256)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [_general_name(name) for name in names]
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.folder / f"{certificate.serial_number}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.set_alpn_protocols(list(alpn))
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return context, spki


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass
class Seen:
    """What a server was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Site:
    """A running server and what it has met."""

    port: int
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    lost: int = 0

    def url(self, path: str = "/", host: str = "localhost", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


Answer = Callable[[Seen], Awaitable[bytes]]


def http_answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP/1.1 answer; `_` in header names stands for `-`."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def http_site(
    answer: Answer, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Site]:
    """An HTTP/1.1 server that answers each request with the bytes that `answer` returns."""
    site = Site(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site.connections += 1
        site.open_now += 1
        try:
            while seen := await _read_request(reader):
                site.requests.append(seen)
                writer.write(await answer(seen))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            site.lost += 1
        finally:
            site.open_now -= 1
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()


async def _read_request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body)


class _H2Connection:
    """The server's side of one HTTP/2 connection."""

    def __init__(
        self, site: Site, writer: asyncio.StreamWriter, delay_s: float, limit: int | None
    ) -> None:
        self.site, self.writer, self.delay_s, self.limit = site, writer, delay_s, limit
        self.machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.waiting: dict[int, Seen] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.taken = 0

    async def run(self, reader: asyncio.StreamReader, streams: int | None) -> None:
        self.machine.initiate_connection()
        if streams is not None:
            most = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
            self.machine.update_settings({most: streams})
        self.flush()
        while data := await reader.read(65536):
            for event in self.machine.receive_data(data):
                refused = self.limit is not None and getattr(event, "stream_id", 0) > 2 * self.limit
                if not refused:
                    self.handle(event)
            self.flush()

    def handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            fields = {bytes(name).decode(): bytes(value).decode() for name, value in event.headers}
            self.waiting[event.stream_id] = Seen(fields[":method"], fields[":path"], fields, b"")
        elif isinstance(event, h2.events.DataReceived):
            self.waiting[event.stream_id].body += event.data
            self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.site.lost += 1
        elif isinstance(event, h2.events.StreamEnded):
            self.take(event.stream_id)

    def take(self, stream: int) -> None:
        seen = self.waiting.pop(stream)
        self.site.requests.append(seen)
        self.taken += 1
        if self.taken == self.limit:
            # By hand: the library would refuse to finish the streams it has taken.
            self.writer.write(b"\0\0\x08\x07\0\0\0\0\0" + stream.to_bytes(4, "big") + bytes(4))
        task = asyncio.create_task(self.reply(stream, seen))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def reply(self, stream: int, seen: Seen) -> None:
        await asyncio.sleep(self.delay_s)
        self.machine.send_headers(stream, [(":status", "200"), ("x-path", seen.target.lower())])
        self.machine.send_data(stream, seen.target.encode() + seen.body, end_stream=True)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.machine.data_to_send())


@asynccontextmanager
async def h2_site(
    delay_s: float,
    context: ssl.SSLContext,
    *,
    streams: int | None = None,
    goaway_after: int | None = None,
) -> AsyncIterator[Site]:
    """An HTTP/2 server that answers every stream with 200 and its path, `delay_s` later.

    With `goaway_after`, its first connection takes so many streams and turns the others away.
    """
    site = Site(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site.connections += 1
        site.open_now += 1
        limit = goaway_after if site.connections == 1 else None
        connection = _H2Connection(site, writer, delay_s, limit)
        try:
            await connection.run(reader, streams)
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            site.lost += 1
        finally:
            for task in connection.tasks:
                task.cancel()
            site.open_now -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
