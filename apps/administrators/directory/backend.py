"""The last of Django's authentication backends: the company's directory."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from apps.administrators.directory import ask, people
from apps.administrators.models import Administrator, normal_username

_AWAY: Final = "The company's directory does not answer. Try again later."


class DirectoryBackend(ModelBackend):
    """Signs in who has an account in the directory and is in one of the groups that count."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Administrator | None:
        """The administrator of this name and password; None if there is none.

        Raises:
            ValidationError: the directory is away. The form shows it, and nothing is counted
                against a name whose password nobody could check.
        """
        if not username or not password or "\0" in username + password:
            return None
        if not ask.is_configured() or not people.may_ask_for(username):
            return None
        try:
            answer = ask.sign_in(username.strip(), password)
        except ask.DirectoryAway:
            raise ValidationError(_AWAY) from None
        # Directories are lax about accents and blanks; the lockout counts names as they are typed.
        if answer.outcome != "found" or normal_username(answer.name) != normal_username(username):
            return None
        person = people.welcome(answer)
        return person if person is not None and self.user_can_authenticate(person) else None
