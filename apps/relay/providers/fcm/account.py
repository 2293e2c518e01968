"""A service account, as the relay keeps it: what is needed to ask for access tokens, no more."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account that may send messages of one Firebase project."""

    project_id: str
    client_email: str
    private_key_id: str
    private_key: str = field(repr=False)

    def dump(self) -> bytes:
        """What is sealed."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, credentials: bytes) -> ServiceAccount:
        """Read what `dump` wrote."""
        return cls(**json.loads(credentials))
