"""Leaves no stray processes behind: kills the supervisor's children when it dies uncleanly.

The supervisor holds the other end of our standard input; the system closes it however the
supervisor ends. After a clean end the list names nobody who is alive.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil


def main(list_file: Path) -> None:
    """Wait for the supervisor's end, then kill what `list_file` names ([pid, start time], …)."""
    # Ctrl-C is meant for the supervisor.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    # When the supervisor tidied its directory away, it had also ended everything.
    with suppress(FileNotFoundError):
        for pid, created in json.loads(list_file.read_text("utf-8")):
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == created:
                    process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
