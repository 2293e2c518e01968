"""Download Configuration: `config.xml` under a password, for an installer or a further server."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from apps.administrators.scope import may
from apps.console.chosen import chosen_og, user_of
from apps.console.pages.cns import by
from apps.console.site import page, show
from apps.console.stepup import step_up_required
from apps.operations import config_export, config_xml, password_key


class _Password(forms.Form):
    """Typed twice; it is kept nowhere."""

    password = forms.CharField(
        max_length=200,
        strip=False,
        label="Password of the file",
        help_text=f"At least {password_key.PASSWORD_LENGTH} characters. Whoever installs with the "
        "file is asked for it; tell them by another way than the file.",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        max_length=200,
        strip=False,
        label="Once more",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )
    with_master_key = forms.BooleanField(
        required=False,
        label="For a further server of this deployment",
        help_text="The file then holds the master key, which opens everything that is sealed "
        "here. Only a system administrator may take it out.",
        widget=UnfoldBooleanSwitchWidget,
    )

    def __init__(self, og_name: str, data: Any = None) -> None:
        super().__init__(data)
        self._og_name = og_name

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if not {"password", "again"} <= set(found):
            return found
        if found["password"] != found["again"]:
            self.add_error("again", "The two are not the same.")
            return found
        try:
            config_xml.check_password(found["password"], self._og_name)
        except config_xml.ConfigRefused as weak:
            self.add_error("password", str(weak))
        return found


@page("download-configuration/", name="download_configuration", permission="config.download")
@step_up_required
def download_configuration(request: HttpRequest) -> HttpResponse:
    """The form; by POST, the file."""
    og = chosen_og(request)
    if og is None:
        return redirect("console:index")
    if not may(user_of(request), "config.download", og):
        raise PermissionDenied
    form = _Password(og.name, request.POST or None)
    answers_for_all = may(user_of(request), "system.change", None)
    if not answers_for_all:
        del form.fields["with_master_key"]
    if request.method == "POST" and form.is_valid():
        try:
            made = config_export.export(
                og,
                form.cleaned_data["password"],
                by(request),
                with_master_key=form.cleaned_data.get("with_master_key", False),
                register=answers_for_all,
            )
        except config_xml.ConfigRefused as refused:
            form.add_error(None, str(refused))
        else:
            answer = HttpResponse(made.xml, content_type="application/xml")
            answer.headers["Content-Disposition"] = 'attachment; filename="config.xml"'
            return answer
    context = {
        "form": form,
        "words": f"The file names {og.name}, the CNS with its pins, and a secure channel key made "
        "for it, which can be revoked under Secure Channel Certificate. "
        + (
            ""
            if answers_for_all
            else "A system administrator has to register its certificate at the relay. "
        )
        + "Every download is in the audit log.",
        "button": "Download config.xml",
        "back": reverse("console:index"),
    }
    return show(request, "console/form.html", "Download configuration", context)
