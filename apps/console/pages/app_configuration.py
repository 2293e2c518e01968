"""What to type into the mail app's managed configuration, and the same as ready files.

Apple: https://developer.apple.com/documentation/devicemanagement/settings (managed app
configuration is a property list); Android: a managed configuration is a JSON object in Google's
Android Management API (`applications[].managedConfiguration`).
"""

from __future__ import annotations

import json
import plistlib
from contextlib import suppress
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.administrators.scope import may
from apps.console.base import audit
from apps.console.chosen import chosen_og, user_of
from apps.console.site import page, show
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.mail_systems import mail_system_for
from apps.tenants.models import OrganizationGroup
from apps.tenants.tokens import authenticate

_FILES: Final = {
    "plist": ("ens-app-configuration.plist", "application/x-plist"),
    "json": ("ens-managed-configuration.json", "application/json"),
}


class _Token(forms.Form):
    """The token goes into the file and nowhere else."""

    token = forms.CharField(
        max_length=200,
        label="ENSAPIToken",
        help_text="Paste a token of this group. It is written into the file and not kept.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, og: OrganizationGroup, data: Any = None) -> None:
        super().__init__(data)
        self._og = og

    def clean_token(self) -> str:
        token = str(self.cleaned_data["token"]).strip()
        named = authenticate(token)
        if named is None:
            raise forms.ValidationError("No such token, or it has expired or been revoked.")
        if named.pk != self._og.pk:
            raise forms.ValidationError("This token belongs to another organization group.")
        return token


@page("app-configuration/", name="app_configuration", permission="config.download")
def app_configuration(request: HttpRequest) -> HttpResponse:
    """The values of the chosen group; by POST, a file with them."""
    og = chosen_og(request)
    if og is None:
        return redirect("console:index")
    if not may(user_of(request), "config.download", og):
        raise PermissionDenied
    form = _Token(og, request.POST or None)
    kind = request.POST.get("file", "")
    if request.method == "POST" and kind in _FILES and form.is_valid():
        audit(request, "app_configuration.download", og, og, None, {"file": _FILES[kind][0]})
        return _file(kind, values(og) | {"ENSAPIToken": form.cleaned_data["token"]})
    context = {"og": og, "form": form, "values": values(og)}
    return show(request, "console/app_configuration.html", "App configuration", context)


def values(og: OrganizationGroup) -> dict[str, Any]:
    """The keys of the mail app's managed configuration, without the token.

    `EWSUrl` is left out where no mail system of the group has an address of its own: Autodiscover
    then finds it.
    """
    found: dict[str, Any] = {
        "ENSLinkAddress": settings.ENS.link_address,
        "AccountNotifyPush": True,
    }
    with suppress(EwsUrlRefused):
        default = mail_system_for(og, None, "")[1]
        found |= {"EWSUrl": default} if default else {}
    return found


def _file(kind: str, content: dict[str, Any]) -> HttpResponse:
    name, media_type = _FILES[kind]
    body = (
        plistlib.dumps(content)
        if kind == "plist"
        else json.dumps(content, indent=2).encode() + b"\n"
    )
    answer = HttpResponse(body, content_type=media_type)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
