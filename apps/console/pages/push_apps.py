"""Push apps: with which certificates and keys the relay beside us speaks to Apple and Google.

Only where the relay role runs (pages/__init__.py): elsewhere its tables are not there.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.console.base import audit
from apps.console.site import confirm, page, show
from apps.console.stepup import step_up_required
from apps.relay.batch import APPS
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import CredentialsUnfit
from apps.relay.push_apps import store
from apps.relay.uploads import WORDS, Upload, check_upload

_MAX_FILE: Final = 64 * 1024
# By what an administrator chooses: the upload's kind, its platform, and through whom it goes.
_KINDS: Final = {
    "certificate": ("certificate", "apns", "apns"),
    "key": ("key", "apns", "apns"),
    "service_account": ("service_account", "fcm", "fcm"),
    "sns_apns": ("sns", "apns", "sns"),
    "sns_fcm": ("sns", "fcm", "sns"),
}
_CHOICES: Final = [
    ("key", "iOS: Apple's key (.p8)"),
    ("certificate", "iOS: Apple's push certificate (.p12)"),
    ("service_account", "Android: Google's service account (JSON)"),
    ("sns_apns", "iOS through Amazon SNS (JSON)"),
    ("sns_fcm", "Android through Amazon SNS (JSON)"),
]


class _App(forms.Form):
    """An app with the file that Apple, Google or Amazon handed out; checked before it is kept."""

    kind = forms.ChoiceField(choices=_CHOICES, label="Kind", widget=UnfoldAdminSelectWidget)
    app = forms.CharField(
        max_length=155,
        label="App",
        help_text="The bundle id or package name, such as com.example.mail. If there is one of "
        "this name, its credentials are replaced; no phone has to do anything.",
        widget=UnfoldAdminTextInputWidget(attrs={"spellcheck": "false"}),
    )
    file = forms.FileField(label="File", max_length=200, widget=UnfoldAdminFileFieldWidget)
    password = forms.CharField(
        required=False,
        max_length=200,
        strip=False,
        label="Password of the .p12",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
    )
    key_id = forms.CharField(
        required=False,
        max_length=10,
        label="Key id",
        help_text="With a .p8: 10 characters; they stand in the file's name.",
        widget=UnfoldAdminTextInputWidget,
    )
    team_id = forms.CharField(
        required=False,
        max_length=10,
        label="Team id",
        help_text="With a .p8: 10 characters, under Membership in Apple's developer account.",
        widget=UnfoldAdminTextInputWidget,
    )
    sandbox = forms.BooleanField(
        required=False,
        label="Sandbox",
        help_text="For development builds. Apps from the App Store and from a UEM need production.",
        widget=UnfoldBooleanSwitchWidget,
    )
    deployments = forms.MultipleChoiceField(
        required=False,
        label="Shared with",
        help_text="The deployments that may push to it.",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    def __init__(self, data: Any = None, files: Any = None) -> None:
        super().__init__(data, files)
        known = Deployment.objects.filter(revoked_at=None).order_by("name")
        choices = [(str(pk), name) for pk, name in known.values_list("pk", "name")]
        field = self.fields["deployments"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = choices
        field.initial = [pk for pk, _ in choices]

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if not {"kind", "app", "file"} <= set(found):
            return found
        kind, platform, _ = _KINDS[found["kind"]]
        if not APPS[platform].fullmatch(found["app"]):
            self.add_error("app", "A bundle id or package name, such as com.example.mail.")
        elif found["file"].size > _MAX_FILE:
            self.add_error("file", "Larger than any file of that kind.")
        else:
            self._check(kind, platform, found)
        return found

    def _check(self, kind: str, platform: str, found: dict[str, Any]) -> None:
        upload = Upload(
            kind=kind,
            app=found["app"],
            file=found["file"].read(),
            password=found.get("password", ""),
            key_id=found.get("key_id", ""),
            team_id=found.get("team_id", ""),
            sandbox=found.get("sandbox", False),
            platform=platform,
        )
        try:
            found["checked"] = check_upload(upload)
        except CredentialsUnfit as unfit:
            words = WORDS.get(unfit.code, unfit.code)
            self.add_error("file", f"{words[:1].upper()}{words[1:]}.")


@page("push-apps/", name="push_apps", permission="system.change")
def push_apps(request: HttpRequest) -> HttpResponse:
    """The apps, their credentials' ends and troubles, and who may push to them."""
    apps = PushApp.objects.prefetch_related("deployments").order_by("platform", "app")
    return show(request, "console/push_apps.html", "Push apps", {"apps": apps})


@page("push-apps/add/", name="push_apps_add", permission="system.change")
@step_up_required
def add(request: HttpRequest) -> HttpResponse:
    """Add an app, or replace its credentials."""
    form = _App(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        asked = form.cleaned_data
        _, platform, provider = _KINDS[asked["kind"]]
        with transaction.atomic():
            app = store(
                platform, asked["app"], provider, asked["checked"], sandbox=asked["sandbox"]
            )
            app.deployments.set(Deployment.objects.filter(pk__in=asked["deployments"]))
            after = {"provider": provider, "sandbox": asked["sandbox"], **app.summary}
            audit(request, "push_app.store", app, None, None, after)
        messages.success(request, f"{app.app} can be pushed to.")
        return redirect("console:push_apps")
    context = {
        "form": form,
        "multipart": True,
        "words": "The file is checked, sealed under the master key and never shown again.",
        "button": "Save",
        "back": reverse("console:push_apps"),
    }
    return show(request, "console/form.html", "Push app", context)


@page("push-apps/<int:app_id>/remove/", name="push_apps_remove", permission="system.change")
@step_up_required
def remove(request: HttpRequest, app_id: int) -> HttpResponse:
    """Forget an app and its credentials."""
    app = PushApp.objects.filter(pk=app_id).first()
    if app is None:
        raise Http404
    if request.method != "POST":
        question = "No phone with this app is reached any more, until it is added again."
        return confirm(request, f"Remove {app.app}?", question, reverse("console:push_apps"))
    with transaction.atomic():
        audit(request, "push_app.remove", app, None, app.shown, None)
        app.delete()
    messages.success(request, "The app and its credentials are gone.")
    return redirect("console:push_apps")
