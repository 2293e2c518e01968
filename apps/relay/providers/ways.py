"""Which provider goes by which name; each process makes those it needs, once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings

from apps.relay.providers import Provider
from apps.relay.providers.apns.provider import ApnsProvider


@cache
def way(name: str) -> Provider:
    """This process' provider of that name.

    Raises:
        KeyError: there is none of that name.
    """
    return _MAKERS[name]()


def _apns() -> Provider:
    return ApnsProvider(settings.ENS.relay_apns_url, pem(settings.ENS.relay_apns_ca_file))


def pem(file: Path | None) -> str:
    """The content of a bundle of private CAs; empty without one."""
    return file.read_text("utf-8") if file is not None else ""


_MAKERS = {"apns": _apns}
