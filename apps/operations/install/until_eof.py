"""Runs a program that ends when its standard input does: how the Windows service stops its own.

Windows has no signal that one process could send another. A pipe works on every platform, and it
also ends when whoever holds its other end dies, so that nothing is left behind.

    python -m apps.operations.install.until_eof celery -A ens_project beat
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _stop_at_the_end_of(stream: int) -> None:
    while os.read(stream, 4096):
        pass
    # What Celery takes as "finish what you have begun, then end", on Windows too. In this process:
    # os.kill would end it at once there.
    signal.raise_signal(signal.SIGTERM)


def main() -> None:
    """Run the module that the first argument names, with the others as its own."""
    sys.argv = sys.argv[1:]
    thread = threading.Thread(target=_stop_at_the_end_of, args=(sys.stdin.fileno(),), daemon=True)
    thread.start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
