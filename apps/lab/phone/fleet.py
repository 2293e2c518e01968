"""Hundreds of phones in one thread: each does what `Phone` does, all share one event loop.

One stream from the pretend APNs brings the pushes of all of them, one connection pool carries
their calls to ENS. For loads and long days, where a thread for each phone would be the load.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from apps.lab.phone.client import TIMEOUT_S, Account, CheckIn, Device, Refused, encrypt, stamped
from apps.lab.phone.pushes import Push

log = logging.getLogger(__name__)

RETRY_S = 2.0
# For how long a public key is taken for fresh: a fleet that joins would ask for it all the time.
KEY_KEPT_S = 20.0
# An answer of APNs' stream in one piece may hold many pushes.
_LINE_LIMIT = 4 * 1024 * 1024


@dataclass(slots=True, eq=False)
class FleetPhone:
    """One phone of a fleet. `pushes` are in the order of arrival; `state` as ENS last said."""

    account: Account
    name: str
    token: str = field(repr=False)
    pushes: list[Push] = field(default_factory=list, repr=False)
    state: str = "new"
    code: str | None = None
    device: Device | None = None
    counter: int = 0
    due: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class PhoneFleet:
    """Phones that subscribe, check in when it is time or when woken, and take pushes.

    What ENS asks for in seconds goes by a clock that runs `clock_scale` times as fast as real
    time, save for the polling while joining. At most `at_once` calls are under way. `seen` counts
    what ENS told the phones to do, by its word. `on_push` is called in the fleet's thread.
    """

    def __init__(
        self,
        link_address: str,
        api_token: str,
        apns_control: str,
        *,
        app_id: str,
        clock_scale: float = 1.0,
        at_once: int = 16,
        on_push: Callable[[FleetPhone, Push], None] | None = None,
    ) -> None:
        self.phones: list[FleetPhone] = []
        self.seen: Counter[str] = Counter()
        self._base, self._api_token = link_address.rstrip("/"), api_token
        self._apns, self._app_id = apns_control.rstrip("/"), app_id
        self._scale = clock_scale
        self._on_push = on_push
        self._by_token: dict[str, FleetPhone] = {}
        self._key: tuple[float, dict[str, Any]] = (0.0, {})
        self._room = asyncio.Semaphore(at_once)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Connect to APNs' control; raises aiohttp.ClientError when it isn't there."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(TIMEOUT_S)

    def stop(self) -> None:
        """Switch all phones off; ENS is told nothing. Safe to call twice."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(TIMEOUT_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(TIMEOUT_S)

    def add(self, accounts: Sequence[tuple[Account, str]]) -> list[FleetPhone]:
        """Switch on new phones, each with an account and a name; they subscribe at once."""
        fresh = [FleetPhone(account, name, secrets.token_hex(32)) for account, name in accounts]
        asyncio.run_coroutine_threadsafe(self._switch_on(fresh), self._loop).result(
            TIMEOUT_S + len(fresh) / 10
        )
        return fresh

    def adopt(self, phones: Sequence[FleetPhone], checkin_seconds: float) -> None:
        """Switch on phones that ENS knows already (`device` is set).

        Their check-ins are spread over `checkin_seconds`, as those of phones that joined on
        different days.
        """
        work = self._switch_on(phones, checkin_seconds / self._scale)
        asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S + len(phones) / 10)

    def states(self) -> Counter[str]:
        """How many phones are in each state, by ENS's last word."""
        return Counter(phone.state for phone in list(self.phones))

    # --- in the fleet's loop ---

    async def _open(self) -> None:
        self._http = aiohttp.ClientSession(
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            read_bufsize=_LINE_LIMIT,
        )
        stream = await self._http.get(
            f"{self._apns}/stream", timeout=aiohttp.ClientTimeout(total=None)
        )
        stream.raise_for_status()
        self._begin(self._take_pushes(stream))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _switch_on(self, phones: Sequence[FleetPhone], spread_s: float = 0.0) -> None:
        for number, phone in enumerate(phones):
            body = {"topic": self._app_id, "token": phone.token}
            async with self._http.post(f"{self._apns}/tokens", json=body) as answer:
                answer.raise_for_status()
            self._by_token[phone.token] = phone
            self.phones.append(phone)
            self._begin(self._keep_in_touch(phone, spread_s * (number + 1) / len(phones)))

    async def _take_pushes(self, stream: aiohttp.ClientResponse) -> None:
        """All pushes of all phones; another program's tokens are none of ours."""
        while line := await stream.content.readline():
            if not line.startswith(b"data: "):
                continue
            told = json.loads(line.removeprefix(b"data: "))
            phone = self._by_token.get(told["token"])
            if phone is not None:
                collapse_id = told["collapse_id"] or ""
                push = Push(told["number"], told["at"], collapse_id, told["payload"])
                self._take(phone, push)

    def _take(self, phone: FleetPhone, push: Push) -> None:
        phone.pushes.append(push)
        if push.kind == "wakeup":
            phone.due.set()
        if self._on_push is not None:
            self._on_push(phone, push)

    async def _keep_in_touch(self, phone: FleetPhone, wait: float) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await phone.due.wait()
            phone.due.clear()
            async with self._room:
                wait = await self._touch(phone)

    async def _touch(self, phone: FleetPhone) -> float:
        """Subscribe or check in once; returns when to do it again, in real seconds."""
        try:
            if phone.device is None:
                return await self._subscribe(phone)
            return await self._follow(phone, await self._check_in(phone))
        except Refused as refused:
            self.seen[refused.code] += 1
            if refused.status == 401 and refused.code == "unknown_device":
                phone.device = None
                return 0.0
            return refused.retry_after_s or RETRY_S
        except (aiohttp.ClientError, TimeoutError):
            self.seen["no_answer"] += 1
            return RETRY_S

    async def _subscribe(self, phone: FleetPhone) -> float:
        account = phone.account
        wishes: dict[str, Any] = {
            "email": account.email,
            "credentials": account.credentials(),
            "platform": "ios",
            "app_id": self._app_id,
            "push_token": phone.token,
            "device_ref": {"model": phone.name, "os_version": "26.1", "app_version": "1.0"},
            "time_zone": "Europe/Berlin",
        }
        if account.ews_url is not None:
            wishes["ews_url"] = account.ews_url
        sealed = await self._sealed(wishes)
        answer = await self._post("subscribe", self._api_token, {"jwe": sealed})
        phone.device = Device(answer["device_id"], answer["device_secret"])
        phone.state, phone.code, phone.counter = "joining", None, 0
        return float(answer["poll_seconds"])

    async def _check_in(self, phone: FleetPhone, *, credentials: bool = False) -> CheckIn:
        if phone.device is None:
            raise RuntimeError(f"{phone.name} has not subscribed")
        body = {"device_id": phone.device.device_id}
        if credentials:
            phone.counter += 1
            news = {
                "device_id": phone.device.device_id,
                "counter": phone.counter,
                "email": phone.account.email,
                "credentials": phone.account.credentials(),
            }
            body["jwe"] = await self._sealed(news)
        told = await self._post("checkin", phone.device.secret, body)
        answer = CheckIn(
            told["state"],
            told["code"],
            told["do"],
            float(told["checkin_seconds"]),
            float(told["poll_seconds"]),
        )
        phone.state, phone.code = answer.state, answer.code
        self.seen[answer.do] += 1
        return answer

    async def _follow(self, phone: FleetPhone, answer: CheckIn) -> float:
        if answer.do == "send_credentials":
            answer = await self._check_in(phone, credentials=True)
        elif answer.do == "subscribe" and answer.code != "credentials_refused":
            return await self._subscribe(phone)
        if answer.do == "wait":
            return answer.poll_seconds
        return answer.checkin_seconds / self._scale

    async def _sealed(self, content: dict[str, Any]) -> str:
        fetched_at, key = self._key
        if time.monotonic() - fetched_at > KEY_KEPT_S:
            key = (await self._post("publickey", self._api_token, {}))["jwk"]
            self._key = (time.monotonic(), key)
        return encrypt(key, stamped(content))

    async def _post(self, call: str, bearer: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._http.post(
            f"{self._base}/{call}",
            json=body,
            headers={"Authorization": f"Bearer {bearer}"},
            allow_redirects=False,
        ) as response:
            try:
                answer = await response.json(content_type=None)
            except ValueError:
                answer = {}
            if response.status < 300:
                return dict(answer or {})
        wait = response.headers.get("Retry-After", "")
        code = str((answer or {}).get("code", "no_problem_document"))
        raise Refused(response.status, code, float(wait) if wait.isdigit() else None)
