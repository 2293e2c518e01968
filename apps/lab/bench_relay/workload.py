"""The notifications that every contender is given, as lines of JSON in one file.

Each is one of its own, token, text and all: a sender that builds a body or a header list once and
sends it to many phones would win nothing here, as it wouldn't in life.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

_SENDERS = ("Ada Lovelace", "Grace Hopper", "Zoë Müller", "渡辺 久子", "Support")


def notification(number: int) -> dict[str, Any]:
    """The notification of this number: `id`, `token`, `collapse_id`, and `payload` as ENS's."""
    digest = hashlib.sha256(b"bench %d" % number).digest()
    item = digest[:12].hex()
    return {
        "id": str(uuid.UUID(bytes=digest[:16])),
        "token": digest.hex(),
        "collapse_id": item,
        "payload": {
            "aps": {
                "alert": {
                    "title": _SENDERS[number % len(_SENDERS)],
                    "body": f"Minutes of the meeting, part {number}, with what was decided",
                },
                "sound": "default",
                "badge": number % 50,
            },
            "ens": {"v": 1, "kind": "announcement", "item": item},
        },
    }


def write(file: Path, count: int) -> None:
    """Write the first `count` notifications, one a line."""
    with file.open("w", encoding="utf-8") as out:
        for number in range(count):
            out.write(json.dumps(notification(number), ensure_ascii=False) + "\n")


def read(file: Path) -> list[dict[str, Any]]:
    """What `write` wrote."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
