"""How much may be said to whom: the organization's rules, narrowed by what the device asks for."""

from __future__ import annotations

from typing import Final

from apps.announce.payload import Content

# From the narrowest to the widest (DESIGN.md, section 6).
LEVELS: Final = ("none", "generic", "sender", "sender_subject")


def narrowed(content: Content | None, level: str) -> Content | None:
    """Content cut down to a level; None: only «New mail» may be said."""
    if content is None or level in ("none", "generic"):
        return None
    return Content(sender=content.sender) if level == "sender" else content
