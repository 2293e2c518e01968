"""The directory's lock-out: after some wrong passwords in a row, the right one is refused as well.

https://learn.microsoft.com/windows/security/threat-protection/security-policy-settings/account-lockout-policy
"""

from __future__ import annotations

from .clock import Clock
from .journal import Journal
from .model import Mailbox

TRIES = 5
LOCKED_S = 30 * 60.0


class LockOut:
    """Who has failed how often; times are lab seconds."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal

    def lets_in(self, mailbox: Mailbox, right: bool) -> bool:
        """Whether a log-on with the right or a wrong password succeeds; counts it."""
        now = self._clock.seconds()
        if now < mailbox.locked_until:
            self._journal.refused_while_locked[mailbox.address] += 1
            return False
        if right:
            mailbox.wrong_tries = 0
            return True
        mailbox.wrong_tries += 1
        if mailbox.wrong_tries >= TRIES:
            mailbox.wrong_tries = 0
            mailbox.locked_until = now + LOCKED_S
            self._journal.lockouts[mailbox.address] += 1
        return False
