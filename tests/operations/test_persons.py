"""Everything about one person: shown, and forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from apps.audit.models import AuditEntry
from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.eventlog.factory import get_log
from apps.exchange.interface import Credentials
from apps.history import stories
from apps.history.models import LooseEntry, Story
from apps.keypairs.models import SealedCredential
from apps.operations import device_actions, persons
from apps.operations.device_actions import By
from apps.subscriptions import current, joining, refusals
from apps.subscriptions.models import RefusedCredential, Subscription
from apps.subscriptions.webhook_url import id_of, name_of
from apps.tenants.groups import create_group
from apps.tenants.models import MailSystem

BY = By("admin", "192.0.2.1")
ADDRESS = "Anna@Example.com"
CREDENTIALS = Credentials("basic", "anna", "canary-password")


@pytest.fixture
def anna(enrol: Callable[..., Device]) -> Device:
    """A person with a phone, a subscription, a story, a refusal."""
    device = enrol(uem_id="uem-1")
    entry = joining.begin(device, "anna@example.com", CREDENTIALS)
    subscription_id = id_of(entry.partition)
    Subscription.objects.filter(id=subscription_id).update(state="active")
    current.swap(device.mailbox_id, None, subscription_id)
    refusals.remember(device.mailbox, Credentials("basic", "anna", "old"))
    stories.record(device.id, "joined")
    stories.story(device.id)
    return device


def test_what_is_held_is_shown_and_nothing_secret(anna: Device) -> None:
    found = persons.held(ADDRESS, BY)
    (mailbox,) = found["mailboxes"]
    (device,) = mailbox["devices"]
    assert device["id"] == str(anna.id) and device["push_token_held"] is True
    assert any(entry["kind"] == "joined" for entry in device["story"])
    assert len(mailbox["subscriptions"]) == 1 and len(mailbox["refused_credentials_at"]) == 1
    text = json.dumps(found)
    for hidden in ("ab" * 32, "canary-password", anna.secret_hash, anna.uem_hmac):
        assert hidden not in text


def test_nothing_is_left_of_a_person(anna: Device, enrol: Callable[..., Device]) -> None:
    other_box = registry.mailbox_for(anna.mailbox.mail_system, "bert@example.com")
    bert = enrol(box=other_box, push_token="cd" * 32)
    stories.record(bert.id, "joined")
    subscription = Subscription.objects.get()
    hmac, device_id, mailbox_id = anna.mailbox.user_hmac, anna.id, anna.mailbox_id
    assert persons.forget(ADDRESS, BY) == {"mailboxes": 1, "devices": 1, "subscriptions": 1}
    assert not SealedCredential.objects.exists() and not RefusedCredential.objects.exists()
    assert not Subscription.objects.exists()
    assert [device.id for device in Device.objects.all()] == [bert.id]
    assert get_log().sign_of_life(name_of(subscription.id)) is False  # answered Unsubscribe
    assert stories.story(device_id) == [] and stories.story(bert.id) != []
    assert not Story.objects.filter(device_id=device_id).exists()
    assert not LooseEntry.objects.filter(device_id=device_id).exists()
    # No row of any table knows them any more: not by the address' HMAC, not by their mailbox.
    with connection.cursor() as cursor:
        for model in apps.get_models():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(model._meta.db_table)}")
            assert hmac not in str(cursor.fetchall()), model
    assert not Mailbox.objects.filter(pk=mailbox_id).exists()
    assert persons.forget(ADDRESS, BY)["mailboxes"] == 0


def test_the_audit_log_has_no_address(anna: Device) -> None:
    persons.held(ADDRESS, BY)
    persons.forget(ADDRESS, BY)
    persons.forget("nobody@example.com", BY)
    entries = list(AuditEntry.objects.order_by("id"))
    assert [entry.action for entry in entries] == ["person.export"] + 2 * ["person.forget"]
    for entry in entries:
        assert "@" not in f"{entry.target}{entry.before}{entry.after}".lower()


def test_a_block_outlives_the_person(
    anna: Device, try_to_enrol: Callable[..., Device | None]
) -> None:
    device_actions.block(anna, BY, shred_now=True)
    persons.forget(ADDRESS, BY)
    again = registry.mailbox_for(MailSystem.objects.get(), "anna@example.com")
    assert try_to_enrol(uem_id="uem-1", push_token="ef" * 32, box=again) is None


def test_who_looks_after_another_group_finds_nobody(anna: Device) -> None:
    other = create_group("Other")
    by = By("other admin", og_paths=(other.path,))
    assert persons.held(ADDRESS, by)["mailboxes"] == []
    assert persons.forget(ADDRESS, by)["devices"] == 0
    assert Device.objects.filter(id=anna.id).exists()
    nobody = By("nobody", og_paths=())
    assert persons.held(ADDRESS, nobody)["mailboxes"] == []


def test_the_commands(anna: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    call_command("ens_person", ADDRESS, stdout=out)
    assert json.loads(out.getvalue())["mailboxes"]
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="nothing was forgotten"):
        call_command("ens_forget", ADDRESS)
    out = StringIO()
    call_command("ens_forget", ADDRESS, yes=True, stdout=out)
    assert "devices: 1" in out.getvalue()
    with pytest.raises(CommandError, match="no SMTP address"):
        call_command("ens_forget", "anna")
