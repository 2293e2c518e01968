"""Administrators: who may sign in, in which roles, and help for who can't get in."""

from __future__ import annotations

from typing import Any, ClassVar

from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from apps.administrators.accounts import (
    AccountRefused,
    link,
    refuse_role,
    reset_second_factor,
    subject_of,
    unlink,
)
from apps.administrators.lockout import unlock
from apps.administrators.models import Administrator, RoleAssignment
from apps.administrators.roles import Role
from apps.administrators.scope import may
from apps.console.base import ConsoleAdmin
from apps.console.chosen import user_of
from apps.console.site import confirm, site
from apps.console.stepup import ask, stepped_up


class _NobodyLeft(Exception):
    """After this change nobody could manage administrators any more."""


class _Person(forms.ModelForm):
    """Names, and a new password for who signs in with one."""

    password1 = forms.CharField(
        label="Password",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="12 characters or more. Leave it empty to keep the one there is.",
    )
    password2 = forms.CharField(
        label="Password, once more",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    subject = forms.CharField(
        label="Identifier at the OpenID provider",
        required=False,
        max_length=191,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="The provider's «sub» for this person. It is shown to them when they try to sign "
        "in and are not known yet.",
    )

    class Meta:
        model = Administrator
        fields = ("username", "display_name", "source", "is_active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        source: Any = self.fields["source"]
        if self.instance.source == Administrator.Source.LDAP:
            source.disabled = True
            source.help_text = "Roles are given by the directory's groups (ENS_LDAP_GROUPS)."
        else:  # such accounts are made by the directory alone
            source.choices = [one for one in source.choices if one[0] != Administrator.Source.LDAP]
        if self.instance.pk:
            self.fields["subject"].initial = subject_of(self.instance)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        first, second = cleaned.get("password1"), cleaned.get("password2")
        if first != second:
            self.add_error("password2", "The two are not the same.")
        elif first:
            try:
                names = {name: cleaned.get(name, "") for name in ("username", "display_name")}
                validate_password(first, Administrator(**names))
            except forms.ValidationError as error:
                self.add_error("password1", error)
        elif self.instance.pk is None and cleaned.get("source") == Administrator.Source.LOCAL:
            self.add_error("password1", "A new administrator needs a password.")
        return cleaned


class _Role(forms.ModelForm):
    """A role and where it holds."""

    # Without an empty choice each new line would begin as a system administrator.
    role = forms.ChoiceField(
        choices=[("", "Select a role"), *Role.choices], widget=UnfoldAdminSelectWidget
    )

    class Meta:
        model = RoleAssignment
        fields = ("role", "og")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The heads of the table's columns are no labels to a screen reader.
        for name, words in (("role", "Role"), ("og", "Organization group")):
            widget: Any = self.fields[name].widget
            getattr(widget, "widget", widget).attrs["aria-label"] = words

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        try:
            refuse_role(cleaned.get("role", ""), cleaned.get("og"))
        except AccountRefused as error:
            self.add_error("og", f"{str(error).capitalize()}.")
        return cleaned


class _Roles(TabularInline):
    model = RoleAssignment
    form = _Role
    extra = 1
    verbose_name_plural = "Roles"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(user_of(request), "administrators.manage", None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # What the directory gives it would give again.
        given = obj is not None and obj.source == Administrator.Source.LDAP
        return not given and self.has_view_permission(request, obj)

    has_add_permission = has_delete_permission = has_change_permission


@admin.register(Administrator, site=site)
class AdministratorAdmin(ConsoleAdmin):
    """For system administrators alone."""

    og_lookup = None
    view_permission = add_permission = change_permission = "administrators.manage"
    # Who has gone may no longer sign in; their name stays, for the audit log tells of it.
    delete_permission = None
    step_up = True

    form = _Person
    inlines: ClassVar = [_Roles]
    list_display = ("username", "display_name", "roles", "second_factor", "active", "last_login")
    search_fields = ("username", "display_name")
    fields = (
        *("username", "display_name", "source", "subject"),
        *("password1", "password2", "is_active"),
    )
    actions_detail: ClassVar = ["forget_second_factor", "lift_lock"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        factor = Authenticator.objects.filter(user=OuterRef("pk"), type=Authenticator.Type.TOTP)
        people: QuerySet[Any] = rows.annotate(has_factor=Exists(factor))
        return people.prefetch_related("assignments__og")

    @display(description="Roles")
    def roles(self, obj: Administrator) -> str:
        return "; ".join(
            f"{one.get_role_display()}{f' ({one.og})' if one.og else ''}"
            for one in obj.assignments.all()
        )

    @display(description="Second factor", label={"On": "success"})
    def second_factor(self, obj: Any) -> str:
        return "On" if obj.has_factor else "Off"

    @display(description="May sign in", boolean=True)
    def active(self, obj: Administrator) -> bool:
        return obj.is_active

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except _NobodyLeft:
            messages.error(
                request, "Nothing was changed: at least one system administrator must remain."
            )
            return redirect(request.path)

    def store(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if obj.source != Administrator.Source.LOCAL:
            if is_password_usable(obj.password):  # a new one would end their sessions
                obj.set_unusable_password()
        elif form.cleaned_data.get("password1"):
            obj.set_password(form.cleaned_data["password1"])
        obj.save()
        self._link(request, obj, form.cleaned_data.get("subject", "").strip())

    def _link(self, request: HttpRequest, person: Administrator, subject: str) -> None:
        """Tie somebody to the OpenID provider; who signs in otherwise is tied to none."""
        oidc = person.source == Administrator.Source.OIDC
        if subject == subject_of(person) and oidc:
            return
        try:
            if oidc:
                link(person, subject)
                self.audit(request, "link", person, None, {"linked": bool(subject)})
            else:
                unlink(person)
        except AccountRefused as error:
            messages.error(request, f"The identifier was not taken: {error}.")

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        person = form.instance
        before = _roles_of(person)
        super().save_related(request, form, formsets, change)
        after = _roles_of(person)
        if before != after:
            self.audit(request, "roles", person, {"roles": before}, {"roles": after})
        chiefs = RoleAssignment.objects.filter(
            role=Role.SYSTEM_ADMINISTRATOR, og=None, administrator__is_active=True
        ).exclude(administrator__source=Administrator.Source.LDAP)  # which may be away
        if not chiefs.exists():
            raise _NobodyLeft

    @action(description="Forget the second factor", url_path="forget-second-factor")
    def forget_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """For who has lost phone and recovery codes."""
        question = "{} will sign in with the password alone until a new second factor is set up."
        return self._help(request, object_id, question, "forget_factor", reset_second_factor)

    @action(description="Lift the lock", url_path="lift-lock")
    def lift_lock(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """For who has typed the wrong password too often."""
        question = "{} may try to sign in again at once."
        return self._help(request, object_id, question, "unlock", lambda one: unlock(one.username))

    def _help(
        self, request: HttpRequest, object_id: str, question: str, verb: str, do: Any
    ) -> HttpResponse:
        person = self.get_object(request, object_id)
        if person is None or not self.has_change_permission(request, person):
            return redirect("console:index")
        if not stepped_up(request):
            return ask(request)
        back = reverse("console:administrators_administrator_change", args=[object_id])
        if request.method != "POST":
            return confirm(request, "Are you sure?", question.format(person), back)
        with transaction.atomic():
            do(person)
            self.audit(request, verb, person)
        messages.success(request, "Done.")
        return redirect(back)


def _roles_of(person: Administrator) -> list[str]:
    rows = RoleAssignment.objects.filter(administrator=person).select_related("og")
    return sorted(str(row) for row in rows)
