"""Tells an operator when Redis is set up so that what was answered OK may be lost."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError


def faults(client: Any, wait_replicas: int) -> list[str]:
    """What is wrong, in plain words; empty when nothing is. Raises redis-py's errors."""
    try:
        found = {
            name: _config(client, name)
            for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
        }
    except ResponseError:
        # Hosted ones refuse CONFIG; a replica's word is enough.
        return [] if wait_replicas else ["Redis doesn't tell whether it keeps what it was given"]
    wrong = []
    always = found["appendonly"] == "yes" and found["appendfsync"] == "always"
    if not always and not wait_replicas:
        wrong.append(
            "Redis may lose what was answered OK: set 'appendonly yes' and 'appendfsync always', "
            "or wait for replicas (ENS_EVENT_LOG_WAIT_REPLICAS)"
        )
    if found["maxmemory"] not in ("", "0") and found["maxmemory-policy"] != "noeviction":
        wrong.append("Redis may evict entries: set 'maxmemory-policy noeviction'")
    return wrong


def _config(client: Any, name: str) -> str:
    answer = client.execute_command("CONFIG GET", name)
    values = list(answer.values()) if isinstance(answer, dict) else list(answer[1:2])
    value = values[0] if values else b""
    return value.decode() if isinstance(value, bytes) else str(value)
