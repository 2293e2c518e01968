"""Reads request bodies with a limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, Final

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from apps.api.problems import Problem

# A JWE is at most 24 KiB; nothing else is near it.
MAX_BODY: Final = 32 * 1024


class SmallJSONParser(BaseParser):
    """JSON objects of at most `MAX_BODY` bytes; duplicate members and NaN are refused."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise Problem("too_large")
        try:
            found = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise ParseError from None
        if not isinstance(found, dict):
            raise ParseError
        return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
