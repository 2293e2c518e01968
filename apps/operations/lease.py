"""A lease in the database: of several processes one holds it, and when that one dies, another.

All comparisons are by the database's clock, so servers whose clocks differ agree who holds it. The
holder itself counts on its own steady clock, from before it asked: it stops believing in its lease
before anybody else may take it, however long it was held up or stopped in between.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from typing import Final

from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from apps.operations import database_clock
from apps.operations.models import Lease
from apps.vault.redact import where

log = logging.getLogger(__name__)

BEAT: Final = "beat"
# All in seconds. A dead holder is followed after 15 to 18.
LASTS_S: Final = 15.0
_RENEWED_EVERY_S: Final = 4.0
_TRIED_EVERY_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Who had a lease last (`host/process/random`), and for how long it has it still."""

    holder: str
    seconds_left: float


def standing(name: str) -> Standing | None:
    """How it stands with a lease; None when nobody ever had it, or gave it back."""
    row = Lease.objects.filter(name=name).exclude(holder="").first()
    return Standing(row.holder, row.expires_at - database_clock.now()) if row else None


class Holder:
    """One process that wants the lease `name`; several threads may ask whether it has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.identity = f"{socket.gethostname()[:80]}/{os.getpid()}/{secrets.token_hex(4)}"
        self._until = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ens-lease-{name}", daemon=True)

    @property
    def held(self) -> bool:
        """Whether this process may act now."""
        return time.monotonic() < self._until

    def take(self) -> bool:
        """Take it if it is free, or renew it if it is ours; whether we have it.

        Raises:
            django.db.DatabaseError: the database is away; what we have runs out by itself.
        """
        asked_at, now = time.monotonic(), database_clock.now()
        # Nobody has it for longer than LASTS_S: then the database's clock was set back.
        free = Q(expires_at__lte=now) | Q(expires_at__gt=now + 2 * LASTS_S)
        rows = Lease.objects.filter(free | Q(holder=self.identity), name=self.name)
        mine = {"holder": self.identity, "expires_at": now + LASTS_S}
        taken = bool(rows.update(**mine)) or self._first(mine)
        self._until = asked_at + LASTS_S if taken else 0.0
        return taken

    def _first(self, mine: dict[str, object]) -> bool:
        """Whether nobody ever had it but now we."""
        if Lease.objects.filter(name=self.name).exists():
            return False
        try:
            with transaction.atomic():
                Lease.objects.create(name=self.name, **mine)
        except IntegrityError:
            return False  # another process was faster
        return True

    def keep(self) -> None:
        """Take it as soon as it is free and renew it from then on, on a thread of its own."""
        self._thread.start()

    def give_back(self) -> None:
        """Let another process have it at once; ends `keep`."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=LASTS_S)
        self._until = 0.0
        Lease.objects.filter(name=self.name, holder=self.identity).update(holder="", expires_at=0.0)

    def _run(self) -> None:
        had = False
        while True:
            try:
                has = self.take()
            except Exception as error:  # noqa: BLE001 - the database may be away; ask again
                log.warning("the lease of %s can't be asked for: %s", self.name, where(error))
                has = self.held
                connection.close()
            if has != had:
                log.info("%s: %s", self.name, "it is our turn" if has else "another one's turn")
            had = has
            if self._ended.wait(_RENEWED_EVERY_S if has else _TRIED_EVERY_S):
                connection.close()
                return
