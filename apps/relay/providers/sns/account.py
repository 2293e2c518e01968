"""What SNS is called with: an access key and the platform application it may publish to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

Service = Literal["APNS", "APNS_SANDBOX", "GCM"]


@dataclass(frozen=True, slots=True)
class SnsAccount:
    """An access key for one platform application; `service` is the kind SNS says that is."""

    region: str
    access_key_id: str
    application_arn: str
    service: Service
    secret_access_key: str = field(repr=False)

    def dump(self) -> bytes:
        """What is sealed."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, credentials: bytes) -> SnsAccount:
        """Read what `dump` wrote."""
        return cls(**json.loads(credentials))
