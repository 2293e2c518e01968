"""The access token: asked for with an assertion that the service account's key has signed.

google-auth makes the assertion; our own client carries it, since google-auth's transports are
requests and urllib3, which follow the environment's proxies. A token is good for an hour; it is
renewed some minutes before, and whoever needs it meanwhile waits for the same request.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from google.auth import crypt, jwt

from apps.relay.providers import OpenApp, Outcome
from apps.relay.providers.fcm.account import ServiceAccount
from apps.wire.client import Client, Request, Response, Tls
from apps.wire.errors import WireError

# Google's one and only, and the audience of what is posted there.
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105
_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_S = 3600
# Our clock may be ahead of Google's.
_BACKDATED_S = 30
_RENEWED_BEFORE_S = 300.0
# A refusal is remembered this long: else each batch would ask again.
_REFUSED_FOR_S = 10.0
_RETRY_AFTER_S = 5.0
_DEADLINE_S = 5.0
_MAX_ANSWER_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_ERROR = re.compile(r"[a-z_]{1,40}")

Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the last request brought: a token, or what to tell those who need one."""

    found: str | Outcome = field(repr=False)
    until: float


class AccessTokens:
    """The access tokens of all apps; used from one event loop.

    Args:
        client: carries the requests.
        url: another address than Google's, for the lab.
        tls: how its host is verified.
    """

    def __init__(self, client: Client, url: str | None, tls: Tls) -> None:
        self._client = client
        self._url = url or TOKEN_URI
        self._tls = tls
        self._kept: dict[Key, _Kept] = {}
        self._asked: dict[Key, asyncio.Task[_Kept]] = {}

    async def get(self, app: OpenApp, account: ServiceAccount, not_this: str = "") -> str | Outcome:
        """A token that is good for some minutes; an Outcome where none is to be had.

        Args:
            app: whose token.
            account: its opened service account.
            not_this: a token that Google has just refused, though it should still be good.
        """
        key = (app.pk, app.revision)
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept.until and kept.found != not_this:
            return kept.found
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.create_task(self._ask(account))
            asked.add_done_callback(lambda task: self._keep(key, task))
        # Who gives up waiting doesn't take the answer from the others.
        return (await asyncio.shield(asked)).found

    def _keep(self, key: Key, task: asyncio.Task[_Kept]) -> None:
        del self._asked[key]
        if not task.cancelled() and task.exception() is None:
            # Of an app whose account was replaced, the old one's token goes.
            self._kept = {k: kept for k, kept in self._kept.items() if k[0] != key[0]}
            self._kept[key] = task.result()

    async def _ask(self, account: ServiceAccount) -> _Kept:
        # Loading a key takes tens of milliseconds, which others in this loop needn't wait for.
        assertion = await asyncio.to_thread(_assertion, account, time.time())
        request = Request(
            "POST",
            self._url,
            headers=(("content-type", "application/x-www-form-urlencoded"),),
            body=urlencode({"grant_type": _GRANT, "assertion": assertion}).encode(),
            deadline_s=_DEADLINE_S,
            max_response_bytes=_MAX_ANSWER_BYTES,
            http2=True,
            tls=self._tls,
        )
        asked_at = time.monotonic()
        try:
            return _understood(await self._client.perform(request), asked_at)
        except WireError as error:
            return _put_off(f"token_{error.code}")


def _assertion(account: ServiceAccount, now: float) -> str:
    signer = crypt.RSASigner.from_string(  # type: ignore[no-untyped-call]
        account.private_key, account.private_key_id
    )
    issued_at = int(now) - _BACKDATED_S
    claims = {
        "iss": account.client_email,
        "scope": _SCOPE,
        "aud": TOKEN_URI,
        "iat": issued_at,
        "exp": issued_at + _ASSERTION_S,
    }
    assertion: bytes = jwt.encode(signer, claims)  # type: ignore[no-untyped-call]
    return assertion.decode("ascii")


def _understood(response: Response, asked_at: float) -> _Kept:
    content = _content(response.body)
    token, lasts = content.get("access_token"), content.get("expires_in")
    if response.status == 200 and isinstance(token, str) and _TOKEN.fullmatch(token):
        seconds = float(lasts) if isinstance(lasts, int) and 0 < lasts <= 86400 else 3600.0
        until = asked_at + max(seconds - _RENEWED_BEFORE_S, seconds / 2)
        return _Kept(token, until)
    code = content.get("error")
    if not isinstance(code, str) or not _ERROR.fullmatch(code):
        code = f"http_{response.status}"
    # RFC 6749, section 5.2: a grant that is refused with 400 or 401 stays refused.
    ours = response.status in (400, 401, 403)
    return _refused(f"token_{code}") if ours else _put_off(f"token_{code}")


def _refused(reason: str) -> _Kept:
    return _Kept(Outcome("failed", reason, ours_to_fix=True), time.monotonic() + _REFUSED_FOR_S)


def _put_off(reason: str) -> _Kept:
    outcome = Outcome("retry", reason, retry_after_s=_RETRY_AFTER_S)
    return _Kept(outcome, time.monotonic() + _RETRY_AFTER_S)


def _content(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
