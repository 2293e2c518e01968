"""One EWS push subscription each row; what Exchange keeps for us is not here but in its URL."""

from __future__ import annotations

import uuid

from django.db import models

from apps import clock
from apps.devices.models import Device, Mailbox
from apps.tenants.models import MailSystem

# The reason of an ended subscription whose own credentials still drain what it reported.
SUPERSEDED = "superseded"


class SubscriptionState(models.TextChoices):
    """The states of DESIGN.md, section 2; each comes with a reason."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPECT = "suspect"
    LOST = "lost"
    ENDED = "ended"


class Subscription(models.Model):
    """A push subscription on a mailbox's Inbox, from the join that asked for it to its end."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    mailbox = models.ForeignKey(Mailbox, on_delete=models.CASCADE)
    # The device whose credentials the webhook URL carries; null once that device is gone.
    owner = models.ForeignKey(Device, null=True, on_delete=models.SET_NULL)
    state = models.CharField(
        max_length=8, choices=SubscriptionState.choices, default=SubscriptionState.PENDING
    )
    reason = models.CharField(max_length=40, blank=True, default="")
    state_at = models.DateTimeField(default=clock.now)
    ews_url = models.CharField(max_length=500)
    # How often Exchange shows that it still knows us when nothing else happens.
    status_frequency_minutes = models.IntegerField(default=30, db_default=30)
    # Fingerprint of the last watermark that was worked on, and when: the next notification's
    # PreviousWatermark must be the same, or something was missed.
    watermark = models.CharField(max_length=32, blank=True, default="", db_default="")
    watermark_at = models.DateTimeField(null=True, blank=True)
    # The last sign of life of one that was declared lost: mail may have gone untold since.
    silent_since = models.DateTimeField(null=True, blank=True)
    # HMAC of Exchange's SubscriptionId; empty until Exchange named it.
    foreign_hmac = models.CharField(max_length=64, blank=True, default="")
    # Credentials that opened once are good; only others may be given up when they don't open.
    unsealed_at = models.DateTimeField(null=True, blank=True)
    # When the mailbox is to be without this subscription although nothing is wrong with it:
    # its owner left and another device has until then to take over.
    hand_over_by = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    # When the token or certificate that it uses is of no use any more, and from when on the
    # mailbox' phones are asked for another; null for passwords.
    credentials_expire_at = models.DateTimeField(null=True, blank=True)
    credentials_renew_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "subscriptions_subscription"
        indexes = [
            models.Index(fields=["state", "state_at"], name="subscription_by_state"),
            models.Index(fields=["credentials_renew_at"], name="subscription_by_renewal"),
        ]

    def __str__(self) -> str:
        return f"subscription {self.pk}"


class RefusedCredential(models.Model):
    """Credentials that Exchange answered with 401: never tried again, lest the account locks.

    With `trial_until` they are being tried just now by one worker; after that time it has died.
    """

    mailbox = models.ForeignKey(Mailbox, on_delete=models.CASCADE)
    credential_hmac = models.CharField(max_length=64)
    # HMAC of the user name in its mail system: how often one account was refused lately.
    account_hmac = models.CharField(max_length=64, default="", db_default="", db_index=True)
    refused_at = models.DateTimeField(default=clock.now)
    # By the real clock, as the calls that it outlives.
    trial_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "subscriptions_refused_credential"
        constraints = [
            models.UniqueConstraint(
                fields=["mailbox", "credential_hmac"], name="refused_credential_once"
            )
        ]


class WakeUp(models.Model):
    """A device that must check in: how often it was asked, and when it is asked next."""

    device = models.OneToOneField(Device, primary_key=True, on_delete=models.CASCADE)
    reason = models.CharField(max_length=40)
    asked_at = models.DateTimeField()
    due_at = models.DateTimeField(db_index=True)
    sent = models.IntegerField(default=0)
    visible_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "subscriptions_wake_up"


class WakeRate(models.Model):
    """One row a mail system: how many phones were woken when, within the last second.

    All workers share it, so that the rate is the promise; changed by compare-and-swap on `version`
    (wake_rate.py).
    """

    mail_system = models.OneToOneField(MailSystem, primary_key=True, on_delete=models.CASCADE)
    version = models.BigIntegerField(default=0)
    # JSON: [[Unix time, how many], …], oldest first.
    grants = models.CharField(max_length=1000, default="[]")

    class Meta:
        db_table = "subscriptions_wake_rate"


class Scan(models.Model):
    """One row: when we last looked for silent subscriptions, and since when without a gap."""

    here_since = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "subscriptions_scan"
