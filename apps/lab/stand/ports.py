"""Free loopback ports that stay free while a process is restarted on them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
# Below what Linux (32768 up) and Windows (49152 up) hand out for outgoing connections: between a
# process's death and its restart nobody else may be given its port.
_RANGE = range(20000, 32000)
_given: set[int] = set()


def free_port(preferred: int | None = None) -> int:
    """A port nobody listens on, `preferred` when that is free; never the same one twice.

    Raises:
        OSError: none was found.
    """
    for port in _candidates(preferred):
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError("no free port on the loopback address")


def _candidates(preferred: int | None) -> Iterator[int]:
    if preferred is not None:
        yield preferred
    for _ in range(200):
        yield random.choice(_RANGE)


def is_free(port: int) -> bool:
    """Whether the port can be listened on at this moment."""
    with socket.socket() as probe:
        if not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # What a dead process left in TIME_WAIT doesn't count. (On Windows the same option
            # would let us share a port somebody listens on.)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
