"""One provider's HTTP/2 connection: frames in, answers out, and the faults that break it.

Like Apple, it allows one stream at a time until a notification with a valid provider token came,
and then as many as the server is set to; a client that showed a certificate may have them at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from apps.lab.apns.faults import Fault
from apps.lab.apns.rules import MAX_PAYLOAD_BYTES

# Beyond this a body is not even kept to be measured.
_MAX_KEPT_BYTES = 4 * MAX_PAYLOAD_BYTES


@dataclass(slots=True)
class Request:
    """One request as it came; the body stops growing once it is hopelessly too large."""

    headers: list[tuple[str, str]] = field(repr=False)
    body: bytearray = field(default_factory=bytearray, repr=False)
    # In DER; empty from a client that showed none.
    certificate: bytes = field(default=b"", repr=False)


class Reply(Protocol):
    """What is said back: an HTTP/2 header block and a body, which may be empty."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    def headers(self) -> list[tuple[str, str]]:
        """The header block, `:status` first."""

    def body(self) -> bytes:
        """The body."""


class Service(Protocol):
    """What a connection asks of the server."""

    streams: int
    goaway_after: int

    def fault_for(self, request: Request) -> Fault | None:
        """The fault that shall happen to this request."""

    def answer(self, request: Request, fault: Fault | None) -> Reply:
        """Check a notification, deliver it, and say what the push service says."""

    def opened(self, connection: Connection) -> None:
        """A connection begins."""

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""


class Connection(asyncio.Protocol):
    """The server's side of one HTTP/2 connection.

    `first_streams`: how many streams are allowed before the first success.
    """

    first_streams = 1

    def __init__(self, service: Service) -> None:
        self._service = service
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._requests: dict[int, Request] = {}
        self._unsent: dict[int, bytes] = {}
        self._hanging: set[int] = set()
        self._trusted = False
        self._leaving = False
        self._taken = 0
        self._limit = self.first_streams
        self._certificate = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet with our settings; a peer that didn't negotiate h2 is cut."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.opened(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            transport.abort()
            return
        self._certificate = (tls.getpeercert(binary_form=True) or b"") if tls is not None else b""
        self._trusted = bool(self._certificate)
        self._limit = self._service.streams if self._trusted else self.first_streams
        self._http.local_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: self._limit})
        self._http.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._transport = None
        self._service.closed(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the provider; a breach of the protocol ends the connection."""
        try:
            events = self._http.receive_data(data)
        except (ProtocolError, UnicodeDecodeError):
            self._flush()
            self._abort()
            return
        for event in events:
            self._take(event)
        self._flush()

    def leave(self) -> None:
        """Say GOAWAY for a shutdown in good order, and close."""
        if self._transport is not None and not self._transport.is_closing():
            self._http.close_connection()
            self._flush()
            self._transport.close()

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(stream), headers=headers):
                under_way = len(self._requests) + len(self._hanging) + len(self._unsent)
                if under_way >= self._limit:
                    # The client may not have heard of our limit yet.
                    self._http.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                elif not self._leaving:
                    named = [(str(name), str(value)) for name, value in headers or ()]
                    self._requests[stream] = Request(named, certificate=self._certificate)
                    self._count(stream)
            case DataReceived(stream_id=int(stream), data=data, flow_controlled_length=length):
                request = self._requests.get(stream)
                self._acknowledge(length or 0, stream)
                if request is not None and len(request.body) <= _MAX_KEPT_BYTES:
                    request.body += data or b""
            case StreamEnded(stream_id=int(stream)):
                request = self._requests.pop(stream, None)
                if request is not None:
                    self._complete(stream, request)
            case StreamReset(stream_id=int(stream)):
                self._requests.pop(stream, None)
                self._unsent.pop(stream, None)
                self._hanging.discard(stream)
            case WindowUpdated():
                for waiting in list(self._unsent):
                    self._send_body(waiting)

    def _acknowledge(self, length: int, stream: int) -> None:
        try:
            self._http.acknowledge_received_data(length, stream)
        except StreamClosedError:
            return  # refused while its body was on the way

    def _complete(self, stream: int, request: Request) -> None:
        fault = self._service.fault_for(request)
        if fault is not None and fault.delay_s > 0:
            loop = asyncio.get_running_loop()
            self._hanging.add(stream)
            loop.call_later(fault.delay_s, self._act, stream, request, fault)
        else:
            self._act(stream, request, fault)

    def _act(self, stream: int, request: Request, fault: Fault | None) -> None:
        self._hanging.discard(stream)
        if self._transport is None:
            return
        match fault.action if fault is not None else None:
            case "drop":
                self._abort()
            case "hang":
                self._hanging.add(stream)
            case "deliver_and_drop":
                self._service.answer(request, fault)
                self._abort()
            case "goaway":
                self._go_away(stream)
            case _:
                self._answer(stream, self._service.answer(request, fault))
        self._flush()

    def _answer(self, stream: int, answer: Reply) -> None:
        body = answer.body()
        try:
            self._http.send_headers(stream, answer.headers(), end_stream=not body)
        except (StreamClosedError, ProtocolError):
            return  # the provider gave this stream up meanwhile
        if body:
            self._unsent[stream] = body
            self._send_body(stream)
        if answer.status == 200 and not self._trusted:
            self._trusted, self._limit = True, self._service.streams
            self._http.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._service.streams})

    def _send_body(self, stream: int) -> None:
        body = self._unsent.pop(stream)
        try:
            room = self._http.local_flow_control_window(stream)
            if room < len(body):
                self._unsent[stream] = body
                return
            self._http.send_data(stream, body, end_stream=True)
        except (StreamClosedError, ProtocolError):
            return

    def _count(self, stream: int) -> None:
        """Take so many streams as a connection is set to, and no more."""
        self._taken += 1
        if 0 < self._service.goaway_after <= self._taken:
            self._go_away(stream + 2)

    def _go_away(self, stream: int) -> None:
        """Refuse this stream and all later ones; h2's own GOAWAY would end earlier ones too."""
        self._leaving = True
        frame = GoAwayFrame(0, last_stream_id=max(stream - 2, 0), error_code=ErrorCodes.NO_ERROR)
        data = self._http.data_to_send() + frame.serialize()
        if self._transport is not None:
            self._transport.write(data)
        self._requests = {s: r for s, r in self._requests.items() if s < stream}

    def _flush(self) -> None:
        if self._transport is None:
            return
        data = self._http.data_to_send()
        if data:
            self._transport.write(data)
        if self._leaving and not (self._requests or self._unsent or self._hanging):
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
