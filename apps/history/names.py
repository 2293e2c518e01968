"""The names of all counters. `docs/operations.md` says what each means."""

from __future__ import annotations

from typing import Final

# The webhook.
RECEIVED: Final = "notifications_received"
APPENDED: Final = "entries_appended"
LOG_UNAVAILABLE: Final = "log_unavailable"

# The drain.
DRAIN_RUNS: Final = "drain_runs"
FETCH_ERRORS: Final = "fetch_errors"  # label: the code of the error
CREDENTIALS_REFUSED: Final = "credentials_refused"
BURIED: Final = "entries_buried"

# Pushes.
ANNOUNCED: Final = "announced"
HUSHED: Final = "hushed"  # quiet hours, no VIP, or a level of none
BADGE_CORRECTIONS: Final = "badge_corrections"
PUSHES: Final = "pushes"  # label: accepted, dead, retry, failed
RELAY_CALLS: Final = "relay_calls"  # label: answered, unavailable, refused
LATENCY: Final = "webhook_to_push"  # milliseconds

# Joins and wake-ups.
JOINS: Final = "joins"  # label: the outcome
PROOF_FAILURES: Final = "proof_failures"
GATEWAY_REFUSED: Final = "gateway_refused"  # devices that it blocks from then on
WAKE_UPS: Final = "wake_ups"  # label: as of pushes
