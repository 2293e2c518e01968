"""Sends notifications through Amazon SNS, a bounded number of them side by side in threads.

https://docs.aws.amazon.com/sns/latest/dg/sns-mobile-application-as-subscriber.html

SNS answers before APNs or FCM have: `accepted` says less here than with the other providers. What
Apple or Google have against a token shows at the next push, when SNS has disabled its endpoint.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from logging import getLogger
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from apps.relay.providers import Done, Notification, OpenApp, Outcome
from apps.relay.providers.fcm.message import Unsendable
from apps.relay.providers.sns.account import SnsAccount
from apps.relay.providers.sns.classify import (
    classify,
    classify_failure,
    code_of,
    existing_endpoint,
    is_gone,
)
from apps.relay.providers.sns.client import THREADS, make_client
from apps.relay.providers.sns.endpoints import Endpoints
from apps.relay.providers.sns.message import publication

logger = getLogger(__name__)

# Whatever has not begun by then is put off; what has begun takes two calls more at most.
_BEGUN_WITHIN_S = 6.0
_RETRY_S = 2.0


class SnsProvider:
    """One per process.

    Args:
        endpoint_url: another address than Amazon's, for tests.
    """

    def __init__(self, endpoint_url: str | None = None) -> None:
        self._endpoint_url = endpoint_url
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sns")
        self._endpoints = Endpoints()
        self._clients: dict[int, tuple[str, Any]] = {}
        self._lock = threading.Lock()

    async def send(self, app: OpenApp, notifications: Sequence[Notification], done: Done) -> None:
        """Send all of them side by side; see `Provider`."""
        account = SnsAccount.load(app.credentials)
        until = time.monotonic() + _BEGUN_WITHIN_S
        send_one = partial(self._send_one, app, account, until)
        loop = asyncio.get_running_loop()

        async def one(sent: Notification) -> None:
            done(sent, await loop.run_in_executor(self._pool, send_one, sent))

        await asyncio.gather(*(one(each) for each in notifications))

    # --- in one of the threads ---

    def _send_one(
        self, app: OpenApp, account: SnsAccount, until: float, sent: Notification
    ) -> Outcome:
        if time.monotonic() > until:
            return Outcome("retry", "deadline_exceeded", retry_after_s=_RETRY_S)
        try:
            asked = publication(sent, account.service, time.time())
            self._publish(self._client(app, account), account.application_arn, sent.token, asked)
        except Unsendable as error:
            return Outcome("failed", error.reason)
        except ClientError as error:
            return classify(error)
        except BotoCoreError as error:
            return classify_failure(error)
        return Outcome("accepted")

    def _publish(self, client: Any, application: str, token: str, asked: dict[str, Any]) -> None:
        known = self._endpoints.get(application, token)
        endpoint = known or self._endpoint(client, application, token)
        try:
            try:
                client.publish(TargetArn=endpoint, **asked)
            except ClientError as error:
                # Deleted by somebody else since we asked for it.
                if known is None or not is_gone(error):
                    raise
                endpoint = self._endpoint(client, application, token)
                client.publish(TargetArn=endpoint, **asked)
        except ClientError as error:
            if code_of(error) == "EndpointDisabled":
                self._retire(client, application, token, endpoint)
            raise

    def _endpoint(self, client: Any, application: str, token: str) -> str:
        """The token's endpoint at SNS, made if there is none."""
        try:
            answer = client.create_platform_endpoint(
                PlatformApplicationArn=application, Token=token
            )
            found = str(answer["EndpointArn"])
        except ClientError as error:
            existing = existing_endpoint(error)
            if existing is None:
                raise
            found = existing
        self._endpoints.keep(application, token, found)
        return found

    def _retire(self, client: Any, application: str, token: str, endpoint: str) -> None:
        """Delete a disabled endpoint: it serves nobody, and should the phone come back with the
        same token, it must not find this one."""
        self._endpoints.forget(application, token)
        try:
            client.delete_endpoint(EndpointArn=endpoint)
        except (ClientError, BotoCoreError) as error:
            logger.warning("a disabled endpoint can't be deleted: %s", type(error).__name__)

    def _client(self, app: OpenApp, account: SnsAccount) -> Any:
        with self._lock:
            revision, client = self._clients.get(app.pk, ("", None))
            if client is None or revision != app.revision:
                client = make_client(account, self._endpoint_url)
                self._clients[app.pk] = (app.revision, client)
            return client
