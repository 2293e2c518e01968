"""Phones for the console's tables: one as it would have joined, or very many at once."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.devices import blocks
from apps.devices.models import Device, Mailbox
from apps.devices.registry import user_hmac
from apps.subscriptions.models import Subscription
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.vault.lookup import lookup_hmac
from apps.vault.wrapping import wrap


def mail_system_of(og: OrganizationGroup) -> MailSystem:
    """The group's own mail system, made when there is none."""
    found = MailSystem.objects.filter(og=og).first()
    return found or add_mail_system(og, f"{og.name} Exchange", [f"{og.name.split()[0]}.example"])


def make_device(
    og: OrganizationGroup,
    address: str = "anna@example.com",
    *,
    uem_id: str = "",
    token: str = "",
    **columns: Any,
) -> Device:
    """An active phone of the person with this address."""
    mailbox, _ = Mailbox.objects.get_or_create(
        mail_system=mail_system_of(og), user_hmac=user_hmac(address)
    )
    pk, token = uuid.uuid4(), token or uuid.uuid4().hex * 2
    said = {
        "state": "active",
        "platform": "ios",
        "app_id": "com.example.mail",
        "proved_at": timezone.now(),
        "last_checkin_at": timezone.now(),
        "secret_hash": "0" * 64,
    }
    return Device.objects.create(
        id=pk,
        og=og,
        mailbox=mailbox,
        push_token_hmac=lookup_hmac("push-token", token),
        push_token_sealed=wrap(
            token.encode(), table="devices_device", row=str(pk), purpose="push-token"
        ),
        uem_hmac=blocks.name("uem", uem_id)[1] if uem_id else "",
        **(said | columns),
    )


def make_fleet(og: OrganizationGroup, count: int) -> None:
    """So many phones, each with a mailbox and a subscription of its own; sealed values are fake."""
    system, now = mail_system_of(og), timezone.now()
    states = ("active",) * 17 + ("asleep", "refused", "retired")
    for first in range(0, count, 5000):
        numbers = range(first, min(first + 5000, count))
        boxes = Mailbox.objects.bulk_create(
            Mailbox(mail_system=system, user_hmac=f"{og.pk:08}{n:056}") for n in numbers
        )
        devices = Device.objects.bulk_create(
            Device(
                id=uuid.uuid4(),
                og=og,
                mailbox=box,
                state=states[n % len(states)],
                platform="android" if n % 3 == 0 else "ios",
                app_id="com.example.mail",
                push_token_hmac=f"{n:064}",
                push_token_sealed=b"x" * 120,
                secret_hash=f"{n:064}",
                model_name="iPhone17,1",
                uem_hmac=f"{n:064}",
                last_checkin_at=now - timedelta(seconds=n),
                created_at=now - timedelta(minutes=n),
            )
            for n, box in zip(numbers, boxes, strict=True)
        )
        Subscription.objects.bulk_create(
            Subscription(
                mailbox=device.mailbox,
                owner=device,
                state="lost" if n % 50 == 0 else "active",
                reason="silent" if n % 50 == 0 else "",
                ews_url="https://mail.example.com/EWS/Exchange.asmx",
            )
            for n, device in zip(numbers, devices, strict=True)
        )
