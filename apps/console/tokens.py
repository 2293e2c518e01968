"""What the pages of both kinds of token share: their state, for how long they are good, the page
that shows a new one once."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import display

from apps.console.site import show

LIVES: Final = [
    ("", "Until it is revoked"),
    ("90", "90 days"),
    ("365", "1 year"),
    ("730", "2 years"),
]


def good_until(days: str) -> datetime | None:
    """When a token ends for which one of LIVES was chosen; None: when it is revoked."""
    return timezone.now() + timedelta(days=int(days)) if days else None


class TokenState:
    """For a ModelAdmin: the column that says whether a token is good."""

    @display(
        description="State",
        label={"Valid": "success", "Expired": "warning", "Revoked": "danger"},
    )
    def condition(self, obj: Any) -> str:
        if obj.revoked_at is not None:
            return "Revoked"
        expired = obj.expires_at is not None and obj.expires_at <= timezone.now()
        return "Expired" if expired else "Valid"


def shown_once(
    request: HttpRequest, made: Any, token: str, *, title: str, words: str, file: str, back: str
) -> HttpResponse:
    """The page with a token just made, to be copied or downloaded; it leads on to `back`."""
    text = f"{title}: {made.label}{f' ({made.og.name})' if made.og else ''}\r\n{token}\r\n"
    context = {
        "token": token,
        "file": base64.b64encode(text.encode()).decode(),
        "made": made,
        "file_name": file,
        "words": words,
        "list_url": back,
    }
    return show(request, "console/token_created.html", title, context)
