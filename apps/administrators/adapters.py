"""How allauth signs in here: no sign-up, no mails, secrets of second factors in the vault."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

import requests
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import render

from apps.administrators.models import Administrator
from apps.administrators.second_factor import is_required
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

    Nobody is made an administrator by it, and no name opens an account: names are given to others
    in time, and some providers let people change their own. An administrator ties an account to
    the provider's `sub` (accounts.link); who is not known is shown theirs, to hand it on.
    """

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Never."""
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Let in whom an administrator has tied to this `sub` of this issuer; nobody else."""
        stranger = not sociallogin.is_existing
        if stranger or request.user.is_authenticated or not _is_tied(sociallogin):
            subject = sociallogin.account.uid if stranger else ""
            page = "account/not_an_administrator.html"
            raise ImmediateHttpResponse(render(request, page, {"subject": subject}, status=403))

    def get_requests_session(self) -> requests.Session:
        """A session that heeds no proxy or CA variables of the environment."""
        session: requests.Session = super().get_requests_session()
        session.trust_env = False
        if settings.ENS.oidc_ca_file is not None:
            session.verify = str(settings.ENS.oidc_ca_file)
        return session

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Not: see AccountAdapter."""


def _is_tied(sociallogin: SocialLogin) -> bool:
    # As it is stored: what allauth has in hand are the claims of this moment.
    stored = SocialAccount.objects.filter(pk=sociallogin.account.pk).values("extra_data").first()
    issuer = (stored or {}).get("extra_data", {}).get("issuer")
    person = sociallogin.user
    return bool(person.source == Administrator.Source.OIDC and issuer == settings.ENS.oidc_issuer)


class SecondFactorAdapter(DefaultMFAAdapter):
    """What makes codes is wrapped by the vault; who must have a second factor keeps it."""

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """Whether somebody may turn their second factor off."""
        return not is_required(authenticator.user)

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
