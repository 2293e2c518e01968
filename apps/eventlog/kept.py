"""How long the log remembers, whatever keeps it; in seconds of the subscriptions' clock."""

from __future__ import annotations

from typing import Final

_DAY_S: Final = 86_400.0
DEAD_LETTERS_KEPT_S: Final = 30 * _DAY_S
# StatusFrequency is a day at most: after a week Exchange has long called, or given up.
UNWANTED_KEPT_S: Final = 7 * _DAY_S
SIGNS_KEPT_S: Final = 7 * _DAY_S
