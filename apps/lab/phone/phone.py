"""The phone itself: subscribes, waits for the outcome, checks in, and takes what is pushed."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import requests

from apps.lab.phone.client import Account, CheckIn, Device, EnsClient, Refused
from apps.lab.phone.opening import ContentKey, NotGenuine, open_push
from apps.lab.phone.pushes import Push, PushService
from apps.lab.phone.screen import Screen

_FIRST_KEY_S = 90.0

log = logging.getLogger(__name__)

LONG_POLL_S = 20.0
RETRY_S = 2.0
# How long a phone asks every few seconds what has become of its subscription.
POLL_FOR_S = 120.0


class Phone:
    """One mail app on one phone; `service` brings its pushes and says what kind of phone it is.

    `on_push` is called for every push, in the order of arrival, in a thread of the phone's own.
    `checkin_seconds` overrides what ENS asks for; both go by a clock that runs `clock_scale` times
    as fast as real time. An `encrypted` phone gives ENS a content key and believes only what it
    can open and verify. `wishes` is the member of that name, `accounts` names the addresses that
    the app is set up for, `eas_id` is what a mail gateway knows the phone by. Methods may be called
    from any thread.
    """

    def __init__(
        self,
        account: Account,
        ens: EnsClient,
        service: PushService,
        *,
        app_id: str,
        name: str = "phone",
        checkin_seconds: float | None = None,
        clock_scale: float = 1.0,
        on_push: Callable[[Push], None] | None = None,
        encrypted: bool = False,
        wishes: dict[str, Any] | None = None,
        accounts: Sequence[str] | None = None,
        token: str | None = None,
        eas_id: str = "",
    ) -> None:
        self.account = account
        self.name = name
        self.screen = Screen()
        self.pushes: list[Push] = []
        self.state = "new"
        self.code: str | None = None
        self.device: Device | None = None
        # A phone that is handed on keeps its token.
        self.token = token or service.register(app_id)
        # The newest last; an older one still opens what was on its way.
        self.content_keys = [ContentKey()] if encrypted else []
        self._wishes, self._accounts = wishes, accounts
        self._ref = {"model": name, "os_version": "26.1", "app_version": "1.0"}
        if eas_id:
            self._ref["eas_id"] = eas_id
        self.service = service
        self._ens, self._app_id = ens, app_id
        self._checkin_seconds = checkin_seconds
        self._clock_scale = clock_scale
        self._on_push = on_push
        self._counter = 0
        self._subscribed_at = 0.0
        self._news = threading.Condition()
        self._due = threading.Event()
        self._off = threading.Event()

    # --- what a phone says to ENS ---

    def subscribe(self) -> float:
        """Subscribe; returns in how many seconds to check in. Raises as EnsClient does."""
        wishes: dict[str, Any] = {
            "email": self.account.email,
            "credentials": self.account.credentials(),
            "platform": self.service.platform,
            "app_id": self._app_id,
            "push_token": self.token,
            "device_ref": self._ref,
            "time_zone": "Europe/Berlin",
        }
        if self.account.ews_url is not None:
            wishes["ews_url"] = self.account.ews_url
        if self.content_keys:
            wishes["content_key"] = self.content_keys[-1].public_jwk
        if self._wishes is not None:
            wishes["wishes"] = self._wishes
        if self._accounts is not None:
            wishes["accounts"] = [
                hashlib.sha256(address.lower().encode()).hexdigest() for address in self._accounts
            ]
        self.device, poll_seconds = self._ens.subscribe(wishes)
        self.state, self.code, self._counter = "joining", None, 0
        self._subscribed_at = time.monotonic()
        return poll_seconds

    def check_in(self, *, credentials: bool = False, **brought: Any) -> CheckIn:
        """Check in, on request with the credentials, or with what else is `brought`.

        Raises as EnsClient does.
        """
        news = dict(brought)
        if credentials:
            # With the proof go the token and the key that it vouches for.
            news |= {
                "email": self.account.email,
                "credentials": self.account.credentials(),
                "push_token": self.token,
            }
            if self.content_keys:
                news["content_key"] = self.content_keys[-1].public_jwk
        if news:
            self._counter += 1
            news["counter"] = self._counter
        answer = self._ens.check_in(self._known(), news or None)
        self.device = replace(self._known(), signing_keys=answer.signing_keys)
        self.state, self.code = answer.state, answer.code
        return answer

    def renew_content_key(self) -> None:
        """Make a new content key and bring it, with a proof; raises as EnsClient does."""
        self.content_keys.append(ContentKey())
        self.check_in(credentials=True)

    def unsubscribe(self) -> None:
        """Leave ENS, as an app does that is being wiped; raises as EnsClient does."""
        self._ens.unsubscribe(self._known())
        self.state = "unsubscribed"

    def join(self, seconds: float = 30.0) -> str:
        """Subscribe and wait for the outcome: the state, `active` or a refusal (see `code`).

        Raises as EnsClient does; TimeoutError when the outcome isn't known within `seconds`.
        """
        wait = self._subscribe_when_ready()
        deadline = time.monotonic() + seconds
        while self.state == "joining":
            if time.monotonic() + wait > deadline:
                raise TimeoutError(f"{self.name} is still joining after {seconds:g} seconds")
            time.sleep(wait)
            answer = self.check_in()
            wait = self._follow(answer) if answer.state == "joining" else 0.0
        return self.state

    def _subscribe_when_ready(self) -> float:
        """As `subscribe`, but a new organization's first key may take a minute."""
        deadline = time.monotonic() + _FIRST_KEY_S
        while True:
            try:
                return self.subscribe()
            except Refused as refused:
                if refused.code != "no_key_ready" or time.monotonic() > deadline:
                    raise
                time.sleep(refused.retry_after_s or 1.0)

    def _follow(self, answer: CheckIn) -> float:
        """Do what ENS asks for; returns when to check in next, in seconds."""
        if answer.do == "send_credentials":
            answer = self.check_in(credentials=True)
        # A password that was refused stays refused until the user has entered another one.
        elif answer.do == "subscribe" and answer.code != "credentials_refused":
            return self.subscribe()
        joined = answer.state != "joining"
        if answer.do == "wait" and (joined or time.monotonic() - self._subscribed_at < POLL_FOR_S):
            return answer.poll_seconds
        return (self._checkin_seconds or answer.checkin_seconds) / self._clock_scale

    def _known(self) -> Device:
        if self.device is None:
            raise RuntimeError(f"{self.name} has not subscribed")
        return self.device

    # --- its life in the background ---

    def switch_on(self) -> None:
        """Take pushes and check in when it is time, until `switch_off`."""
        for work in (self._take_pushes, self._keep_in_touch):
            threading.Thread(target=work, name=f"{self.name}: {work.__name__}", daemon=True).start()

    def switch_off(self) -> None:
        """Stop at once; ENS is told nothing, as when a battery is empty."""
        self._off.set()
        self._due.set()

    def wait_for(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Wait until `happened`, asked again after every push; False when it did not in time."""
        with self._news:
            return self._news.wait_for(happened, seconds)

    def _take_pushes(self) -> None:
        while not self._off.is_set():
            try:
                arrived = self.service.pushes(self.token, len(self.pushes), LONG_POLL_S)
            except requests.RequestException as error:
                if not self._off.wait(RETRY_S):
                    log.warning("%s gets no pushes (%s)", self.name, type(error).__name__)
                continue
            for push in arrived:
                self._take(push)

    def _take(self, push: Push) -> None:
        push = self.checked(push)
        with self._news:
            self.pushes.append(push)
            self.screen.take(push)
            self._news.notify_all()
        if push.kind == "wakeup":
            self._due.set()
        if self._on_push is not None:
            self._on_push(push)

    def checked(self, push: Push) -> Push:
        """The push as the app's notification service hands it to the phone's system."""
        if not self.content_keys or push.kind == "reconnect":
            return push
        if not push.enc:
            return replace(push, verified=False) if push.tells else push
        keys = {key.kid: key for key in self.content_keys}
        device = self.device or Device("", "")
        try:
            opened = open_push(push.enc, push.item, keys, device.signing_keys, device.device_id)
        except NotGenuine:
            return replace(push, verified=False)
        return replace(push, opened=opened, verified=True)

    def _keep_in_touch(self) -> None:
        wait = (self._checkin_seconds or RETRY_S) / self._clock_scale
        if self.device is None:
            wait = 0.0
        while not self._off.is_set():
            self._due.wait(wait)
            self._due.clear()
            if self._off.is_set():
                return
            wait = self._touch()

    def _touch(self) -> float:
        """Subscribe or check in once; returns when to do it again, in seconds."""
        try:
            if self.device is None:
                return self.subscribe()
            return self._follow(self.check_in())
        except Refused as refused:
            if refused.status == 401 and refused.code == "unknown_device":
                self.device = None
                return 0.0
            log.warning("%s was refused: %s", self.name, refused)
            return refused.retry_after_s or RETRY_S
        except requests.RequestException as error:
            log.warning("%s does not reach ENS (%s)", self.name, type(error).__name__)
            return RETRY_S
