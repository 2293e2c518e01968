"""What an OG may set about its key pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.tenants.inherited import og_settings


@og_settings("keypairs", title="Encryption keys")
@dataclass(frozen=True, slots=True)
class KeyPairSettings:
    """Size and life of an OG's key pairs; a group below may only make them stronger or shorter.

    A change holds for the pairs made from then on: the current one and the next live out.
    `bits` is the size of the RSA modulus, `hours_current` how long a pair is handed out to
    devices, `hours_accepted_after` how long after that a JWE to it is still opened.
    `signing_days` is how long a key signs announcements; phones know it that long before.
    """

    bits: int = field(
        default=2048,
        metadata={
            "choices": (4096, 3072, 2048),
            "narrows": True,
            "label": "Key size",
            "help": "Devices encrypt credentials to a key of this size. Larger keys cost more "
            "processor time at each subscription.",
            "unit": "bits",
        },
    )
    hours_current: int = field(
        default=6,
        metadata={
            "minimum": 1,
            "maximum": 168,
            "narrows": True,
            "label": "New key every",
            "help": "For how long a key is handed out to devices before the next one is.",
            "unit": "hours",
        },
    )
    hours_accepted_after: int = field(
        default=2,
        metadata={
            "minimum": 1,
            "maximum": 48,
            "narrows": True,
            "label": "Old key accepted for",
            "help": "For how long after that a device may still use it; then it is destroyed.",
            "unit": "hours",
        },
    )
    signing_days: int = field(
        default=90,
        metadata={
            "minimum": 7,
            "maximum": 365,
            "narrows": True,
            "label": "New signing key every",
            "help": "With it encrypted notifications are signed. Devices are told of the next one "
            "as long before.",
            "unit": "days",
        },
    )
