"""What only one phone can read, and only its organization can have made."""

from __future__ import annotations

import json
import uuid
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from apps.announce.envelope import Envelope
from apps.announce.payload import MAX_PAYLOAD_BYTES, Content, News, announcement
from apps.cns.client import Service
from apps.keypairs.signing import Signer
from apps.lab.phone.opening import ContentKey, NotGenuine, Opened, open_push
from tests.announce.test_payload import REF, size

SERVICES: list[Service] = ["apns", "fcm"]
PHONE = ContentKey()
DEVICE = uuid.UUID("0b2f8c0e-3c9d-4a39-9a3e-0d6a3c1f2b11")
KEYS = {PHONE.kid: PHONE}
_SIGNING = ECKey.generate_key("P-256")
SIGNER = Signer("5e" * 16, _SIGNING)
TRUSTED = {"keys": [_SIGNING.as_dict(private=False, kid=SIGNER.kid)]}
ENVELOPE = Envelope(DEVICE, json.dumps(PHONE.public_jwk), SIGNER)


def sent(service: Service, content: Content, envelope: Envelope = ENVELOPE, **more: str) -> dict:
    news = News(REF, content, 2**31, envelope=envelope, **more)  # type: ignore[arg-type]
    return announcement(service, news)


def enc(payload: dict) -> str:
    return str((payload.get("ens") or payload["data"])["enc"])


def opened(payload: dict, now: float | None = None) -> Opened:
    return open_push(enc(payload), REF, KEYS, TRUSTED, str(DEVICE), now)


@pytest.mark.parametrize("service", SERVICES)
def test_the_phone_reads_what_nobody_on_the_way_can(service: Service) -> None:
    made = sent(service, Content("Ben Baker", "Lunch?", "Hi Anna"), thread="abc")
    assert opened(made) == Opened("Ben Baker", "Lunch?", "Hi Anna", "abc")
    text = json.dumps(made)
    assert not [word for word in ("Ben", "Lunch", "Anna", "abc", str(DEVICE)) if word in text]


def test_ios_wakes_the_service_extension_and_shows_new_mail_if_it_fails() -> None:
    aps = sent("apns", Content("Ben Baker", "Lunch?"))["aps"]
    assert aps == {
        "alert": {"title": "New mail"},
        "sound": "default",
        "badge": 2**31,
        "mutable-content": 1,
    }


@pytest.mark.parametrize("service", SERVICES)
@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=200),
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=5000),
    st.text(alphabet='漢🙂👩\u200d👧"\\a', max_size=200),
)
def test_whatever_a_mail_says_the_final_bytes_fit(
    service: Service, sender: str, subject: str, preview: str
) -> None:
    sender = sender.encode("utf-8", "ignore").decode()
    made = sent(service, Content(sender, subject, preview), thread="t" * 32)
    assert size(made) <= MAX_PAYLOAD_BYTES
    found = opened(made)
    assert found.sender == sender
    assert subject.startswith(found.subject.removesuffix("…"))
    assert preview.startswith(found.preview.removesuffix("…"))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("letter", ["a", "ä", "漢", "🙂", '"', "\\"])
def test_a_long_subject_fills_what_there_is(service: Service, letter: str) -> None:
    made = sent(service, Content("Ben", letter * 5000, "p" * 200))
    assert MAX_PAYLOAD_BYTES - 400 < size(made) <= MAX_PAYLOAD_BYTES
    found = opened(made)
    assert (set(found.subject), found.preview) == ({letter, "…"}, "")


def test_its_length_tells_little() -> None:
    sizes = {len(enc(sent("apns", Content("Ben", "x" * length)))) for length in range(1, 60)}
    assert len(sizes) <= 2


def test_what_somebody_else_signed_is_not_genuine() -> None:
    """The APNs key, and even the phone's public key, are not enough."""
    forger = Signer(SIGNER.kid, ECKey.generate_key("P-256"))
    forged = Envelope(DEVICE, ENVELOPE.content_key, forger)
    with pytest.raises(NotGenuine):
        opened(sent("apns", Content("The boss", "Pay at once"), forged))


@pytest.mark.parametrize("wrong", ["device", "item", "old", "future", "kid", "other key", "broken"])
def test_what_was_meant_for_others_or_is_stale_is_not_genuine(wrong: str) -> None:
    made = sent("apns", Content("Ben", "Lunch?"))
    now = json.loads(_claims(made))["iat"]
    other = ContentKey()
    how = {
        "enc": enc(made),
        "item": REF,
        "keys": KEYS,
        "signing_keys": TRUSTED,
        "device_id": str(DEVICE),
        "now": now,
    }
    how |= {
        "device": {"device_id": str(uuid.uuid4())},
        "item": {"item": "1" * 32},
        "old": {"now": now + 3 * 86400},
        "future": {"now": now - 3600},
        "kid": {"signing_keys": {"keys": []}},
        "other key": {"keys": {other.kid: other}},
        "broken": {"enc": enc(made)[:-1] + ("A" if enc(made)[-1] != "A" else "B")},
    }[wrong]
    with pytest.raises(NotGenuine):
        open_push(**how)  # type: ignore[arg-type]


def _claims(made: dict) -> bytes:
    payload = PHONE.decrypt(enc(made)).split(".")[1]
    return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
