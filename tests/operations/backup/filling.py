"""Runs inside an installation: fills it with what a restore must bring back, and looks at it."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from base64 import b64encode
from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from apps.administrators import accounts, api_tokens
from apps.administrators.adapters import SecondFactorAdapter
from apps.administrators.roles import Role
from apps.audit import service as audit
from apps.audit.models import AuditEntry
from apps.cns import keys, site
from apps.cns.models import SecureChannelKey
from apps.devices import registry
from apps.devices.models import Block, Device, Mailbox
from apps.devices.registry import Description
from apps.history import stories
from apps.keypairs import sealing, service, signing
from apps.keypairs.models import KeyPair, SealedCredential
from apps.operations.backup import tables
from apps.relay import push_apps
from apps.relay.models import Deployment
from apps.relay.providers import Checked
from apps.subscriptions import way
from apps.subscriptions.models import RefusedCredential, Subscription, WakeUp
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants import tokens
from apps.tenants.groups import create_group
from apps.tenants.inherited import override
from apps.tenants.mail_systems import add_mail_system
from apps.vault.wrapping import wrap

URL = "https://mail.example.com/EWS/Exchange.asmx"
SECRETS = {
    "address": "canary.person@example.com",
    "push token": "c0ffee" * 10 + "beef",
    "uem id": "canary-uem-id-4711",
    "proxy password": "canary proxy word",
    "push app": "canary provider key",
    "user": "canaryadministrator",
    "credentials": "canary mailbox password",
}


def fill() -> dict[str, Any]:
    """A bit of everything; returns what the test must know."""
    og = create_group("Example")
    below = create_group("Sälë", og)
    override(og, SubscriptionSettings, proof_hours=12)
    system = add_mail_system(og, "Exchange", ["mail.example.com"], default_ews_url=URL)
    system.proxy_url, system.proxy_auth = "http://proxy.example.com:3128", "basic"
    way.seal_proxy_login(system, "canary", SECRETS["proxy password"])
    system.save()
    token, admin = tokens.issue_token(below, "phones"), _people(og)
    service.rotate()
    _devices(below, system)
    relay = Deployment.objects.create(name="here", thumbprint="t" * 43, certificate="…")
    checked = Checked(SECRETS["push app"].encode(), None, {"key_id": "ABC"})
    push_apps.store("apns", "com.example.mail", "apns", checked, sandbox=False)
    relay.push_apps.set(list(relay.push_apps.model.objects.all()))
    site.save_proxy(site.site_row(), "http://proxy.example.com:3128", "basic", ("a", "canary"))
    row, _ = keys.make("here", SecureChannelKey.Use.NEXT)
    keys.put_into_use(row)
    audit.record(
        actor="a", action="b.c", target="é", og_path=og.path, before={"n": [1]}, after=None
    )
    return {"token": token, "admin_token": admin}


def _people(og: Any) -> str:
    person = accounts.create(SECRETS["user"], "Wild geese over 7 lakes", Role.AUDITOR, og)
    from allauth.mfa.models import Authenticator

    secret = SecondFactorAdapter().encrypt("canary totp")
    Authenticator.objects.create(user=person, type="totp", data={"secret": secret})
    return api_tokens.issue(person, og, "robot", ["console.read"])[1]


def _devices(og: Any, system: Any) -> None:
    for number in range(4):
        address = SECRETS["address"] if not number else f"user{number}@example.com"
        box = registry.mailbox_for(system, address)
        said = Description(
            platform="ios", app_id="com.example.mail", ews_url=URL,
            push_token=SECRETS["push token"] if not number else f"{number:064x}",
            uem_id=SECRETS["uem id"] if not number else f"uem-{number}",
        )  # fmt: skip
        with transaction.atomic():
            enrolled = registry.enrol(og, box, said)
        assert enrolled is not None
        device = enrolled[0]
        registry.proved(device.id)
        subscription = Subscription.objects.create(
            mailbox=box, owner=device, state="active", ews_url=URL
        )
        box.current_subscription = subscription.id
        box.save()
        sealing.seal(subscription.id, SECRETS["credentials"].encode(), 1500)
        stories.record(device.id, "joined")
    RefusedCredential.objects.create(
        mailbox=registry.mailbox_for(system, SECRETS["address"]), credential_hmac="a" * 64
    )


def digests() -> dict[str, str]:
    """What every table of a backup holds, column by column, whatever the database."""
    found = {}
    for model in tables.kept():
        digest = hashlib.sha256()
        for row in model._default_manager.order_by("pk").values():
            digest.update(json.dumps(row, default=_text, sort_keys=True).encode())
        found[model._meta.label] = f"{model._default_manager.count()} {digest.hexdigest()[:16]}"
    return found


def opened() -> dict[str, Any]:
    """What only the right master key opens, by the ways that ENS itself goes."""
    from allauth.mfa.models import Authenticator

    from apps.relay.models import PushApp
    from apps.tenants.models import MailSystem, OrganizationGroup

    device = Device.objects.get(mailbox__user_hmac=registry.user_hmac(SECRETS["address"]))
    (factor,) = Authenticator.objects.all()
    system = MailSystem.objects.get()
    row = keys.current()
    assert row is not None and keys.pem(row)
    og = OrganizationGroup.objects.get(name="Sälë")
    signer = signing.current(og)
    assert signer is not None
    proxy = way.proxy_of(system)
    assert proxy is not None
    return {
        "push token": registry.push_token(device),
        "ids": dict(registry.identity(device)).get("uem_id"),
        "totp": SecondFactorAdapter().decrypt(factor.data["secret"]),
        "proxy": proxy.password,
        "push app": push_apps.opened(PushApp.objects.get()).credentials.decode(),
        "signing": bool(signer.sign(b"x")),
    }


def many(number: int) -> None:
    """So many phones, that a run takes long enough to be killed."""
    one = Device.objects.order_by("created_at").last()
    assert one is not None
    rows = []
    for _ in range(number):
        pk = uuid.uuid4()
        sealed = wrap(b"token", table="devices_device", row=str(pk), purpose="push-token")
        row = Device(id=pk, og_id=one.og_id, mailbox_id=one.mailbox_id, platform="ios", app_id="x")
        row.push_token_hmac, row.push_token_sealed = pk.hex, sealed
        rows.append(row)
    Device.objects.bulk_create(rows, batch_size=500)


def state(token: str, admin_token: str) -> dict[str, Any]:
    """What a restore is to have made of it."""
    return {
        "devices": sorted(Device.objects.values_list("state", "proved_at")),
        "silent": Device.objects.filter(state="active", silent_since=None).count(),
        "served": Mailbox.objects.exclude(current_subscription=None).count(),
        "keys": KeyPair.objects.count() + SealedCredential.objects.count(),
        "subscriptions": Subscription.objects.exclude(state="ended").count(),
        "woken": WakeUp.objects.count(),
        "token": tokens.authenticate(token) is not None,
        "admin_token": api_tokens.authenticate(admin_token) is not None,
        "blocks": Block.objects.count(),
        "audited": AuditEntry.objects.filter(action__startswith="deployment.re").count(),
    }


def run(*words: str) -> str:
    """Run a command; what it printed, or its complaint."""
    said = StringIO()
    if "--drop-old" in words:  # or it would wait for processes that know the file as it was
        os.utime(settings.ENS.master_key_file, (0, 0))
    try:
        call_command(*words, stdout=said)
    except CommandError as error:
        return f"refused: {error}"
    return said.getvalue()


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return b64encode(bytes(value)).decode()
    if isinstance(value, uuid.UUID):
        return str(value)
    return str(value.astimezone(timezone.get_default_timezone()).isoformat())
