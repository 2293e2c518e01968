"""Which provider goes by which name; each process makes those it needs, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from django.conf import settings

from apps.relay.providers import Provider
from apps.relay.providers.apns.provider import ApnsProvider
from apps.relay.providers.fcm.provider import FcmProvider


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


def _fcm() -> Provider:
    ens = settings.ENS
    return FcmProvider(ens.relay_fcm_url, ens.relay_fcm_token_url, pem(ens.relay_fcm_ca_file))


def _sns() -> Provider:
    # Not above: Amazon's library takes a second to load, and few relays need it.
    from apps.relay.providers.sns.provider import SnsProvider

    return SnsProvider(settings.ENS.relay_sns_url)


_MAKERS: dict[str, Callable[[], Provider]] = {"apns": _apns, "fcm": _fcm, "sns": _sns}
