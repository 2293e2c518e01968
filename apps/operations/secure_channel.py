"""The secure channel certificate: make the next one, let the relay know it, roll, revoke.

A relay takes calls that are signed with a key whose certificate it knows. Rolling has an overlap:
the next key is made, its certificate goes to the relay (by hand to its operator; by itself where
the relay is ours and in this very database), the relay is asked whether it knows it, and only then
it signs. The one before stays known until it is revoked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps import revocations
from apps.audit import service as audit
from apps.cns import keys
from apps.cns.channel import ChannelUnusable, load_channel
from apps.cns.client import CnsClient
from apps.cns.configured import CnsNotConfigured, configured_client, key_of_file
from apps.cns.errors import CnsUnavailable
from apps.cns.models import SecureChannelKey
from apps.cns.site import current_site
from apps.operations.device_actions import By
from apps.wire import background

Use = SecureChannelKey.Use
_LABEL: Final = re.compile(r"[^\W_](?:[\w .()-]{0,62}[\w.)])?")
_ENDPOINT: Final = re.compile(r"/nws/notify/[a-z]+/?\Z")


class KeyRefused(Exception):
    """What was asked for can't be done; `code` is stable, the text is for an administrator."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Signing:
    """What signs now: a key of the database, or the file that `ENS_CNS_KEY_FILE` names."""

    thumbprint: str
    certificate: str
    from_file: bool
    used_from: datetime | None


def listed() -> list[SecureChannelKey]:
    """All keys that were ever made here, the newest first."""
    return list(SecureChannelKey.objects.order_by("-created_at", "-pk"))


def signing() -> Signing | None:
    """What signs the calls to the relay now; None where nothing is set up, or it can't be used."""
    row = keys.current()
    if row is not None:
        return Signing(row.thumbprint, row.certificate, False, row.used_from)
    try:
        pem = key_of_file()
        thumbprint = load_channel(pem).thumbprint
    except (CnsNotConfigured, ChannelUnusable):
        return None
    found = re.search(
        r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?",
        pem.decode("ascii", "replace"),
        re.DOTALL,
    )
    return Signing(thumbprint, found[0] if found else "", True, None)


def create_next(label: str, by: By) -> SecureChannelKey:
    """Make the key that is to sign next. An earlier one that never signed is revoked.

    Raises:
        KeyRefused: `label` is no name of 1 to 64 letters, digits, spaces and `.()-`.
    """
    label = label.strip()
    if not _LABEL.fullmatch(label):
        raise KeyRefused("label", "a label has 1 to 64 letters, digits, spaces and . ( ) -")
    with transaction.atomic():
        for unused in SecureChannelKey.objects.filter(use=Use.NEXT, revoked_at=None):
            revoke(unused.thumbprint, by)
        row, _ = keys.make(label, Use.NEXT)
        registered = register_beside(row)
        _audit(by, "secure_channel.create", row, {"use": "next", "registered": registered})
    return row


def register_beside(row: SecureChannelKey) -> bool:
    """Let a relay that is ours and in this database know a certificate; False where it isn't.

    It may push for the same apps as the key that signs now.
    """
    if not relay_is_beside():
        return False
    from apps.relay.models import Deployment

    now_signing = signing()
    made = Deployment.objects.create(
        name=f"{row.label[:64]} {row.thumbprint[:12]}",
        thumbprint=row.thumbprint,
        certificate=row.certificate,
    )
    before = Deployment.objects.filter(thumbprint=now_signing.thumbprint if now_signing else "")
    for deployment in before:
        made.push_apps.set(deployment.push_apps.all())
    return True


def relay_is_beside() -> bool:
    """Whether the configured CNS is served by this very deployment, from this database."""
    ens = settings.ENS
    if "relay" not in ens.roles or ens.relay_audience is None:
        return False
    try:
        called = _ENDPOINT.sub("", current_site().url).rstrip("/")
    except CnsNotConfigured:
        return False
    return bool(called == ens.relay_audience.rstrip("/"))


def ask_relay(thumbprint: str) -> str:
    """What the relay says to a call signed with a key: `ok`, its code of refusal, or why no answer.

    Raises:
        KeyRefused: there is no such key, or its private half isn't here.
        CnsNotConfigured: `ENS_CNS_URL` is missing.
    """
    row = _row(thumbprint)
    if row.sealed_key is None:
        raise KeyRefused("exported", "the private half of this key is in a config.xml only")
    client = configured_client(keys.pem(row))
    return _knock(client)


def _knock(client: CnsClient) -> str:
    async def ask() -> str:
        try:
            return await client.knock()
        except CnsUnavailable as error:
            return error.code
        finally:
            await client.close()

    return background.run(ask())


def roll(thumbprint: str, by: By, *, unasked: bool = False) -> None:
    """Let the next key sign from now on, on all servers within five seconds.

    Raises:
        KeyRefused: it is not the next key, or the relay (asked first, unless `unasked`) does not
            take its calls; the code is the relay's.
        CnsNotConfigured: `ENS_CNS_URL` is missing.
    """
    row = _row(thumbprint)
    if row.use != Use.NEXT or row.revoked_at is not None:
        raise KeyRefused("not_next", "only the next key can be put into use")
    if not unasked and (answer := ask_relay(thumbprint)) != "ok":
        raise KeyRefused(answer, f"the relay does not take calls signed with it: {answer}")
    before = signing()
    with transaction.atomic():
        keys.put_into_use(row)
        was = {"thumbprint": before.thumbprint} if before else None
        _audit(by, "secure_channel.roll", row, {"thumbprint": thumbprint}, was)


def revoke(thumbprint: str, by: By) -> bool:
    """Give a key up for ever; True where the relay has been told as well.

    A relay elsewhere is told by its operator (`relay_deployment revoke`).

    Raises:
        KeyRefused: there is no such key, or it is the one that signs now.
    """
    row = _row(thumbprint)
    if row.use == Use.CURRENT:
        raise KeyRefused("in_use", "this key signs now: roll to the next one first")
    with transaction.atomic():
        rows = SecureChannelKey.objects.filter(pk=row.pk, revoked_at=None)
        # Its private half is of no more use to anybody honest.
        rows.update(revoked_at=timezone.now(), sealed_key=None)
        revocations.note("secure_channel", thumbprint=thumbprint)
        told = False
        if relay_is_beside():
            from apps.relay.models import Deployment

            known = Deployment.objects.filter(thumbprint=thumbprint, revoked_at=None)
            told = bool(known.update(revoked_at=timezone.now()))
            revocations.note("relay_deployment", thumbprint=thumbprint)
        _audit(by, "secure_channel.revoke", row, {"relay_told": told})
    return told


def _row(thumbprint: str) -> SecureChannelKey:
    row = SecureChannelKey.objects.filter(thumbprint=thumbprint).first()
    if row is None:
        raise KeyRefused("unknown", "there is no such secure channel key")
    return row


def _audit(
    by: By,
    action: str,
    row: SecureChannelKey,
    after: dict[str, Any],
    before: dict[str, Any] | None = None,
) -> None:
    audit.record(
        actor=by.actor,
        action=action,
        target=f"secure channel key {row.label}",
        og_path="",
        before=before,
        after=after | {"thumbprint": row.thumbprint},
        address=by.address,
    )
