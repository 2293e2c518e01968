"""How pushes reach the pretend phone: through the control ports of the pretend APNs and FCM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import requests

from apps.lab.phone.opening import Opened

TIMEOUT_S = 10.0
NEW_MAIL = "New mail"
# What a phone shows in place of what somebody else than the organization sent it.
UNVERIFIED = "Unverified push"


@dataclass(frozen=True, slots=True)
class Push:
    """A push that arrived. `number` rises per phone, `at` is the Unix time APNs or FCM took it.

    `payload` is what the app gets: on iOS with `aps` and `ens`, on Android with `data`, whose
    values are all text. `collapse_id`: a notification replaces the one that has the same.
    """

    number: int
    at: float
    collapse_id: str
    payload: dict[str, Any] = field(repr=False)
    # What it said to this phone alone. `verified` is None where nothing was to be verified.
    opened: Opened | None = field(default=None, repr=False)
    verified: bool | None = None

    @property
    def kind(self) -> str:
        """`announcement`, `badge`, `wakeup`, or empty when ENS did not say."""
        return str(self._ens.get("kind", ""))

    @property
    def item(self) -> str:
        """What ENS calls the announced item on this device; the same when it comes again."""
        return str(self._ens.get("item", ""))

    @property
    def title(self) -> str:
        """The first line of the notification: the sender, as a rule."""
        if self.opened is not None:
            return self.opened.sender or NEW_MAIL
        return UNVERIFIED if self.verified is False else str(self._alert.get("title", ""))

    @property
    def body(self) -> str:
        """The second line of the notification: the subject, as a rule."""
        if self.opened is not None:
            return self.opened.subject
        if self.verified is False:
            return ""
        return str(self._alert.get("subtitle") or self._alert.get("body", ""))

    @property
    def enc(self) -> str:
        """The encrypted part, empty where there is none."""
        return str(self._ens.get("enc", ""))

    @property
    def tells(self) -> bool:
        """Whether it says anything to whoever reads it on its way."""
        return bool(self._alert) and self._alert != {"title": NEW_MAIL}

    @property
    def badge(self) -> int | None:
        """The number to show on the app's icon from now on."""
        if self._data is not None:
            text = str(self._data.get("badge", ""))
            return int(text) if text.isdecimal() else None
        badge = self.payload["aps"].get("badge")
        return badge if isinstance(badge, int) else None

    @property
    def _alert(self) -> dict[str, Any]:
        if self._data is not None:
            return {name: self._data[name] for name in ("title", "body") if name in self._data}
        alert = self.payload["aps"].get("alert", {})
        return alert if isinstance(alert, dict) else {"title": alert}

    @property
    def _ens(self) -> dict[str, Any]:
        ens = self.payload.get("ens", {}) if self._data is None else self._data
        return ens if isinstance(ens, dict) else {}

    @property
    def _data(self) -> dict[str, Any] | None:
        data = self.payload.get("data")
        return data if isinstance(data, dict) else None


class PushService(Protocol):
    """The phone's end of whatever brings it its pushes."""

    @property
    def platform(self) -> Literal["ios", "android"]:
        """Which phones it is for, in ENS's words."""

    def register(self, app_id: str) -> str:
        """Register the app for pushes; returns the push token."""

    def unregister(self, token: str) -> None:
        """The app is removed from the phone: who pushes to the token learns that it is dead."""

    def pushes(self, token: str, after: int, wait_s: float = 0.0) -> list[Push]:
        """The pushes above number `after`; waits up to `wait_s` seconds for one."""


class _Service:
    """What the two control ports have in common."""

    def __init__(self, control_url: str) -> None:
        self._base = control_url.rstrip("/")
        self._http = requests.Session()
        self._http.trust_env = False

    def unregister(self, token: str) -> None:
        """See PushService."""
        self._http.delete(f"{self._base}/tokens/{token}", timeout=TIMEOUT_S).raise_for_status()

    def _register(self, body: dict[str, str]) -> str:
        answer = self._http.post(f"{self._base}/tokens", json=body, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return str(answer.json()["token"])

    def _arrived(self, token: str, after: int, wait_s: float) -> list[dict[str, Any]]:
        answer = self._http.get(
            f"{self._base}/tokens/{token}/pushes",
            params={"after": str(after), "wait_s": str(wait_s)},
            timeout=wait_s + TIMEOUT_S,
        )
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["pushes"]
        return found


class Apns(_Service):
    """An iPhone's end of the pretend APNs at `control_url`; tokens are 64 hex digits."""

    platform: Literal["ios"] = "ios"

    def register(self, app_id: str) -> str:
        """See PushService."""
        return self._register({"topic": app_id})

    def pushes(self, token: str, after: int, wait_s: float = 0.0) -> list[Push]:
        """See PushService."""
        return [
            Push(push["number"], push["at"], push["collapse_id"] or "", push["payload"])
            for push in self._arrived(token, after, wait_s)
        ]


class Fcm(_Service):
    """An Android phone's end of the pretend FCM at `control_url`.

    `project_id`: the Firebase project that the app was built for, its sender.
    """

    platform: Literal["android"] = "android"

    def __init__(self, control_url: str, project_id: str) -> None:
        super().__init__(control_url)
        self._project_id = project_id

    def register(self, app_id: str) -> str:
        """See PushService."""
        return self._register({"package": app_id, "project_id": self._project_id})

    def pushes(self, token: str, after: int, wait_s: float = 0.0) -> list[Push]:
        """See PushService. The app makes its notifications itself, one for each item."""
        return [
            Push(push["number"], push["at"], push["data"].get("item", ""), {"data": push["data"]})
            for push in self._arrived(token, after, wait_s)
        ]
