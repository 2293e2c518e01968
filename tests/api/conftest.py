"""An organization with a mail system, a token and a key pair, and a client that speaks JSON."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from joserfc import jwe
from joserfc.jwk import RSAKey

from apps.keypairs import service as keypairs
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup
from apps.tenants.tokens import issue_token

BASE = "/MailNotificationService/api/ens/"
ALGORITHMS = ["RSA-OAEP-256", "A256GCM", "DEF"]


class Api:
    """The device API as a phone sees it, without a socket."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.token = client, token

    def post(self, name: str, body: Any, bearer: str | None = None, **headers: Any) -> Any:
        return self.client.post(
            BASE + name,
            body if isinstance(body, str | bytes) else json.dumps(body),
            content_type="application/json",
            headers={"authorization": f"Bearer {self.token if bearer is None else bearer}"},
            **headers,
        )

    def encrypt(self, claims: dict[str, Any], **header: Any) -> str:
        key = self.post("publickey", {}).json()
        protected = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": key["kid"]} | header
        return jwe.encrypt_compact(
            protected,
            json.dumps(claims).encode(),
            RSAKey.import_key(key["jwk"]),
            algorithms=ALGORITHMS,
        )

    def subscribe(self, **changes: Any) -> Any:
        return self.post("subscribe", {"jwe": self.encrypt(claims(**changes))})


def claims(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "email": "anna@example.com",
        "credentials": {"type": "basic", "username": "EXAMPLE\\anna", "password": "secret"},
        "ews_url": "https://mail.example.com/EWS/Exchange.asmx",
        "platform": "ios",
        "app_id": "com.example.mail",
        "push_token": "ab" * 32,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    group = create_group("Example")
    add_mail_system(
        group,
        "Exchange",
        ["mail.example.com"],
        default_ews_url="https://mail.example.com/EWS/Exchange.asmx",
    )
    keypairs.rotate()
    return group


@pytest.fixture
def api(og: OrganizationGroup, client: Client) -> Api:
    return Api(client, issue_token(og, "test"))


@pytest.fixture
def make_api(client: Client) -> Callable[[OrganizationGroup], Api]:
    return lambda group: Api(client, issue_token(group, "test"))
