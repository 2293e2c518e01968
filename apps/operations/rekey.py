"""Re-keying after a leak: new keys for everything that a thief of the old ones could open.

Lookup keys stay, or no mailbox and no phone would be found again. What can't be made anew here
(keys of Apple and Google, passwords of proxies, the codes of administrators' apps) is named for
people to replace. The master key itself is re-wrapping's (rewrap.py), and comes first.
"""

from __future__ import annotations

from django.contrib.sessions.models import Session
from django.utils import timezone

from apps.audit import service as audit
from apps.cns import keys as channel_keys
from apps.cns.models import SecureChannelKey
from apps.keypairs import service as keypairs
from apps.operations import secure_channel
from apps.operations.device_actions import By
from apps.subscriptions import anew
from apps.vault import keys as vault_keys
from apps.vault import urlmac

REASON = "rekeyed"


def rekey(by: By) -> dict[str, int]:
    """Make all keys anew and let everybody join again; audited. May be repeated at any time.

    Each step is whole by itself, in an order in which one that was killed leaves nothing open:
    URLs are refused and credentials shredded first. No other process may run meanwhile: each knows
    keys by heart. Returns what was done, by name.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    done = {"URL MAC keys replaced": vault_keys.replace_url_mac()}
    urlmac.forget()
    done["phones asked for their credentials"] = anew.join_again(REASON, timezone.now())
    done["key pairs and signing keys replaced"] = keypairs.replace_all()
    done["sessions ended"] = int(Session.objects.all().delete()[0])
    done["secure channel keys made"] = _new_channel_key(by)
    audit.record(
        actor=by.actor,
        action="deployment.rekey",
        target="all of the deployment",
        og_path="",
        before=None,
        after=done,
        address=by.address,
    )
    return done


def _new_channel_key(by: By) -> int:
    """A new secure channel key where the database has them.

    Beside our own relay it signs at once, and the one before it is revoked; a relay elsewhere must
    first be told of its certificate.
    """
    before = channel_keys.current()
    if before is None:
        return 0
    made = secure_channel.create_next(f"{before.label[:50].removesuffix(' anew')} anew", by)
    if secure_channel.relay_is_beside():
        secure_channel.roll(made.thumbprint, by, unasked=True)
        former = SecureChannelKey.objects.filter(use=SecureChannelKey.Use.PREVIOUS, revoked_at=None)
        for thumbprint in list(former.values_list("thumbprint", flat=True)):
            secure_channel.revoke(thumbprint, by)
    return 1
