"""What one worker process has once: its name in the log, and the way to mail servers."""

from __future__ import annotations

import os
import secrets
import socket
from functools import lru_cache

from django.conf import settings

from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import MailServer
from apps.exchange.limits import LimitedServer


@lru_cache(maxsize=1)
def mail_server() -> MailServer:
    """The mail server client of this process; its connections are kept between tasks."""
    server = EwsServer(settings.ENS_VERSION, name_servers=settings.ENS.dns_servers)
    return LimitedServer(server, settings.ENS.exchange_calls_in_flight)


@lru_cache(maxsize=1)
def worker_name() -> str:
    """What this process calls itself in the log; never the name of one that died before it."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
