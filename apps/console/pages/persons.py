"""What is held about one person: as a file, or forgotten. The address is asked by POST only."""

from __future__ import annotations

import json

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import UnfoldAdminEmailInputWidget

from apps.administrators.scope import may_somewhere, permitted_paths
from apps.client_address import client_address
from apps.console.chosen import administrator_of, user_of
from apps.console.site import page, refused, show
from apps.console.stepup import ask, stepped_up
from apps.operations import persons
from apps.operations.device_actions import By


class _Person(forms.Form):
    address = forms.EmailField(
        max_length=320,
        label="Email address",
        help_text="ENS keeps addresses as HMACs only, so a person is found by the whole address.",
        widget=UnfoldAdminEmailInputWidget(attrs={"autocomplete": "off"}),
    )


def _by(request: HttpRequest, permission: str) -> By:
    paths = permitted_paths(user_of(request), permission)
    return By(
        administrator_of(request).username,
        str(client_address(request)),
        None if paths is None else tuple(paths),
    )


@page("persons/", name="persons", permission="devices.export")
def person(request: HttpRequest) -> HttpResponse:
    """Ask for an address; then hand out a file, or forget. Both are audited without it."""
    may_forget = may_somewhere(user_of(request), "groups.manage")
    form = _Person(request.POST or None)
    if request.method == "POST":
        what = request.POST.get("what", "")
        if what == "forget" and not may_forget:
            return refused(request)
        if what == "forget" and not stepped_up(request):
            return ask(request)
        if form.is_valid() and what == "export":
            return _export(request, form.cleaned_data["address"])
        if form.is_valid() and what == "forget":
            return _forget(request, form.cleaned_data["address"])
    context = {"form": form, "may_forget": may_forget}
    return show(request, "console/person.html", "A person's data", context)


def _export(request: HttpRequest, address: str) -> HttpResponse:
    found = persons.held(address, _by(request, "devices.export"))
    answer = HttpResponse(
        json.dumps(found, indent=2, ensure_ascii=True), content_type="application/json"
    )
    answer.headers["Content-Disposition"] = 'attachment; filename="person.json"'
    return answer


def _forget(request: HttpRequest, address: str) -> HttpResponse:
    if request.POST.get("sure") != "on":
        messages.error(request, "Nothing was forgotten: tick that you are sure.")
        return redirect("console:persons")
    counts = persons.forget(address, _by(request, "groups.manage"))
    if counts["mailboxes"]:
        told = ", ".join(f"{name}: {n}" for name, n in counts.items())
        messages.success(request, f"Forgotten. {told}.")
    else:
        messages.warning(request, "Nothing is held about this address.")
    return redirect("console:persons")
