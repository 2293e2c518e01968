"""How allauth signs in here: no sign-up, no mails, secrets of second factors in the vault."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

import requests
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import render

from apps.administrators.models import Administrator, normal_username
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


class DirectoryAdapter(DefaultSocialAccountAdapter):
    """Sign-in with the company's OpenID provider, for administrators who are meant to use it.

    Nobody is made an administrator by it. At the first sign-in the provider's name for the person
    is compared with ours; from then on its `sub` counts, for names are given to others in time.
    """

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Never."""
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find the administrator whom the provider means; nobody else comes in."""
        if sociallogin.is_existing and not request.user.is_authenticated:
            person = sociallogin.user
        else:
            person = self._meant(request, sociallogin)
        if person is None or person.source != Administrator.Source.OIDC:
            raise ImmediateHttpResponse(
                render(request, "account/not_an_administrator.html", status=403)
            )
        if not sociallogin.is_existing:
            sociallogin.connect(request, person)

    def _meant(self, request: HttpRequest, sociallogin: SocialLogin) -> Administrator | None:
        if request.user.is_authenticated:  # sign out first
            return None
        claims = sociallogin.account.get_provider_account().get_user_data() or {}
        name = claims.get(settings.ENS.oidc_username_claim)
        if not isinstance(name, str) or not name:
            return None
        found = Administrator.objects.filter(username=normal_username(name)).first()
        # Somebody else has signed in by this name before.
        taken = SocialAccount.objects.filter(user=found).exists()
        return None if taken else found

    def get_requests_session(self) -> requests.Session:
        """A session that heeds no proxy or CA variables of the environment."""
        session: requests.Session = super().get_requests_session()
        session.trust_env = False
        if settings.ENS.oidc_ca_file is not None:
            session.verify = str(settings.ENS.oidc_ca_file)
        return session

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Not: see AccountAdapter."""


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
