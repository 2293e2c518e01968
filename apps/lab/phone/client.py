"""The device API as docs/device-api.md tells it: one method a call."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import requests
from joserfc import jwe
from joserfc.jwk import RSAKey

ALG, ENC = "RSA-OAEP-256", "A256GCM"
TIMEOUT_S = 20.0


class Refused(Exception):
    """ENS answered with a problem document.

    Attributes:
        status: the HTTP status.
        code: the document's stable `code`.
        retry_after_s: when to come again, where ENS said so.
    """

    def __init__(self, status: int, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Account:
    """Whose mail it is: what a user types into a mail app. No `ews_url`: ENS shall find it."""

    email: str = field(repr=False)
    username: str = field(repr=False)
    password: str = field(repr=False)
    ews_url: str | None = field(default=None, repr=False)

    def credentials(self) -> dict[str, str]:
        """The `credentials` member of what is encrypted."""
        return {"type": "basic", "username": self.username, "password": self.password}


@dataclass(frozen=True, slots=True)
class Device:
    """What ENS knows a device by; the secret is given once, when it subscribes."""

    device_id: str
    secret: str = field(repr=False)
    # A JWK Set: with these its organization signs what only this device can read.
    signing_keys: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class CheckIn:
    """The answer to a check-in; times in seconds."""

    state: str
    code: str | None
    do: str
    checkin_seconds: float
    poll_seconds: float
    signing_keys: dict[str, Any] = field(default_factory=dict, repr=False)


class EnsClient:
    """Calls one ENS at its `ENSLinkAddress`, with the API token of an organization group.

    Every method raises Refused for a problem document and requests.RequestException when no
    answer came. `ca_file`: a private CA that signed the host's certificate.
    """

    def __init__(self, link_address: str, api_token: str, ca_file: str | None = None) -> None:
        self._base = link_address.rstrip("/")
        self._api_token = api_token
        self._http = requests.Session()
        # Neither a proxy nor a CA bundle out of this machine's environment.
        self._http.trust_env = False
        self._http.verify = ca_file if ca_file is not None else True

    def public_key(self) -> dict[str, Any]:
        """The JWK to encrypt to."""
        jwk: dict[str, Any] = self._post("publickey", self._api_token, {})["jwk"]
        return jwk

    def subscribe(self, wishes: dict[str, Any]) -> tuple[Device, float]:
        """Subscribe with what docs/device-api.md lists; `iat` and `jti` are added here.

        Returns the device as ENS calls it and how many seconds to wait before checking in.
        """
        sealed = encrypt(self.public_key(), stamped(wishes))
        answer = self._post("subscribe", self._api_token, {"jwe": sealed})
        keys = answer.get("signing_keys", {})
        device = Device(answer["device_id"], answer["device_secret"], keys)
        return device, float(answer["poll_seconds"])

    def check_in(self, device: Device, news: dict[str, Any] | None = None) -> CheckIn:
        """Check in, with `news` (credentials, a new push token; a risen `counter`) if there is."""
        body = {"device_id": device.device_id}
        if news is not None:
            content = stamped(news | {"device_id": device.device_id})
            body["jwe"] = encrypt(self.public_key(), content)
        answer = self._post("checkin", device.secret, body)
        return CheckIn(
            answer["state"],
            answer["code"],
            answer["do"],
            float(answer["checkin_seconds"]),
            float(answer["poll_seconds"]),
            answer.get("signing_keys", {}),
        )

    def unsubscribe(self, device: Device) -> None:
        """Leave; asking twice is no mistake."""
        self._post("unsubscribe", device.secret, {"device_id": device.device_id})

    def _post(self, call: str, bearer: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._http.post(
            f"{self._base}/{call}",
            json=body,
            headers={"Authorization": f"Bearer {bearer}"},
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )
        if response.status_code >= 300:
            raise _refusal(response)
        if response.status_code == 204:
            return {}
        answer: dict[str, Any] = response.json()
        return answer


def stamped(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the time and the once-only id that every JWE to ENS carries."""
    return {"iat": int(time.time()), "jti": secrets.token_urlsafe(16)} | content


def encrypt(jwk: dict[str, Any], content: dict[str, Any]) -> str:
    """A compact JWE of the content under the OG's public key."""
    header = {"alg": ALG, "enc": ENC, "kid": jwk["kid"]}
    key = RSAKey.import_key(jwk)
    return jwe.encrypt_compact(header, json.dumps(content).encode(), key, algorithms=[ALG, ENC])


def _refusal(response: requests.Response) -> Refused:
    try:
        code = str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        code = "no_problem_document"
    wait = response.headers.get("Retry-After", "")
    return Refused(response.status_code, code, float(wait) if wait.isdigit() else None)
