"""Sends notifications to FCM, all of a batch side by side on a few HTTP/2 connections.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from apps.relay.providers import Done, Notification, OpenApp, Outcome
from apps.relay.providers.fcm.account import ServiceAccount
from apps.relay.providers.fcm.classify import Verdict, classify, classify_error
from apps.relay.providers.fcm.message import Unsendable, message
from apps.relay.providers.fcm.quota import Quotas
from apps.relay.providers.fcm.token import AccessTokens
from apps.wire.client import Client, Request, Tls
from apps.wire.errors import DeadlineExceeded, WireError

GOOGLE = "https://fcm.googleapis.com"

# Google allows 100 streams on each; a full batch has 500.
_CONNECTIONS = 4
# With the time for an access token below what a caller waits for the whole batch.
_DEADLINE_S = 8.0
_MAX_ANSWER_BYTES = 64 * 1024


class FcmProvider:
    """One per process, used from the background loop only.

    Args:
        url: another server than Google's, for the lab.
        token_url: another token endpoint than Google's, for the lab.
        ca_pem: private CAs that signed their certificates.
    """

    def __init__(
        self, url: str | None = None, token_url: str | None = None, ca_pem: str = ""
    ) -> None:
        self._url = url or GOOGLE
        self._tls = Tls(ca_pem=ca_pem)
        self._client = Client(max_host_connections=_CONNECTIONS)
        self._answered_at = 0.0
        self._tokens = AccessTokens(Client(max_host_connections=1), token_url, self._tls)
        self._quotas = Quotas()

    async def send(self, app: OpenApp, notifications: Sequence[Notification], done: Done) -> None:
        """Send all of them side by side; see `Provider`."""
        account = ServiceAccount.load(app.credentials)

        async def one(notification: Notification) -> None:
            done(notification, await self._send_one(app, account, notification))

        await asyncio.gather(*(one(each) for each in notifications))

    async def _send_one(
        self, app: OpenApp, account: ServiceAccount, notification: Notification
    ) -> Outcome:
        deadline = time.monotonic() + _DEADLINE_S
        wait_s = self._quotas.wait_s(account.project_id)
        if wait_s is not None:
            return Outcome("retry", "QUOTA_EXCEEDED", retry_after_s=wait_s)
        try:
            content = message(notification, time.time()) | {"token": notification.token}
        except Unsendable as error:
            return Outcome("failed", error.reason)
        body = json.dumps({"message": content}, ensure_ascii=False, separators=(",", ":")).encode()
        token = await self._tokens.get(app, account)
        if isinstance(token, Outcome):
            return token
        try:
            verdict = await self._post(account, token, body, deadline)
            if verdict.token_refused:
                fresh = await self._tokens.get(app, account, not_this=token)
                if isinstance(fresh, Outcome):
                    return fresh
                verdict = await self._post(account, fresh, body, deadline)
        except WireError as error:
            return classify_error(error)
        return self._judged(account, verdict)

    def _judged(self, account: ServiceAccount, verdict: Verdict) -> Outcome:
        if verdict.outcome.status == "accepted":
            self._quotas.accepted(account.project_id)
        elif verdict.quota_exceeded:
            wait_s = self._quotas.exceeded(account.project_id, verdict.told_s)
            return replace(verdict.outcome, retry_after_s=wait_s)
        return verdict.outcome

    async def _post(
        self, account: ServiceAccount, token: str, body: bytes, deadline: float
    ) -> Verdict:
        request = Request(
            "POST",
            f"{self._url}/v1/projects/{quote(account.project_id)}/messages:send",
            headers=(
                ("authorization", f"Bearer {token}"),
                ("content-type", "application/json; charset=UTF-8"),
            ),
            body=body,
            deadline_s=deadline - time.monotonic(),
            max_response_bytes=_MAX_ANSWER_BYTES,
            http2=True,
            tls=self._tls,
        )
        client, began = self._client, time.monotonic()
        try:
            response = await client.perform(request)
        except DeadlineExceeded:
            if self._answered_at < began and client is self._client:
                await self._start_afresh()
            raise
        self._answered_at = time.monotonic()
        return classify(response)

    async def _start_afresh(self) -> None:
        """Leave connections on which nothing at all has come back for a whole deadline.

        The network forgot them and told nobody; they would go on taking messages until TCP gives
        up, minutes later. What is still on them is tried again by whoever asked for it.
        """
        left, self._client = self._client, Client(max_host_connections=_CONNECTIONS)
        await left.close()
