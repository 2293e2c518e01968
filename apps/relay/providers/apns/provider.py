"""Sends notifications to APNs, all of a batch side by side.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

from apps.relay.providers import Done, Notification, OpenApp, Outcome
from apps.relay.providers.apns.classify import classify, classify_error
from apps.relay.providers.apns.credentials import Certificate, read_credentials
from apps.relay.providers.apns.line import Line
from apps.relay.providers.apns.token import SigningKey, provider_token
from apps.wire.client import Response, Tls, header_line, header_lines
from apps.wire.errors import ConnectFailed, WireError

PRODUCTION = "https://api.push.apple.com"
SANDBOX = "https://api.sandbox.push.apple.com"

# Below the time for which a caller waits for the whole batch.
_DEADLINE_S = 8.0
# A connection that breaks off, or says GOAWAY, leaves streams without an answer. They are sent
# again after these pauses: what APNs had taken already has the same collapse id.
_PAUSES_S = (0.05, 0.2, 0.5, 1.0)
_LOOK_EVERY_S = 60.0
# Longer than the hourly check-ins of a small site are apart would keep keys in memory for ever.
_UNUSED_S = 600.0
_MOST_SAME = 256
# Provider token, app, push type, priority.
_Same = tuple[str, str, str, int]


class ApnsProvider:
    """One per process, used from the background loop only.

    Args:
        url: another server than Apple's, for the lab.
        ca_pem: private CAs that signed its certificate.
        clock: Unix time; provider tokens are made by it.
    """

    def __init__(
        self, url: str | None = None, ca_pem: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._ca_pem = ca_pem
        self._senders: dict[tuple[SigningKey | Certificate, bool], _Sender] = {}
        self._looking = False
        self._clock = clock

    async def send(self, app: OpenApp, notifications: Sequence[Notification], done: Done) -> None:
        """Send them all side by side; see `Provider.send`."""
        if not notifications:
            return
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        left = len(notifications)

        def one_done(sent: Notification, outcome: Outcome) -> None:
            nonlocal left
            left -= 1
            try:
                done(sent, outcome)
            finally:
                if not left and not finished.done():
                    finished.set_result(None)

        sender = self._sender(app)
        ends = loop.time() + _DEADLINE_S
        pushes = [_Push(each, ends, one_done) for each in notifications]
        try:
            token = sender.token()
            for push in pushes:
                sender.start(push, token)
            await finished
        finally:
            # For nobody who has stopped waiting is anything sent again.
            for push in pushes:
                push.ends = 0.0

    def _sender(self, app: OpenApp) -> _Sender:
        """The sender of the app's credentials, shared by the apps of one key."""
        key = (read_credentials(app.credentials), app.sandbox)
        found = self._senders.get(key)
        if found is None or found.line.dead:
            if found is not None:
                found.line.leave()
            base = self._url or (SANDBOX if app.sandbox else PRODUCTION)
            found = self._senders[key] = _Sender(base, key[0], self._ca_pem, self._clock)
            self._look_later()
        return found

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._part_with_unused)

    def _part_with_unused(self) -> None:
        """Replaced credentials leave the memory some time after their last push."""
        self._looking = False
        for key, sender in list(self._senders.items()):
            if sender.line.idle_for() > _UNUSED_S:
                del self._senders[key]
                sender.line.leave()
        if self._senders:
            self._look_later()


class _Push:
    """One notification on its way, until `ends` (the loop's time)."""

    __slots__ = ("done", "ends", "pauses", "sent")

    def __init__(self, sent: Notification, ends: float, done: Done) -> None:
        self.sent = sent
        self.ends = ends
        self.done = done
        self.pauses = iter(_PAUSES_S)


class _Sender:
    """Sends with one identity to one environment."""

    def __init__(
        self,
        base: str,
        credentials: SigningKey | Certificate,
        ca_pem: str,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._base = base
        self._early = False
        if isinstance(credentials, Certificate):
            self._key = None
            self.line = Line(Tls(ca_pem=ca_pem, client_pem=credentials.pem))
        else:
            self._key = credentials
            self.line = Line(Tls(ca_pem=ca_pem))
        self._same: dict[_Same, list[bytes]] = {}

    def start(self, push: _Push, token: str) -> None:
        """Send it; its `done` is called when it has been answered or given up."""
        sent = push.sent
        headers = self._headers(sent, token)
        url = f"{self._base}/3/device/{sent.token}"
        answered = partial(self._answered, push, token)
        try:
            left_s = push.ends - asyncio.get_running_loop().time()
            self.line.post(url, headers, sent.payload, left_s, answered)
        except WireError as error:
            answered(error)

    def _answered(self, push: _Push, token: str, answer: Response | WireError) -> None:
        if isinstance(answer, WireError):
            pause = next(push.pauses, None)
            if pause is None or not _may_be_repeated(answer, push.sent):
                push.done(push.sent, classify_error(answer))
                return
            # Those that were on one connection must not come back all at the same moment.
            after = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            asyncio.get_running_loop().call_later(after, self._again, push)
            return
        outcome = classify(answer)
        if outcome.reason == "ExpiredProviderToken" and self._renew(token):
            self._again(push)
        else:
            push.done(push.sent, outcome)

    def _again(self, push: _Push) -> None:
        self.start(push, self.token())

    def token(self) -> str:
        """The provider token to use just now; empty where a certificate says who we are."""
        if self._key is None:
            return ""
        return provider_token(self._key, self._clock(), early=self._early)

    def _renew(self, refused: str) -> bool:
        """Take tokens early from now on, where that gives another one than Apple calls expired.

        Then our clock is some 20 minutes behind Apple's. Where it gives the same, the clock is
        further off, and no token that may be made now will do.
        """
        if self._key is None or provider_token(self._key, self._clock(), early=True) == refused:
            return False
        self._early = True
        return True

    def _headers(self, sent: Notification, token: str) -> list[bytes]:
        same = self._same_headers(token, sent.app, sent.push_type, sent.priority)
        headers = [
            *same,
            header_line("apns-id", sent.id),
            header_line("apns-expiration", str(sent.expiration)),
        ]
        if sent.collapse_id:
            headers.append(header_line("apns-collapse-id", sent.collapse_id))
        return headers

    def _same_headers(self, *key: *_Same) -> list[bytes]:
        """Those that thousands of pushes have in common."""
        found = self._same.get(key)
        if found is None:
            token, app, push_type, priority = key
            headers = [
                ("apns-topic", app),
                ("apns-push-type", push_type),
                ("apns-priority", str(priority)),
            ]
            if token:
                headers.append(("authorization", f"bearer {token}"))
            if len(self._same) >= _MOST_SAME:
                # Mostly those of earlier tokens.
                self._same.clear()
            found = self._same[key] = header_lines(headers)
        return found


def _may_be_repeated(error: WireError, sent: Notification) -> bool:
    """Whether to send it again here and now; a caller decides about the rest."""
    lost = isinstance(error, ConnectFailed) and error.code == "connection_lost"
    return lost and not 0 < sent.expiration <= time.time()
