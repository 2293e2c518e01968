"""How allauth signs in here: no sign-up, no mails, secrets of second factors in the vault."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.http import HttpRequest

from apps.client_address import client_address
from apps.vault.wrapping import unwrap, wrap

_PLACE: Final = {"table": "mfa_authenticator", "row": "", "purpose": "second factor"}


class AccountAdapter(DefaultAccountAdapter):
    """Administrators are made by administrators, and mails are not sent."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The caller's address, behind listed proxies."""
        return str(client_address(request))

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Not: an administrator has no mail address here; what happened is in the audit log."""

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Not, either."""


class SecondFactorAdapter(DefaultMFAAdapter):
    """What makes codes is wrapped by the vault."""

    def encrypt(self, text: str) -> str:
        """The secret of a TOTP app or the seed of recovery codes, as it is stored."""
        return b64encode(wrap(text.encode(), **_PLACE)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """What `encrypt` was given.

        Raises:
            UnwrapFailed: it doesn't open.
        """
        return unwrap(b64decode(encrypted_text), **_PLACE).decode()

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Not: see AccountAdapter."""
