"""Admin API tokens: what programs such as a UEM call the admin API with."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from apps.administrators.api_tokens import SCOPES, TokenRefused, issue, revoke
from apps.administrators.models import AdminApiToken
from apps.administrators.roles import PERMISSIONS
from apps.administrators.scope import may, may_somewhere
from apps.console.base import ConsoleAdmin
from apps.console.chosen import administrator_of, chosen_og, user_of
from apps.console.site import confirm, show, site
from apps.console.stepup import step_up_required
from apps.console.tokens import LIVES, TokenState, good_until, shown_once


class _NewToken(forms.Form):
    label = forms.CharField(
        max_length=200,
        label="Label",
        help_text="What calls with it, such as “UEM compliance”.",
        widget=UnfoldAdminTextInputWidget,
    )
    scopes = forms.MultipleChoiceField(
        label="It may",
        choices=[(name, PERMISSIONS.get(name, name)) for name in SCOPES],
        help_text="As far as you yourself may, in the chosen organization group and below.",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    days = forms.ChoiceField(
        choices=LIVES, required=False, label="Good for", widget=UnfoldAdminSelectWidget
    )


@admin.register(AdminApiToken, site=site)
class AdminApiTokenAdmin(TokenState, ConsoleAdmin):
    """The visitor's own tokens; those of all for who manages administrators."""

    add_permission = "console.read"
    change_permission = None
    delete_permission = None
    audit_name = "admin_api_token"

    list_display = ("label", "owner", "og", "condition", "expires_at", "last_used_at")
    search_fields = ("label",)
    ordering = ("-created_at",)
    list_select_related = ("og", "owner")
    fields: ClassVar = (
        *("label", "owner", "og", "may_do", "condition"),
        *("created_at", "expires_at", "revoked_at", "last_used_at"),
    )
    readonly_fields = fields
    actions = None
    change_form_outer_before_template = "console/admin_token_actions.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Not by group alone: a token shows what its owner has set up."""
        rows: QuerySet[Any] = self.model._default_manager.get_queryset()
        user = user_of(request)
        if may(user, "administrators.manage", None):
            return rows
        if not may_somewhere(user, "console.read"):
            return rows.none()
        return rows.filter(owner=administrator_of(request))

    def _may(self, request: HttpRequest, permission: str | None, obj: Any) -> bool:
        # The rows are one's own (get_queryset), or everything is.
        return permission is not None and may_somewhere(user_of(request), permission)

    @display(description="It may")
    def may_do(self, obj: AdminApiToken) -> str:
        return "; ".join(PERMISSIONS.get(name, name) for name in obj.scopes)

    def get_urls(self) -> list[URLPattern]:
        """Revocation, with a page that asks first."""
        view = self.admin_site.admin_view(self.revoke_view)
        own = path("<path:object_id>/revoke/", view, name="administrators_adminapitoken_revoke")
        return [own, *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Make a token in the chosen group, and show it this once."""
        return step_up_required(self._add)(request)

    def _add(self, request: HttpRequest) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        og = chosen_og(request)
        assert og is not None
        form = _NewToken(request.POST or None)
        if request.method == "POST" and form.is_valid():
            until = good_until(form.cleaned_data["days"])
            asked = form.cleaned_data
            try:
                with transaction.atomic():
                    made, token = issue(
                        administrator_of(request), og, asked["label"], asked["scopes"], until
                    )
                    after = {"label": made.label, "scopes": made.scopes, "expires_at": until}
                    self.audit(request, "create", made, None, after)
            except TokenRefused as refused:
                form.add_error(None, f"Not possible: {refused}.")
            else:
                return shown_once(
                    request,
                    made,
                    token,
                    title="Your new admin API token",
                    words="It goes into the Authorization header as Bearer token.",
                    file="ens-admin-api-token.txt",
                    back=reverse("console:administrators_adminapitoken_changelist"),
                )
        context = {
            "form": form,
            "words": f"For {og.name} and the groups below it. It is shown once.",
            "button": "Create token",
            "back": reverse("console:administrators_adminapitoken_changelist"),
        }
        return show(request, "console/form.html", "New admin API token", context)

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke a token at once."""
        token = self.get_object(request, object_id)
        if token is None:
            raise Http404
        page = reverse("console:administrators_adminapitoken_change", args=[token.pk])
        if request.method != "POST":
            question = "Whatever calls the admin API with it is refused from then on."
            return confirm(request, f"Revoke “{token}”?", question, page)
        with transaction.atomic():
            if revoke(token):
                self.audit(request, "revoke", token)
        messages.success(request, f"“{token}” is revoked.")
        return redirect(page)
