"""Phones for the console's tables: one as it would have joined, or very many at once."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connection
from django.db.models import Model
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
    """So many phones in PostgreSQL, each with a mailbox and a subscription of its own.

    All are copies of one row, made by the database itself.
    """
    device = make_device(og, "template@example.com", model_name="iPhone17,1")
    subscription = Subscription.objects.create(
        mailbox=device.mailbox, owner=device, state="active", ews_url="https://mail.example/EWS"
    )
    name = "lpad(n::text, 64, '0')"
    uuids = ("md5(n::text)::uuid", "md5('s' || n::text)::uuid")
    first = device.mailbox.pk + 1
    _copy(device.mailbox, count, {"id": f"{first} + n", "user_hmac": name})
    _copy(
        device,
        count,
        {
            "id": uuids[0],
            "mailbox_id": f"{first} + n",
            "push_token_hmac": name,
            "uem_hmac": name,
            "state": "CASE WHEN mod(n, 20) = 0 THEN 'asleep' WHEN mod(n, 20) = 1 THEN 'refused' "
            "WHEN mod(n, 20) = 2 THEN 'retired' ELSE 'active' END",
            "platform": "CASE WHEN mod(n, 3) = 0 THEN 'android' ELSE 'ios' END",
            "last_checkin_at": "last_checkin_at - n * interval '1 second'",
            "created_at": "created_at - n * interval '1 minute'",
        },
    )
    _copy(
        subscription,
        count,
        {
            "id": uuids[1],
            "mailbox_id": f"{first} + n",
            "owner_id": uuids[0],
            "state": "CASE WHEN mod(n, 50) = 0 THEN 'lost' ELSE 'active' END",
            "state_at": "state_at - n * interval '1 second'",
        },
    )


def _copy(row: Model, count: int, values: dict[str, str]) -> None:
    """Copy a row so many times; `values` are SQL, in which `n` counts from 1."""
    meta = row._meta
    columns = [column.column for column in meta.concrete_fields]
    chosen = ", ".join(values.get(column, f't."{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO "{meta.db_table}" ({names}) SELECT {chosen} '
            f'FROM "{meta.db_table}" t, generate_series(1, %s) n WHERE t.id = %s',
            [count, row.pk],
        )
