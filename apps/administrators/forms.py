"""allauth's forms in the console's clothes, with the lockout asked at every code."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import ChangePasswordForm, LoginForm, ReauthenticateForm
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as CodeReauthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from django import forms
from unfold.widgets import CHECKBOX_CLASSES, INPUT_CLASSES

from apps.administrators.lockout import is_locked
from apps.administrators.second_factor import use_once


def dress(form: forms.BaseForm) -> None:
    """Give the form's fields the look of the console."""
    for field in form.fields.values():
        box = isinstance(field.widget, forms.CheckboxInput)
        field.widget.attrs["class"] = " ".join(CHECKBOX_CLASSES if box else INPUT_CLASSES)
        field.widget.attrs.pop("placeholder", None)


class SignInForm(LoginForm):
    """User name and password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)
        self.fields["login"].label = "User name"
        self.fields["password"].help_text = ""


class StepUpForm(ReauthenticateForm):
    """The password once more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)


class PasswordForm(ChangePasswordForm):
    """The old password, and the new one twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)


class _Codes:
    """A field for a code that fits a phone's keyboard, refused while the name is locked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        form: Any = self
        dress(form)
        form.fields["code"].widget.attrs |= {"autofocus": True, "autocomplete": "one-time-code"}

    def clean_code(self) -> str:
        form: Any = self
        if is_locked(context.request, form.user.get_username()):
            raise forms.ValidationError("Too many wrong codes. Try again later.")
        code = str(super().clean_code())  # type: ignore[misc]
        if not use_once(form.user, code):
            raise forms.ValidationError("Incorrect code.")
        return code


class CodeForm(_Codes, AuthenticateForm):
    """The second factor at sign-in: a code of the app, or a recovery code."""


class CodeAgainForm(_Codes, CodeReauthenticateForm):
    """The same for a step-up."""


class ActivateForm(ActivateTOTPForm):
    """The first code of an app that has just read the QR code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)
        self.fields["code"].label = "Code that the app shows"
        self.fields["code"].widget.attrs |= {"autocomplete": "off", "inputmode": "numeric"}

    def clean_code(self) -> str:
        code = str(super().clean_code())
        if not use_once(self.user, code):
            raise forms.ValidationError("Incorrect code.")
        return code
