"""Errors described for the log without their text, which may hold what they are about."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import Final

_FRAMES: Final = 6


def where(error: BaseException) -> str:
    """An exception's type and the innermost lines of code it passed: `KeyError at views.py:42`."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places or 'an unknown place'}"
