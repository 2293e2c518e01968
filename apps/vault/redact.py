"""What may be kept or logged in clear: errors without their text, and facts that are codes."""

from __future__ import annotations

import re
import traceback
import uuid
from pathlib import PurePath
from typing import Final

_FRAMES: Final = 6
# Long enough for a UUID, too short for a push token or an HMAC; no address and no subject passes.
_CODE: Final = re.compile(r"[A-Za-z0-9_.:+-]{0,40}")
REFUSED: Final = "?"

Fact = str | int | float | bool | uuid.UUID | None
PlainFact = str | int | float | bool | None


def where(error: BaseException) -> str:
    """An exception's type and the innermost lines of code it passed: `KeyError at views.py:42`."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places or 'an unknown place'}"


def plain_fact(value: Fact) -> PlainFact:
    """The fact if it is a number, an id or a short code; else `?`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if _CODE.fullmatch(text) else REFUSED
