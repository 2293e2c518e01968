"""The ModelAdmin from which every page of a model comes: scoped, permitted by role, audited."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin import ShowFacets
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from apps.administrators.scope import may, may_somewhere, visible_ogs
from apps.audit.service import changes, record, snapshot
from apps.client_address import client_address
from apps.console.chosen import administrator_of, chosen_og, of_chosen, user_of
from apps.console.stepup import ask, stepped_up
from apps.tenants.models import OrganizationGroup


def audit(
    request: HttpRequest,
    action: str,
    target: object,
    og: OrganizationGroup | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write into the audit log what the visitor does; call it in the change's transaction."""
    record(
        actor=administrator_of(request).username,
        action=action,
        target=str(target),
        og_path=og.path if og is not None else "",
        before=before,
        after=after,
        address=str(client_address(request)),
    )


class ConsoleAdmin(ModelAdmin):
    """Rows of the chosen organization group and below; rights by role; every change audited.

    `og_lookup` leads from the model to its group (`"og"`, `"mailbox__og"`); "" where the model is
    the group itself; None where its rows belong to the whole deployment. A permission None means
    that nobody may do that here. `audit_name` begins the audit log's actions.
    """

    og_lookup: ClassVar[str | None] = "og"
    view_permission: ClassVar[str] = "console.read"
    add_permission: ClassVar[str | None] = "settings.change"
    change_permission: ClassVar[str | None] = "settings.change"
    delete_permission: ClassVar[str | None] = "settings.change"
    audit_name: ClassVar[str] = ""
    # Whether adding, changing and deleting here ask for the password again.
    step_up: ClassVar[bool] = False

    compressed_fields = True
    warn_unsaved_form = True
    list_filter_submit = True
    list_per_page = 50
    show_full_result_count = False
    # Counts beside every filter would be a query over the whole table each.
    show_facets = ShowFacets.NEVER

    # --- whose rows ---------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows of the chosen group's subtree, as far as the visitor may see them."""
        rows: QuerySet[Any] = super().get_queryset(request)
        if self.og_lookup is None:
            return rows if may(user_of(request), self.view_permission, None) else rows.none()
        og = chosen_og(request)
        if og is None or not may(user_of(request), self.view_permission, og):
            return rows.none()
        if not self.og_lookup:
            return rows.filter(path__startswith=og.path)
        return rows.filter(of_chosen(request, self.og_lookup))

    def og_of(self, obj: Any) -> OrganizationGroup | None:
        """The group to which a row belongs."""
        if self.og_lookup is None:
            return None
        for name in filter(None, self.og_lookup.split("__")):
            obj = getattr(obj, name)
        assert isinstance(obj, OrganizationGroup)
        return obj

    def formfield_for_foreignkey(
        self, db_field: models.ForeignKey, request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Groups to choose from are those where the visitor may make the change."""
        if db_field.remote_field.model is OrganizationGroup:
            kwargs["queryset"] = visible_ogs(
                user_of(request), self.change_permission or "console.read"
            )
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    # --- who may ------------------------------------------------------------------------------

    def _may(self, request: HttpRequest, permission: str | None, obj: Any) -> bool:
        if permission is None:
            return False
        if obj is not None:
            return may(user_of(request), permission, self.og_of(obj))
        if self.og_lookup is None:
            return may(user_of(request), permission, None)
        return may_somewhere(user_of(request), permission)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request, self.view_permission, None)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.view_permission, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        if self.add_permission is None or self.og_lookup is None:
            return self._may(request, self.add_permission, None)
        og = chosen_og(request)
        return og is not None and may(user_of(request), self.add_permission, og)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.change_permission, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.delete_permission, obj)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's table, named by what is in it."""
        title = {"title": capfirst(str(self.opts.verbose_name_plural))}
        answer: HttpResponse = super().changelist_view(request, title | (extra_context or {}))
        return answer

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Only what the table's filters ask for.

        Django lets an address ask for any column of the row, `secret_hash__startswith` too.
        """
        name, columns = lookup.split("__")[0], self.opts.concrete_fields
        if name in {each for one in columns for each in (one.name, one.attname)} | {"pk"}:
            filters = self.get_list_filter(request)
            if name not in {_column_of(one) for one in filters}:
                return False
        return bool(super().lookup_allowed(lookup, value, request))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Django's table; a filter with a NUL makes no sense, and PostgreSQL takes none."""
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)

    def filtered(self, request: HttpRequest) -> QuerySet[Any] | None:
        """The rows that the table shows, all pages of it; None when a filter makes no sense."""
        try:
            rows: QuerySet[Any] = self.get_changelist_instance(request).get_queryset(request)
        except (IncorrectLookupParameters, DisallowedModelAdminLookup):
            return None
        return rows

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Django's page for one row, after a step-up where this model wants one."""
        if self.step_up and not stepped_up(request):
            return ask(request)
        answer: HttpResponse = super().changeform_view(request, *args, **kwargs)
        return answer

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Django's page that asks whether to delete, after a step-up as above."""
        if self.step_up and not stepped_up(request):
            return ask(request)
        answer: HttpResponse = super().delete_view(request, *args, **kwargs)
        return answer

    # --- changes ------------------------------------------------------------------------------

    def audit(
        self,
        request: HttpRequest,
        verb: str,
        obj: Any,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        """Write into the audit log what is done to a row."""
        name = self.audit_name or self.opts.model_name
        audit(request, f"{name}.{verb}", obj, self.og_of(obj), before, after)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save a row; a new one belongs to the chosen group."""
        with transaction.atomic():
            old = self.model._default_manager.get(pk=obj.pk) if change else None
            if not change and self.og_lookup == "og" and obj.og_id is None:
                obj.og = chosen_og(request)
            permission = self.change_permission if change else self.add_permission
            if not self._may(request, permission, obj):
                raise PermissionDenied
            self.store(request, obj, form, change)
            before, after = changes(snapshot(old) if old else None, snapshot(obj))
            self.audit(request, "change" if change else "create", obj, before, after)

    def store(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write a row; for models with rules of their own."""
        obj.save()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete a row."""
        with transaction.atomic():
            before = snapshot(obj)
            self.audit(request, "delete", obj, before, None)
            self.remove(request, obj)

    def remove(self, request: HttpRequest, obj: Any) -> None:
        """Delete a row; for models with rules of their own."""
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete rows one by one, so that each is audited."""
        for obj in queryset:
            self.delete_model(request, obj)

    # Django's own log of changes stays empty: it knows neither addresses nor values.
    def log_addition(self, *args: Any) -> None:
        """Nothing: see save_model."""

    def log_change(self, *args: Any) -> None:
        """Nothing: see save_model."""

    def log_deletions(self, *args: Any) -> None:
        """Nothing: see delete_model."""


def _column_of(filter_: Any) -> str:
    """What a filter of a table asks for: a field's name, a pair that begins with one, a class."""
    if isinstance(filter_, str):
        return filter_
    return str(filter_[0] if isinstance(filter_, tuple) else filter_.parameter_name)
