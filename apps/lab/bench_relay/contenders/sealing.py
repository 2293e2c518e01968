"""Turns a notification of the workload into what ENS sends to a phone with a content key.

Needs the settings of a whole ENS, but no database: the keys are made here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import django
from joserfc.jwk import ECKey

_PHONES = 100


def sealer() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that makes a notification's payload anew, signed and encrypted."""
    django.setup()
    # They want Django to be ready.
    from apps.announce.envelope import Envelope
    from apps.announce.payload import Content, News, announcement
    from apps.keypairs.signing import Signer

    signer = Signer("bench", ECKey.generate_key("P-256"))
    envelopes = [
        Envelope(uuid.uuid4(), json.dumps(ECKey.generate_key("P-256").as_dict(False)), signer)
        for _ in range(_PHONES)
    ]

    def seal(each: dict[str, Any]) -> dict[str, Any]:
        aps, item = each["payload"]["aps"], each["payload"]["ens"]["item"]
        content = Content(sender=aps["alert"]["title"], subject=aps["alert"]["body"])
        envelope = envelopes[int(each["token"][:4], 16) % _PHONES]
        return announcement("apns", News(item, content, aps["badge"], envelope=envelope))

    return seal
