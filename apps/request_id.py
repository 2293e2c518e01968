"""A short random name for what one request set off, from the webhook to the push.

It is in every log line on that road, so that support finds them all. A job that merges several
notifications, or a call that carries several mailboxes' pushes, has several: joined by commas.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from typing import Final, TypeVar

HEADER: Final = "ENS-Request-Id"
# So that a header with all of them stays below what every web server takes.
_AT_MOST: Final = 100
_ID: Final = re.compile(r"[0-9a-f]{12}")

_current: ContextVar[str] = ContextVar("ens_request_id", default="")

Request = TypeVar("Request")
Answer = TypeVar("Answer")


def new() -> str:
    """A fresh id: 12 hex digits."""
    return secrets.token_hex(6)


def current() -> str:
    """The id, or ids, of what is being worked on; empty outside of any request."""
    return _current.get()


def work_on(ids: Iterable[str]) -> Token[str]:
    """Let all that this thread or task logs from now on carry these ids.

    Each of `ids` may itself be several. What is no id is left out: they may come from outside.
    """
    each = (part for several in ids for part in several.split(","))
    known = dict.fromkeys(part for part in each if _ID.fullmatch(part))
    return _current.set(",".join(list(known)[:_AT_MOST]))


def middleware(get_response: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """Django middleware: every request gets an id of our own making."""

    def answer(request: Request) -> Answer:
        before = work_on([new()])
        try:
            return get_response(request)
        finally:
            _current.reset(before)

    return answer
