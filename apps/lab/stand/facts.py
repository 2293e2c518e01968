"""What a running stand is like: its addresses and demo accounts, for people and processes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

APP_ID = "com.example.mail"
# The Firebase project that its Android app was built for.
PROJECT_ID = "lab-mail-1"


@dataclass(frozen=True, slots=True)
class DemoUser:
    """An account at the lab's Exchange."""

    name: str
    address: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """Addresses, the Exchange's CA, the API token and the demo accounts of one stand."""

    ews_url: str
    exchange_control: str
    apns_url: str
    apns_control: str
    fcm_control: str
    exchange_ca_file: str
    link_address: str
    users: tuple[DemoUser, ...]
    app_id: str = APP_ID
    api_token: str = field(default="", repr=False)

    def save(self, file: Path) -> None:
        """Write everything, the API token too, readable by its owner alone."""
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(asdict(self), out, indent=1)

    @classmethod
    def load(cls, file: Path) -> Facts:
        """Read what `save` wrote."""
        found = json.loads(file.read_text("utf-8"))
        users = tuple(DemoUser(**user) for user in found.pop("users"))
        return cls(users=users, **found)
