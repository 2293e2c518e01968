"""Makes pushes.json anew; all keys in it are for tests only.

`python manage.py shell -c "from tests.vectors import make; make.write()"`
"""

from __future__ import annotations

import json
import uuid
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any
from unittest import mock

from joserfc.jwk import ECKey

from apps.announce.envelope import Envelope
from apps.announce.payload import Content, News, announcement
from apps.cns.client import Service
from apps.keypairs.signing import Signer
from apps.lab.phone.opening import ContentKey

FILE = Path(__file__).with_name("pushes.json")
NOW = 1_790_000_000
DEVICE = uuid.UUID("0b2f8c0e-3c9d-4a39-9a3e-0d6a3c1f2b11")
ITEM = "3f2c9a7e5b1d4c60a1b2c3d4e5f60718"
NOT_GENUINE = "not genuine"


def write() -> None:
    """Replace the committed file."""
    FILE.write_text(json.dumps(made(), indent=2, ensure_ascii=False) + "\n", "utf-8")


def made() -> dict[str, Any]:
    """Fresh vectors, with what each of them says."""
    phone, key, stranger = ContentKey(), ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    signer = Signer("6b4d8f2a9c0e1b3d5f7a8c9e0b1d2f3a", key)
    ours = Envelope(DEVICE, json.dumps(phone.public_jwk), signer)
    forged = Envelope(DEVICE, ours.content_key, Signer(signer.kid, stranger))
    other = Envelope(uuid.UUID(int=7), ours.content_key, signer)
    plain = Content("Ben Baker", "Lunch on Friday?")
    long = Content("Zoë 漢字", "🙂 «Größe» " * 400, "Hi Anna, shall we?")

    def push(service: Service, envelope: Envelope, content: Content, thread: str = "") -> Any:
        return announcement(service, News(ITEM, content, 7, thread=thread, envelope=envelope))

    with mock.patch("apps.announce.envelope.time.time", return_value=float(NOW)):
        genuine = {
            "on iOS": push("apns", ours, plain),
            "on Android": push("fcm", ours, plain),
            "with all there is, cut": push("apns", ours, long, "9d" * 16),
            "sender only": push("apns", ours, Content("Ben Baker")),
        }
        refused = {
            "signed by somebody else": push("apns", forged, Content("The boss", "Pay at once")),
            "meant for another device": push("apns", other, plain),
            "moved to another item": _moved(push("apns", ours, plain)),
        }
    with mock.patch("apps.announce.envelope.time.time", return_value=NOW - 3 * 86400.0):
        refused["three days old"] = push("apns", ours, plain)
    said = {name: _said(phone, payload) for name, payload in genuine.items()} | dict.fromkeys(
        refused, NOT_GENUINE
    )
    return {
        "about": "Keys and pushes for tests of docs/device-api.md, section Encrypted pushes.",
        "now": NOW,
        "device_id": str(DEVICE),
        "content_key": phone.private_jwk | {"kid": phone.kid},
        "signing_keys": {
            "keys": [key.as_dict(private=False, kid=signer.kid, alg="ES256", use="sig")]
        },
        "vectors": [
            {"name": name, "payload": payload, "says": said[name]}
            for name, payload in (genuine | refused).items()
        ],
    }


def _moved(payload: Any) -> Any:
    payload["ens"]["item"] = "0" * 32
    return payload


def _said(phone: ContentKey, payload: Any) -> dict[str, str]:
    """What a genuine push says, read without any check."""
    enc = (payload.get("ens") or payload["data"])["enc"]
    claims = phone.decrypt(enc).split(".")[1]
    content = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    names = ("sender", "subject", "preview", "thread")
    return {name: content[name] for name in names if name in content}
