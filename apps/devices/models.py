"""Mailboxes and devices as the database keeps them: HMACs and sealed values, nothing in clear."""

from __future__ import annotations

import uuid
from typing import Final, Literal

from django.db import models

from apps import clock
from apps.tenants.models import MailSystem, OrganizationGroup


class Mailbox(models.Model):
    """One user's mailbox in one mail system; it links all of that user's devices."""

    mail_system = models.ForeignKey(MailSystem, on_delete=models.CASCADE)
    user_hmac = models.CharField(max_length=64)
    # HMAC of the Inbox' FolderId, from the last proof: tells what was moved in from what moved out.
    inbox_hmac = models.CharField(max_length=64, blank=True, default="")
    # The one current subscription, changed by compare-and-swap only (subscriptions/current.py).
    current_subscription = models.UUIDField(null=True, blank=True)
    # Who is calling Subscribe just now, and until when others must wait for that.
    joining_subscription = models.UUIDField(null=True, blank=True)
    joining_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "devices_mailbox"
        constraints = [
            models.UniqueConstraint(fields=["mail_system", "user_hmac"], name="one_mailbox_a_user")
        ]


class DeviceState(models.TextChoices):
    """A device's states (DESIGN.md, section 2); REFUSED is a join that ended with a reason."""

    JOINING = "joining"
    ACTIVE = "active"
    ASLEEP = "asleep"
    REFUSED = "refused"
    RETIRED = "retired"
    BLOCKED = "blocked"


class Platform(models.TextChoices):
    """What runs on a device; PUSH_SERVICES says through whom it is reached."""

    IOS = "ios"
    ANDROID = "android"


# What the CNS calls the push service of each platform: `/nws/notify/<service>`.
PUSH_SERVICES: Final[dict[str, Literal["apns", "fcm"]]] = {
    Platform.IOS: "apns",
    Platform.ANDROID: "fcm",
}


class Device(models.Model):
    """One mail app on one phone, for one mailbox."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    og = models.ForeignKey(OrganizationGroup, on_delete=models.CASCADE)
    mailbox = models.ForeignKey(Mailbox, on_delete=models.CASCADE)
    state = models.CharField(
        max_length=10, choices=DeviceState.choices, default=DeviceState.JOINING
    )
    reason = models.CharField(max_length=40, blank=True, default="")
    state_at = models.DateTimeField(default=clock.now)
    platform = models.CharField(max_length=10, choices=Platform.choices)
    app_id = models.CharField(max_length=155)
    push_token_hmac = models.CharField(max_length=64)
    push_token_sealed = models.BinaryField()
    push_token_at = models.DateTimeField(default=clock.now)
    secret_hash = models.CharField(max_length=64)
    # When this device's own credentials last proved the mailbox; null after a refusal.
    proved_at = models.DateTimeField(null=True, blank=True)
    # Since when, after a refusal, the device has been told nothing; null once its own proof has
    # come and what it missed has been looked for.
    silent_since = models.DateTimeField(null=True, blank=True)
    # Since when the row holds a push token or content key that came without credentials: content
    # goes there only once a proof has come together with them. Null when there is none.
    led_away_at = models.DateTimeField(null=True, blank=True)
    # When the gateway in front of its Exchange last refused it. With the state BLOCKED: it is the
    # gateway that blocks it, and a proof that the gateway lets through ends that; else null.
    gateway_refused_at = models.DateTimeField(null=True, blank=True)
    # The highest counter seen in a check-in's JWE: an older one is a replay.
    counter = models.BigIntegerField(default=0)
    ews_url = models.CharField(max_length=500, blank=True, default="")
    # What Autodiscover found for it, where it brought none; it was good for the last proof.
    discovered_ews_url = models.CharField(max_length=500, blank=True, default="", db_default="")
    content_key = models.TextField(blank=True, default="")
    content_wish = models.CharField(max_length=16, blank=True, default="")
    # HMACs of the users whose mail the app says it is set up for, until this device has proved
    # its mailbox; null when it said nothing, or nothing is left to do.
    accounts = models.JSONField(null=True, blank=True)
    # What else it asks for (announce/policy.py); addresses stand in it as HMACs.
    wishes = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), blank=True
    )
    time_zone = models.CharField(max_length=64, blank=True, default="")
    uem_hmac = models.CharField(max_length=64, blank=True, default="", db_index=True)
    eas_hmac = models.CharField(max_length=64, blank=True, default="", db_index=True)
    # The ids themselves, for a gateway that wants to hear them (registry.identity).
    ids_sealed = models.BinaryField(null=True)
    model_name = models.CharField(max_length=100, blank=True, default="")
    os_version = models.CharField(max_length=40, blank=True, default="")
    app_version = models.CharField(max_length=40, blank=True, default="")
    # What people call it, where the group asks for that (labels.py); the kind says which name.
    label_kind = models.CharField(max_length=12, blank=True, default="", db_default="")
    label_sealed = models.BinaryField(null=True)
    last_checkin_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "devices_device"
        constraints = [
            models.UniqueConstraint(
                fields=["mailbox", "app_id", "push_token_hmac"], name="one_device_a_token"
            )
        ]

    def __str__(self) -> str:
        return f"device {self.pk}"


class Block(models.Model):
    """A name of a phone that may not join in an organization group and below it (blocks.py)."""

    kind = models.CharField(max_length=10)
    value_hmac = models.CharField(max_length=64)
    # The path of that group in the tree.
    scope = models.CharField(max_length=255)
    reason = models.CharField(max_length=40, blank=True, default="")
    # Which device it was blocked with; null for a name that nobody had yet.
    device_id = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "devices_block"
        constraints = [
            models.UniqueConstraint(fields=["kind", "value_hmac", "scope"], name="blocked_once")
        ]
