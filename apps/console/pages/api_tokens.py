"""API tokens: made (and shown once), rotated with an overlap, revoked; never deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.administrators.scope import may
from apps.console.base import ConsoleAdmin
from apps.console.chosen import chosen_og, user_of
from apps.console.site import confirm, show, site
from apps.console.tokens import LIVES, TokenState, good_until, shown_once
from apps.tenants.models import ApiToken
from apps.tenants.tokens import make_token, revoke, rotate_token

_OVERLAPS: Final = [("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("0", "None: at once")]


class _NewToken(forms.Form):
    label = forms.CharField(
        max_length=200,
        label="Label",
        help_text="What it is for, such as “Phones in Berlin”. Only administrators see it.",
        widget=UnfoldAdminTextInputWidget,
    )
    days = forms.ChoiceField(
        choices=LIVES, required=False, label="Good for", widget=UnfoldAdminSelectWidget
    )


class _Rotation(forms.Form):
    overlap = forms.ChoiceField(
        choices=_OVERLAPS,
        initial="7",
        label="The old token keeps working for",
        help_text="Give the phones' configuration time to reach them all.",
        widget=UnfoldAdminSelectWidget,
    )


@admin.register(ApiToken, site=site)
class ApiTokenAdmin(TokenState, ConsoleAdmin):
    """The tokens of the chosen group and below; a token itself shows on its first page only."""

    add_permission = "tokens.manage"
    change_permission = None
    delete_permission = None
    audit_name = "api_token"

    list_display = ("label", "og", "condition", "created_at", "expires_at", "last_used_at")
    list_filter: ClassVar = ["revoked_at", "expires_at"]
    search_fields = ("label",)
    ordering = ("-created_at",)
    list_select_related = ("og",)
    fields = ("label", "og", "condition", "created_at", "expires_at", "revoked_at", "last_used_at")
    readonly_fields = fields
    actions = None
    change_form_outer_before_template = "console/token_actions.html"

    def get_urls(self) -> list[URLPattern]:
        """Rotation and revocation, each with a page that asks first."""
        own = [
            path(
                "<path:object_id>/rotate/",
                self.admin_site.admin_view(self.rotate_view),
                name="tenants_apitoken_rotate",
            ),
            path(
                "<path:object_id>/revoke/",
                self.admin_site.admin_view(self.revoke_view),
                name="tenants_apitoken_revoke",
            ),
        ]
        return own + list(super().get_urls())

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Make a token in the chosen group, and show it this once."""
        og = chosen_og(request)
        if og is None or not self.has_add_permission(request):
            raise PermissionDenied
        form = _NewToken(request.POST or None)
        if request.method == "POST" and form.is_valid():
            until = good_until(form.cleaned_data["days"])
            try:
                with transaction.atomic():
                    made, token = make_token(og, form.cleaned_data["label"], until)
                    after = {"label": made.label, "expires_at": until}
                    self.audit(request, "create", made, None, after)
            except ValueError as error:
                form.add_error("label", f"{str(error).capitalize()}.")
            else:
                return self._shown_once(request, made, token)
        context = {
            "form": form,
            "words": f"The token names the organization group {og.name}. It is shown once.",
            "button": "Create token",
            "back": reverse("console:tenants_apitoken_changelist"),
        }
        return show(request, "console/form.html", "New API token", context)

    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make the successor of a token."""
        old = self._token(request, object_id)
        form = _Rotation(request.POST or None)
        if request.method == "POST" and form.is_valid():
            overlap = timedelta(days=int(form.cleaned_data["overlap"]))
            try:
                with transaction.atomic():
                    made, token = rotate_token(old, overlap)
                    self.audit(request, "rotate", old, None, {"overlap_days": overlap.days})
            except ValueError:
                messages.error(request, "This token is no longer good: make a new one.")
                return redirect("console:tenants_apitoken_change", old.pk)
            return self._shown_once(request, made, token)
        context = {
            "form": form,
            "words": "A new token with the same label takes its place. It is shown once.",
            "button": "Rotate token",
            "back": reverse("console:tenants_apitoken_change", args=[old.pk]),
        }
        return show(request, "console/form.html", f"Rotate “{old}”", context)

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke a token at once."""
        token = self._token(request, object_id)
        page = reverse("console:tenants_apitoken_change", args=[token.pk])
        if request.method != "POST":
            question = (
                "Phones that have this token can't subscribe any more. Those that are subscribed "
                "already go on: block a device to silence it."
            )
            return confirm(request, f"Revoke “{token}”?", question, page, "Revoke token")
        with transaction.atomic():
            if revoke(token):
                self.audit(request, "revoke", token)
        messages.success(request, f"“{token}” is revoked.")
        return redirect(page)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """A token's page; its buttons stand there for those who may use them."""
        obj = self.get_object(request, object_id) if object_id else None
        manageable = (
            obj is not None
            and self.condition(obj) == "Valid"
            and may(user_of(request), "tokens.manage", obj.og)
        )
        answer: HttpResponse = super().changeform_view(
            request, object_id, form_url, {**(extra_context or {}), "manageable": manageable}
        )
        return answer

    def _token(self, request: HttpRequest, object_id: str) -> ApiToken:
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404
        if not may(user_of(request), "tokens.manage", found.og):
            raise PermissionDenied
        assert isinstance(found, ApiToken)
        return found

    def _shown_once(self, request: HttpRequest, made: ApiToken, token: str) -> HttpResponse:
        return shown_once(
            request,
            made,
            token,
            title="Your new API token",
            words="It belongs into the mail app's configuration as ENSAPIToken.",
            file="ENSAPIToken.txt",
            back=reverse("console:tenants_apitoken_changelist"),
        )
