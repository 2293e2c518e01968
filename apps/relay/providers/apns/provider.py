"""Sends notifications to APNs, all of a batch side by side.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from apps.relay.providers import Done, Notification, OpenApp, Outcome
from apps.relay.providers.apns.classify import classify, classify_error
from apps.relay.providers.apns.credentials import Certificate, read_credentials
from apps.relay.providers.apns.line import Line
from apps.relay.providers.apns.token import SigningKey, provider_token
from apps.wire.client import Request, Tls
from apps.wire.errors import ConnectFailed, WireError

PRODUCTION = "https://api.push.apple.com"
SANDBOX = "https://api.sandbox.push.apple.com"

# Below the time for which a caller waits for the whole batch.
_DEADLINE_S = 8.0
_MAX_ANSWER_BYTES = 16 * 1024
# A connection that breaks off, or says GOAWAY, leaves streams without an answer. They are sent
# again after these pauses: what APNs had taken already has the same collapse id.
_PAUSES_S = (0.05, 0.2, 0.5, 1.0)
_LOOK_EVERY_S = 60.0
# Longer than the hourly check-ins of a small site are apart would keep keys in memory for ever.
_UNUSED_S = 600.0


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
        sender = self._sender(app)
        await asyncio.gather(*(sender.send(each, done) for each in notifications))

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


class _Sender:
    """Sends with one identity to one environment."""

    def __init__(
        self,
        base: str,
        credentials: SigningKey | Certificate,
        ca_pem: str,
        clock: Callable[[], float],
    ) -> None:
        self.line = Line()
        self._clock = clock
        self._base = base
        self._early = False
        if isinstance(credentials, Certificate):
            self._key = None
            self._tls = Tls(ca_pem=ca_pem, client_pem=credentials.pem)
        else:
            self._key = credentials
            self._tls = Tls(ca_pem=ca_pem)

    async def send(self, sent: Notification, done: Done) -> None:
        done(sent, await self._outcome(sent))

    async def _outcome(self, sent: Notification) -> Outcome:
        loop = asyncio.get_running_loop()
        ends = loop.time() + _DEADLINE_S
        pauses = iter(_PAUSES_S)
        while True:
            token = self._token()
            try:
                request = self._request(sent, token, ends - loop.time())
                outcome = classify(await self.line.perform(request))
                if outcome.reason != "ExpiredProviderToken" or not self._renew(token):
                    return outcome
            except WireError as error:
                pause = next(pauses, None)
                if pause is None or not _may_be_repeated(error, sent):
                    return classify_error(error)
                # Those that were on one connection must not come back all at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    def _token(self) -> str:
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

    def _request(self, sent: Notification, token: str, deadline_s: float) -> Request:
        headers = [
            ("apns-id", sent.id),
            ("apns-topic", sent.app),
            ("apns-push-type", sent.push_type),
            ("apns-priority", str(sent.priority)),
            ("apns-expiration", str(sent.expiration)),
        ]
        if token:
            headers.append(("authorization", f"bearer {token}"))
        if sent.collapse_id:
            headers.append(("apns-collapse-id", sent.collapse_id))
        return Request(
            "POST",
            f"{self._base}/3/device/{sent.token}",
            headers=tuple(headers),
            body=sent.payload,
            deadline_s=deadline_s,
            max_response_bytes=_MAX_ANSWER_BYTES,
            http2=True,
            tls=self._tls,
        )


def _may_be_repeated(error: WireError, sent: Notification) -> bool:
    """Whether to send it again here and now; a caller decides about the rest."""
    lost = isinstance(error, ConnectFailed) and error.code == "connection_lost"
    return lost and not 0 < sent.expiration <= time.time()
