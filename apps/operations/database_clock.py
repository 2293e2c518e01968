"""The database's clock: the one that all servers of a deployment share."""

from __future__ import annotations

import time
from typing import Final

from django.db import connection

_STATEMENTS: Final = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())",
    "microsoft": "SELECT DATEDIFF_BIG(MILLISECOND, '1970-01-01', SYSUTCDATETIME()) / 1000.0",
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
}
# How far apart clocks may be before somebody should look, in seconds.
CLOCKS_S: Final = 5.0


def now() -> float:
    """The database's time in seconds since the epoch, whatever this server's clock says."""
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENTS[connection.vendor])
        return float(cursor.fetchone()[0])


def apart() -> float:
    """By how many seconds this server's clock is ahead of the database's (negative: behind)."""
    before = time.time()
    theirs = now()
    return (before + time.time()) / 2 - theirs
