"""What one worker process has once: the way to mail servers."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import MailServer


@lru_cache(maxsize=1)
def mail_server() -> MailServer:
    """The mail server client of this process; its connections are kept between tasks."""
    return EwsServer(settings.ENS_VERSION)
