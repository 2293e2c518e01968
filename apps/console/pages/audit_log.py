"""The audit log: who did what, when and from where. To read, to search and to export."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateFilter, TextFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from apps.administrators.scope import permitted_paths
from apps.audit import service
from apps.audit.export import entries_as_csv
from apps.audit.models import AuditEntry
from apps.console import tables
from apps.console.base import ConsoleAdmin, audit
from apps.console.chosen import chosen_og, user_of
from apps.console.site import refused, site
from apps.tenants.models import OrganizationGroup

# Columns of a group that say where it stands in the tree, to the tree alone.
_TREE: Final = ("path", "depth", "numchild")


class _Begins(TextFilter):
    """By how a column begins, which an index answers."""

    column = ""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = (self.value() or "").strip()[:200]
        return queryset.filter(**{f"{self.column}__startswith": value}) if value else queryset


class _Actor(_Begins):
    title, parameter_name, column = "actor", "by", "actor"


class _Action(_Begins):
    title, parameter_name, column = "action", "did", "action"


class _Days(RangeDateFilter):
    """From one day to another, both included, in UTC. The library's ends where the last begins."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "day"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        for name, lookup, days in (("at_from", "at__gte", 0), ("at_to", "at__lt", 1)):
            value = self.used_parameters.get(name)
            if value:
                try:
                    day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
                    queryset = queryset.filter(**{lookup: day + timedelta(days=days)})
                except (ValueError, OverflowError):
                    return queryset.none()
        return queryset


@admin.register(AuditEntry, site=site)
class AuditAdmin(ConsoleAdmin):
    """What concerns the chosen group and those below; who sees all sees the deployment's, too."""

    view_permission = "audit.read"
    add_permission = change_permission = delete_permission = None

    list_display = ("at", "actor", "action", "target", "address")
    list_filter: ClassVar = [_Actor, _Action, ("at", _Days)]
    search_fields = ("actor",)
    search_help_text = "Actor, action, target or address"
    ordering = ("-id",)
    sortable_by = ()
    fields = ("at", "actor", "address", "action", "target", "group", "was", "became")
    readonly_fields = fields
    actions = None
    paginator = InfinitePaginator
    list_before_template = "console/export.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Entries know the path of their group then; the group itself may be gone."""
        rows: QuerySet[Any] = super(ModelAdmin, self).get_queryset(request)
        og = chosen_og(request)
        paths = permitted_paths(user_of(request), "audit.read")
        wanted = Q(pk=None)
        if og is not None and self._reads(paths, og.path):
            wanted |= Q(og_path__startswith=og.path)
        if paths is None:
            wanted |= Q(og_path="")
        return rows.filter(wanted)

    @staticmethod
    def _reads(paths: list[str] | None, og_path: str) -> bool:
        return paths is None or any(og_path.startswith(one) for one in paths)

    def _may(self, request: HttpRequest, permission: str | None, obj: Any) -> bool:
        if permission is None:
            return False
        paths = permitted_paths(user_of(request), permission)
        return paths != [] if obj is None else self._reads(paths, obj.og_path)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """As the admin API searches."""
        return service.search(queryset, search_term), False

    def get_urls(self) -> list[URLPattern]:
        """And the export."""
        view = self.admin_site.admin_view(self.export_view)
        own = path("export/", view, name="audit_auditentry_export")
        return [own, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The table, with the export above it."""
        export = f"{reverse('console:audit_auditentry_export')}?{request.GET.urlencode()}"
        return super().changelist_view(request, {"export": export} | (extra_context or {}))

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The filtered log as CSV; that it was exported stands in it, too."""
        if not self.has_view_permission(request):
            return refused(request)
        rows = self.filtered(request)
        if rows is None:
            return redirect("console:audit_auditentry_changelist")
        audit(request, "audit.export", "audit log", chosen_og(request))
        lines = entries_as_csv(rows.iterator(chunk_size=2000))
        return tables.as_csv_lines("audit-log", lines)

    @display(description="Organization group")
    def group(self, obj: AuditEntry) -> str:
        if not obj.og_path:
            return "the whole deployment"
        found = OrganizationGroup.objects.filter(path=obj.og_path).first()
        if found is not None:
            return str(found.name)
        # The path of a group that is gone is given to no other (apps/tenants/groups.py).
        told = AuditEntry.objects.filter(og_path=obj.og_path, action__startswith="group.")
        name = told.order_by("-id").values_list("target", flat=True).first()
        return f"{name}, which is gone" if name else "one that is gone"

    @display(description="Before")
    def was(self, obj: AuditEntry) -> SafeString | str:
        return _shown(obj, obj.before)

    @display(description="After")
    def became(self, obj: AuditEntry) -> SafeString | str:
        return _shown(obj, obj.after)


def _shown(entry: AuditEntry, members: dict[str, Any] | None) -> SafeString | str:
    """What changed, with groups by name and without what only the tree's own rows need."""
    told = {name: value for name, value in (members or {}).items() if name not in _TREE}
    if not entry.action.startswith("group."):
        told = members or {}
    if isinstance(told.get("og"), int):
        # Another group's name is not for everybody who reads this entry.
        group = OrganizationGroup.objects.filter(pk=told["og"], path=entry.og_path).first()
        told = told | ({"og": group.name} if group else {})
    if not told:
        return "–"
    return format_html(
        '<pre class="ens-json">{}</pre>', json.dumps(told, indent=2, ensure_ascii=True)
    )
