"""The client of the relay: many pushes in one signed call, a result for each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from apps import request_id
from apps.cns.answer import LINES, Answer, Result, problem_code
from apps.cns.channel import load_channel
from apps.cns.errors import CnsUnavailable
from apps.wire.client import Client, Request, Tls
from apps.wire.errors import WireError
from apps.wire.proxy import Proxy

Service = Literal["apns", "fcm"]

PROTOCOL_VERSION = 1
MAX_PUSHES = 500
# More than any answer needs: a result is 100 to 200 bytes.
_ANSWER_BYTES = 16 * 1024
_ANSWER_BYTES_EACH = 512
_ENDPOINT = re.compile(r"/nws/notify/[a-z]+/?\Z")


@dataclass(frozen=True, slots=True)
class Push:
    """One push to one device.

    `id` is a UUID in lower case. `expiration`: Unix seconds until which the push service keeps
    trying, 0 for once. `collapse_id`: up to 64 printable ASCII characters, empty for none; a push
    replaces the one before it with the same.
    """

    id: str
    app: str
    token: str = field(repr=False)
    push_type: Literal["alert", "background"]
    priority: Literal[10, 5]
    expiration: int
    collapse_id: str = field(repr=False)
    payload: dict[str, Any] = field(repr=False)
    # For log lines, here and at the relay; not part of what is pushed.
    request_id: str = field(default_factory=request_id.current)


class CnsClient:
    """Calls one relay over kept-alive connections; to be used from one event loop.

    Args:
        url: the relay's address; it may already end in `/nws/notify/apns`.
        key_pem: the secure channel key and its certificate.
        pins: base64 SHA-256 of the SubjectPublicKeyInfo that the host may show: current and next.
        ca_pem: private CAs of the host.
        proxy: the way to the host; pins and CAs are the host's all the same.
        deadline_s: total seconds for a call, the push service's answers included.

    Raises:
        apps.cns.channel.ChannelUnusable: `key_pem` can't be used.
    """

    def __init__(
        self,
        url: str,
        key_pem: bytes,
        pins: Sequence[str] = (),
        ca_pem: str = "",
        *,
        proxy: Proxy | None = None,
        deadline_s: float = 18.0,
    ) -> None:
        # What is signed as audience is the address without the endpoint, as the relay knows it.
        self._audience = _ENDPOINT.sub("", url).rstrip("/")
        self._channel = load_channel(key_pem)
        self._tls = Tls(ca_pem=ca_pem, pins=tuple(pins))
        self._deadline_s = deadline_s
        self._http = Client(proxy=proxy)

    def move_to(self, url: str, pins: Sequence[str], ca_pem: str, *, proxy: Proxy | None) -> Client:
        """Call another address, or the same in another way, from now on.

        Returns the connections of before: who moves the client closes them when the calls that
        are under way have been answered.
        """
        before = self._http
        self._audience = _ENDPOINT.sub("", url).rstrip("/")
        self._tls = Tls(ca_pem=ca_pem, pins=tuple(pins))
        self._http = Client(proxy=proxy)
        return before

    def sign_with(self, key_pem: bytes) -> None:
        """Sign with another key from now on.

        Raises:
            apps.cns.channel.ChannelUnusable: `key_pem` can't be used; the old one stays.
        """
        self._channel = load_channel(key_pem)

    async def send(
        self,
        platform: Service,
        pushes: Sequence[Push],
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Send up to MAX_PUSHES pushes; their results in the same order, after each was answered.

        `on_result` hears of each as soon as it is known, in the event loop, and must be quick.
        When the answer breaks off, those without one are to be tried again: `retry`, with the
        reason of the break. What was heard before an exception holds.

        Raises:
            CnsUnavailable: no usable answer for any of them; try again later.
            CnsRefused: the relay takes no call of ours; somebody has to put it right.
            ValueError: too many pushes.
        """
        if len(pushes) > MAX_PUSHES:
            raise ValueError("too many pushes for one call")
        if not pushes:
            return []
        request = self._request(platform, pushes)
        answer = Answer([push.id for push in pushes], PROTOCOL_VERSION, on_result)
        code = "answer_incomplete"
        try:
            response = await self._http.perform(request, answer.take)
            if response.body or response.status != 200:
                answer.read_document(response)
        except WireError as error:
            code = error.code
        except CnsUnavailable as error:
            if not answer.any_known:
                raise
            code = error.code
        return answer.results(code)

    async def knock(self) -> str:
        """Make a signed call without any push, to learn whether the relay would take ours.

        Returns `ok`, or the relay's code for why not (`certificate_unknown`, `clock_mismatch`, …).

        Raises:
            CnsUnavailable: no answer, or none of a relay.
        """
        try:
            response = await self._http.perform(self._request("apns", []))
        except WireError as error:
            raise CnsUnavailable(error.code) from None
        code = problem_code(response)
        # Whose signature is good is told that there is nothing in the call; others hear it before.
        if response.status == 200 or code == "body_malformed":
            return "ok"
        if not code:
            raise CnsUnavailable(f"http_{response.status}")
        return code

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        await self._http.close()

    def _request(self, platform: str, pushes: Sequence[Push]) -> Request:
        url = f"{self._audience}/nws/notify/{platform}"
        body = _body(pushes)
        ids = dict.fromkeys(push.request_id for push in pushes if push.request_id)
        parts = urlsplit(url)
        signature = self._channel.sign(self._audience, "POST", parts.path, body, time.time())
        return Request(
            "POST",
            url,
            headers=(
                ("Content-Type", "application/json"),
                ("Accept", LINES),
                ("ENS-Signature", signature),
                (request_id.HEADER, ",".join(ids)),
            ),
            body=body,
            deadline_s=self._deadline_s,
            max_response_bytes=_ANSWER_BYTES + len(pushes) * _ANSWER_BYTES_EACH,
            tls=self._tls,
            # Plain HTTP where the administrator wrote it so: a relay on the same machine.
            schemes=(parts.scheme,),
        )


def _body(pushes: Sequence[Push]) -> bytes:
    notifications = [
        {
            "id": push.id,
            "app": push.app,
            "token": push.token,
            "push_type": push.push_type,
            "priority": push.priority,
            "expiration": push.expiration,
            "collapse_id": push.collapse_id,
            "payload": push.payload,
        }
        for push in pushes
    ]
    content = {"version": PROTOCOL_VERSION, "notifications": notifications}
    # A subject with half a surrogate pair must not cost the batch: it goes out as "?".
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
