"""Diagnostics: the deployment tested step by step, with plain advice; the way back, to take along.

Who looks after some groups only has their mail systems tested; the deployment itself, and what
Exchange needs of it, is for those who see all.
"""

from __future__ import annotations

import ssl
import time
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from apps.administrators.scope import may
from apps.console.base import audit
from apps.console.chosen import chosen_og, user_of
from apps.console.site import page, refused, show
from apps.diagnosis import registry
from apps.diagnosis.registry import Context, Finding
from apps.operations.checks import webhook
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.wire.errors import WireError

# Each check ends by itself within seconds; after so long no further one is begun.
_BEGIN_WITHIN_S: Final = 40.0
_ALL: Final = "all"
_AREAS: Final = {
    "exchange": "Exchange: name, certificate, EWS, sign-in",
    "webhook": "Our public address, as Exchange and the phones call it",
    "relay": "Cloud Notification Service: signature, version, pin",
    "deployment": "This deployment: database, broker, workers, clock, files",
    "administrators": "Sign-in with the company's directory",
}
_LOOKS: Final = {"ok": "success", "warning": "warning", "failed": "danger", "skipped": ""}


class _Asked(forms.Form):
    area = forms.ChoiceField(label="What to test", widget=UnfoldAdminSelectWidget)
    system = forms.ChoiceField(label="Mail system", required=False, widget=UnfoldAdminSelectWidget)
    address = forms.CharField(
        required=False,
        max_length=320,
        label="Test mailbox: email address",
        help_text="Optional, with its login: ENS then signs in and looks, as for a phone. What you "
        "enter is used once and kept nowhere.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    username = forms.CharField(
        required=False,
        max_length=320,
        label="Test mailbox: user name",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password = forms.CharField(
        required=False,
        max_length=256,
        strip=False,
        label="Test mailbox: password",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, areas: list[str], systems: list[tuple[str, str]], **kw: Any):
        super().__init__(*args, **kw)
        named = [(area, _AREAS.get(area, area.capitalize())) for area in areas]
        self.fields["area"].choices = [(_ALL, "Everything"), *named]  # type: ignore[attr-defined]
        self.fields["system"].choices = [("", "All of them"), *systems]  # type: ignore[attr-defined]


@page("diagnostics/", name="diagnostics", permission="diagnostics.run")
def diagnostics(request: HttpRequest) -> HttpResponse:
    """Choose what to test; the answer to the form shows what was found."""
    og = chosen_og(request)
    if og is None or not may(user_of(request), "diagnostics.run", og):
        return refused(request)
    everything = may(user_of(request), "diagnostics.run", None)
    areas = [area for area in registry.areas() if everything or _is_scoped(area)]
    systems = _systems(og, everything)
    form = _Asked(request.POST or None, areas=areas, systems=systems, initial={"area": _ALL})
    context: dict[str, Any] = {
        "form": form,
        "everything": everything,
        "og": og,
        "import_steps": webhook.IMPORT_STEPS,
    }
    if request.method == "POST" and form.is_valid():
        findings, left = _run(form.cleaned_data, None if everything else (og.path,), areas)
        audit(request, "diagnostics.run", form.cleaned_data["area"], og)
        context |= {
            "findings": findings,
            "left": left,
            "worst": registry.worst([finding for finding, _ in findings]),
        }
    return show(request, "console/diagnostics.html", "Diagnostics", context)


def _is_scoped(area: str) -> bool:
    return any(not one.deployment_wide for one in registry.checks(area))


def _systems(og: OrganizationGroup, everything: bool) -> list[tuple[str, str]]:
    rows = MailSystem.objects.order_by("name")
    if not everything:
        rows = rows.filter(og__path__startswith=og.path)
    return [(str(pk), name) for pk, name in rows.values_list("pk", "name")]


def _run(
    asked: dict[str, Any], og_paths: tuple[str, ...] | None, areas: list[str]
) -> tuple[list[tuple[Finding, list[tuple[str, Any]]]], list[str]]:
    """The findings, each with its steps and their looks; the areas for which no time was left."""
    context = Context(
        og_paths=og_paths,
        mail_system=int(asked["system"]) if asked["system"] else None,
        address=asked["address"],
        username=asked["username"],
        password=asked["password"],
    )
    began = time.monotonic()
    wanted = areas if asked["area"] == _ALL else [asked["area"]]
    found, left = [], []
    for area in wanted:
        if time.monotonic() - began > _BEGIN_WITHIN_S:
            left.append(_AREAS.get(area, area))
            continue
        for finding in registry.run_each(area, context):
            found.append((finding, [(_LOOKS[step.status], step) for step in finding.steps]))
            if time.monotonic() - began > _BEGIN_WITHIN_S:
                break
    return found, left


@page("diagnostics/root-ca/", name="diagnostics_root_ca", permission="diagnostics.run")
def root_ca(request: HttpRequest) -> HttpResponse:
    """The certificate that Exchange must trust, as a file. It is no secret."""
    try:
        found = webhook.root_ca()
    except WireError:
        messages.error(request, "Our own address can't be reached from here; test it first.")
        return redirect("console:diagnostics")
    der = ssl.PEM_cert_to_DER_cert(found.certificate.pem)
    answer = HttpResponse(der, content_type="application/pkix-cert")
    answer.headers["Content-Disposition"] = 'attachment; filename="ens-root.cer"'
    return answer


@page("diagnostics/test-from-exchange/", name="diagnostics_script", permission="diagnostics.run")
def script(request: HttpRequest) -> HttpResponse:
    """A PowerShell script that tests the way from an Exchange server to us. It changes nothing."""
    answer = HttpResponse(webhook.powershell(), content_type="text/plain; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="test-from-exchange.ps1"'
    return answer
