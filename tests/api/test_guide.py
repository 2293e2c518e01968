"""docs/device-api.md is true: its examples open, its answers and codes are the real ones."""

from __future__ import annotations

import json
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey

from apps.announce.envelope import Envelope
from apps.announce.payload import Content, News, announcement, badge_correction
from apps.api.problems import PROBLEMS, document
from apps.devices.models import DeviceState
from apps.keypairs import service as keypairs
from apps.keypairs.signing import Signer
from apps.lab.phone.opening import ContentKey
from apps.subscriptions import wakeups
from ens_project.env import BASE_DIR
from tests.api.conftest import Api, claims

PAGE = (BASE_DIR / "docs" / "device-api.md").read_text("utf-8")


def example(name: str) -> Any:
    found = re.search(rf"(?s)```(?:json|text) {name}\n(.*?)\n```", PAGE)
    assert found, name
    return json.loads(found[1]) if f"```json {name}" in PAGE else found[1]


def rows(heading: str) -> dict[str, list[str]]:
    """A table's rows by the code in their first column."""
    table = PAGE.split(heading, 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return {row[0].strip("`| "): row[1:] for row in cells if row[0].startswith(("`", "| `"))}


def test_the_examples_jwe_opens_to_the_examples_plaintext() -> None:
    key = RSAKey.import_key(example("example-private-key"))
    opened = jwe.decrypt_compact(
        example("example-jwe"), key, algorithms=["RSA-OAEP-256", "A256GCM"]
    )
    assert json.loads(opened.plaintext or b"") == example("example-plaintext")
    public = example("example-public-key")
    private = example("example-private-key")
    assert {name: private[name] for name in ("kty", "n", "e", "kid")} == {
        name: public[name] for name in ("kty", "n", "e", "kid")
    }


def test_the_steps_by_hand_make_a_jwe_that_ens_opens(api: Api) -> None:
    """The page's four steps, with nothing but RSA, AES and base64url."""

    def b64(raw: bytes) -> str:
        return urlsafe_b64encode(raw).rstrip(b"=").decode()

    key = api.post("publickey", {}).json()
    header = b64(json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": key["kid"]}).encode())
    content_key, nonce = bytes(range(32)), bytes(range(12))
    public: Any = RSAKey.import_key(key["jwk"]).public_key
    wrapped = public.encrypt(
        content_key, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    )
    sealed = AESGCM(content_key).encrypt(nonce, json.dumps(claims()).encode(), header.encode())
    made = ".".join([header, b64(wrapped), b64(nonce), b64(sealed[:-16]), b64(sealed[-16:])])
    assert api.post("subscribe", {"jwe": made}).status_code == 202


def test_the_examples_header_is_the_one_described() -> None:
    header = example("example-jwe").split(".")[0]
    assert json.loads(urlsafe_b64decode(header + "==")) == {
        "alg": "RSA-OAEP-256",
        "enc": "A256GCM",
        "kid": "example-key",
    }


def test_the_answers_are_the_ones_shown(api: Api) -> None:
    key = api.post("publickey", {}).json()
    assert set(key) == set(example("publickey-answer"))
    assert set(key["jwk"]) == set(example("publickey-answer")["jwk"])
    subscribed = api.subscribe().json()
    assert set(subscribed) == set(example("subscribe-answer"))
    told = api.post(
        "checkin", {"device_id": subscribed["device_id"]}, bearer=subscribed["device_secret"]
    ).json()
    assert set(told) == set(example("checkin-answer"))


def test_the_pushes_are_the_ones_shown() -> None:
    shown = example("announcement")
    news = News(shown["ens"]["item"], Content("Ben Baker", "Lunch on Friday?"), 7)
    assert announcement("apns", news) == shown
    assert announcement("fcm", news) == example("announcement-android")
    assert badge_correction("apns", 6) == example("badge")
    assert badge_correction("fcm", 6) == example("badge-android")
    assert example("wakeup-android") == wakeups.SILENT["fcm"]
    assert example("reconnect-android") == wakeups.VISIBLE["fcm"]
    assert example("wakeup") == wakeups.SILENT["apns"]
    assert example("reconnect") == wakeups.VISIBLE["apns"]


def test_the_encrypted_pushes_are_the_ones_shown() -> None:
    shown = example("encrypted-claims")
    phone, key = ContentKey(), ECKey.generate_key("P-256")
    device_id = uuid.UUID(shown["dev"])
    envelope = Envelope(device_id, json.dumps(phone.public_jwk), Signer("k", key))
    content = Content(shown["sender"], shown["subject"], shown["preview"])
    news = News(shown["item"], content, 7, thread=shown["thread"], envelope=envelope)
    for name, holder in (("encrypted", "ens"), ("encrypted-android", "data")):
        made = announcement("apns" if holder == "ens" else "fcm", news)
        signed = phone.decrypt(made[holder]["enc"]).split(".")[1]
        claims = json.loads(urlsafe_b64decode(signed + "=" * (-len(signed) % 4)))
        assert claims | {"iat": shown["iat"]} == shown
        made[holder]["enc"] = "…"
        assert made == example(name)


def test_the_problem_shown_is_real_and_every_code_is_listed() -> None:
    assert example("problem") == document("jwe_stale")
    listed = rows("| `code` | status | what the app does |")
    assert {code: int(row[0]) for code, row in listed.items()} == {
        code: status for code, (status, _) in PROBLEMS.items()
    }


def test_every_state_is_listed() -> None:
    assert set(rows("| `state` | meaning |")) == set(DeviceState)


@pytest.mark.parametrize("member", ["email", "push_token", "wishes", "device_ref", "time_zone"])
def test_every_member_of_the_plaintext_is_taken(api: Api, member: str) -> None:
    plaintext = example("example-plaintext")
    assert member in plaintext
    answer = api.subscribe(**{member: plaintext[member]}, ews_url=None)
    assert answer.status_code == 202, answer.content


def test_openapi_and_its_ui_are_served_and_need_nothing_from_elsewhere(api: Api) -> None:
    keypairs.rotate()
    schema = api.client.get("/MailNotificationService/api/ens/openapi?format=json")
    assert schema.status_code == 200
    paths = schema.json()["paths"]
    assert {path.rsplit("/", 1)[1] for path in paths} == {
        "alive",
        "publickey",
        "subscribe",
        "checkin",
        "unsubscribe",
    }
    for path, operations in paths.items():
        for operation in operations.values():
            open_to_all = path.endswith("alive")
            assert bool(operation.get("security")) is not open_to_all, path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
    page = api.client.get("/MailNotificationService/api/ens/docs")
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    assert sources
    for source in sources:
        assert source.startswith("/"), source
        assert api.client.get(source).status_code == 200, source
