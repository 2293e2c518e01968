"""The URL that Exchange calls: who is meant, a MAC that says we made it, the sealed credentials.

`<link address>/notify?id=<subscription>.<key id>.<mac>&creds=<base64url>`
"""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode

from django.conf import settings

from apps.vault import urlmac

# Exchange refuses longer ones with ErrorInvalidPushSubscriptionUrl.
MAX_URL_LENGTH = 2082
_NAME_LENGTH = 22


def name_of(subscription_id: uuid.UUID) -> str:
    """A subscription's id as URLs and the event log write it: 22 characters of base64url."""
    return urlsafe_b64encode(subscription_id.bytes).rstrip(b"=").decode()


def id_of(name: str) -> uuid.UUID:
    """The inverse of `name_of`.

    Raises:
        ValueError: it is not the name of any id.
    """
    if len(name) != _NAME_LENGTH:
        raise ValueError("not a subscription's name")
    found = uuid.UUID(bytes=urlsafe_b64decode(name + "=="))
    if name_of(found) != name:
        raise ValueError("not a subscription's name")
    return found


def form(subscription_id: uuid.UUID, creds: str) -> str:
    """The webhook URL to hand to Exchange."""
    return _base(subscription_id) + creds


def room_for_credentials(subscription_id: uuid.UUID) -> int:
    """How many characters the sealed credentials may take in the URL."""
    return MAX_URL_LENGTH - len(_base(subscription_id))


def check(ticket: str) -> uuid.UUID | None:
    """The subscription that a call's `id` parameter names; None when we did not make it.

    Costs no database access once the MAC keys are cached.
    """
    name, _, rest = ticket.partition(".")
    key_id, _, mac = rest.partition(".")
    if not urlmac.verify(name, key_id, mac):
        return None
    try:
        return id_of(name)
    except ValueError:
        return None


def _base(subscription_id: uuid.UUID) -> str:
    name = name_of(subscription_id)
    key_id, mac = urlmac.sign(name)
    return f"{settings.ENS.link_address.rstrip('/')}/notify?id={name}.{key_id}.{mac}&creds="
