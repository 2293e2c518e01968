"""Many small HTTP/2 requests that differ in path, headers and body only, answered by callback.

For pushes, of which a relay sends thousands a second: a handle keeps all that is the same for each
of them, and no task and no future stands for any. A push then costs four option calls, where
`Client.perform` makes twenty, an asyncio task and two objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pycurl

from apps.wire.client import (
    Client,
    Response,
    Tls,
    WireError,
    error_of,
    prepare_tls,
)
from apps.wire.errors import DeadlineExceeded

Answered = Callable[[Response | WireError], None]

_MAX_IDLE = 1000
_NOWHERE = "https://idle.invalid/"
_SUCCESS = Response(200, {}, b"")


class Posts:
    """POST requests by one client to peers that are verified in one way.

    Args:
        client: carries them; it must have neither an address check nor a proxy.
        tls: how the peer is verified, and who we are.
        max_response_bytes: as in `Request`.
    """

    def __init__(self, client: Client, tls: Tls, *, max_response_bytes: int) -> None:
        self._client = client
        self._tls = tls
        self._max_response_bytes = max_response_bytes
        self._idle: list[_Slot] = []

    def send(
        self,
        url: str,
        headers: Sequence[bytes],
        body: bytes,
        deadline_s: float,
        answered: Answered,
    ) -> None:
        """Send one; `answered` is called with its answer, or with what went wrong, in the loop.

        Args:
            url: an `https` address.
            headers: made by `header_lines` and `header_line`.
            body: what is posted.
            deadline_s: total seconds, as in `Request`.
            answered: called once, never before this has returned. Of the answer's headers it has
                only `retry-after`, in seconds, where there is one: each header line would cost a
                call from libcurl, and with it a turn at the interpreter's lock.

        Raises:
            ConnectFailed: the client is closed.
            DeadlineExceeded: `deadline_s` has passed already.
        """
        self._client.bind()
        if deadline_s <= 0:
            raise DeadlineExceeded
        slot = self._idle.pop() if self._idle else self._new_slot()
        setopt = slot.handle.setopt
        setopt(pycurl.URL, url)
        setopt(pycurl.HTTPHEADER, headers)
        setopt(pycurl.POSTFIELDS, body)
        setopt(pycurl.TIMEOUT_MS, max(1, int(deadline_s * 1000)))
        slot.answered = answered
        self._client.add(slot.handle, slot.settle)

    def _new_slot(self) -> _Slot:
        slot = _Slot()
        setopt = slot.handle.setopt
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        setopt(pycurl.PROXY, "")
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.POST, 1)
        setopt(pycurl.MAXFILESIZE_LARGE, self._max_response_bytes)
        setopt(pycurl.WRITEFUNCTION, slot.body.append)
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        setopt(pycurl.PIPEWAIT, 1)
        prepare_tls(setopt, self._tls)
        self._client.note_connections(slot.handle)
        slot.settle = partial(self._settle, slot)
        return slot

    def _settle(self, slot: _Slot, error: tuple[int, str] | None) -> None:
        answer = slot.answer() if error is None else error_of(error[0])
        answered = slot.answered
        slot.forget()
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(slot)
        answered(answer)


class _Slot:
    """A handle that is set up, with the list that libcurl writes an answer's body to."""

    __slots__ = ("answered", "body", "handle", "settle")

    answered: Answered
    settle: Callable[[tuple[int, str] | None], None]

    def __init__(self) -> None:
        self.handle: Any = pycurl.Curl()
        self.body: list[bytes] = []

    def answer(self) -> Response:
        status = self.handle.getinfo(pycurl.RESPONSE_CODE)
        if status == 200 and not self.body:
            return _SUCCESS
        wait_s = self.handle.getinfo(pycurl.RETRY_AFTER)
        headers = {"retry-after": str(wait_s)} if wait_s > 0 else {}
        return Response(status, headers, b"".join(self.body))

    def forget(self) -> None:
        """An idle handle must hold neither credentials nor whom a push was for nor what it said."""
        self.body.clear()
        self.handle.unsetopt(pycurl.HTTPHEADER)
        self.handle.setopt(pycurl.URL, _NOWHERE)
        self.handle.setopt(pycurl.POSTFIELDS, b"")
        del self.answered
