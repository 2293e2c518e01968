"""Organization groups: the tree, a new group in it, another name, the end of an empty one."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.administrators.scope import may, visible_ogs
from apps.console.base import ConsoleAdmin
from apps.console.chosen import choose, chosen_og, forget_groups, user_of
from apps.console.site import site
from apps.tenants.groups import (
    create_group,
    delete_group,
    plain_name,
    rename_group,
    what_keeps,
)
from apps.tenants.models import OrganizationGroup


class _Indented(forms.ModelChoiceField):
    def label_from_instance(self, obj: OrganizationGroup) -> str:
        return f"{'— ' * (obj.depth - 1)}{obj.name}"


class _NewGroup(forms.ModelForm):
    """A name, and the group above."""

    parent = _Indented(
        queryset=OrganizationGroup.objects.none(),
        required=False,
        label="Below",
        widget=UnfoldAdminSelectWidget,
        help_text="Settings and mail systems are inherited from this group.",
    )

    class Meta:
        model = OrganizationGroup
        fields = ("name",)
        widgets: ClassVar = {"name": UnfoldAdminTextInputWidget}

    def clean_name(self) -> str:
        return _plain(self.cleaned_data["name"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "name" in cleaned and "parent" in cleaned:
            tree, above = OrganizationGroup.objects, cleaned["parent"]
            siblings = tree.get_children(above) if above else tree.get_root_nodes()
            if siblings.filter(name=cleaned["name"]).exists():
                self.add_error("name", "There is already a group of this name there.")
        return cleaned


class _Rename(forms.ModelForm):
    """A name."""

    class Meta:
        model = OrganizationGroup
        fields = ("name",)
        widgets: ClassVar = {"name": UnfoldAdminTextInputWidget}

    def clean_name(self) -> str:
        name = _plain(self.cleaned_data["name"])
        siblings = OrganizationGroup.objects.get_siblings(self.instance)
        if siblings.exclude(pk=self.instance.pk).filter(name=name).exists():
            raise forms.ValidationError("There is already a group of this name here.")
        return name


def _plain(name: str) -> str:
    try:
        return plain_name(name)
    except ValueError as error:
        raise forms.ValidationError(f"{str(error).capitalize()}.") from None


@admin.register(OrganizationGroup, site=site)
class GroupAdmin(ConsoleAdmin):
    """The tree below the chosen group."""

    og_lookup = ""
    add_permission = change_permission = delete_permission = "groups.manage"
    audit_name = "group"

    list_display = ("tree_name", "below", "systems", "tokens", "group_id")
    list_display_links = ("tree_name",)
    sortable_by = ()
    search_fields = ("name",)
    ordering = ("path",)
    readonly_fields = ("guid",)
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        counted: QuerySet[Any] = rows.annotate(
            system_count=Count("mail_systems", distinct=True),
            token_count=Count("api_tokens", distinct=True),
        )
        return counted

    @display(description="Organization group")
    def tree_name(self, obj: OrganizationGroup) -> SafeString:
        return format_html('<span class="ens-indent-{}">{}</span>', min(obj.depth - 1, 8), obj.name)

    @display(description="Groups below")
    def below(self, obj: OrganizationGroup) -> int:
        return int(obj.numchild)

    @display(description="Mail systems")
    def systems(self, obj: Any) -> int:
        return int(obj.system_count)

    @display(description="GUID")
    def group_id(self, obj: OrganizationGroup) -> str:
        return str(obj.guid)

    @display(description="API tokens")
    def tokens(self, obj: Any) -> int:
        return int(obj.token_count)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, **({"form": _Rename} | kwargs))
        form = super().get_form(request, obj, **({"form": _NewGroup} | kwargs))
        parent = form.base_fields["parent"]
        parent.queryset = visible_ogs(user_of(request), "groups.manage")
        parent.initial = chosen_og(request)
        # Only who answers for everything may begin another tree.
        parent.required = not may(user_of(request), "groups.manage", None)
        parent.empty_label = None if parent.required else "(nothing: a tree of its own)"
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "parent") if obj is None else ("name", "guid")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) or may(user_of(request), "groups.manage", None)

    def og_of(self, obj: Any) -> OrganizationGroup | None:
        # A group that is being made lies where its parent does.
        return obj if obj.pk or obj.path else getattr(obj, "new_parent", None)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.new_parent = form.cleaned_data["parent"]
        super().save_model(request, obj, form, change)

    def store(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            current = OrganizationGroup.objects.get(pk=obj.pk)
            rename_group(current, form.cleaned_data["name"])
            obj.name = current.name
            return
        made = create_group(form.cleaned_data["name"], obj.new_parent)
        obj.__dict__.update(made.__dict__)
        forget_groups(request)
        if chosen_og(request) is None:
            choose(request, made)

    def delete_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Django's page for it, but only where nothing hangs on the group."""
        obj = self.get_object(request, object_id)
        if obj is not None and self.has_delete_permission(request, obj):
            kept = what_keeps(obj)
            if kept:
                messages.error(request, f"“{obj}” can't be deleted: it has {', '.join(kept)}.")
                return redirect("console:tenants_organizationgroup_change", object_id)
        return super().delete_view(request, object_id, *args, **kwargs)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its settings and key pairs go unmentioned: they have no pages of their own."""
        return [str(obj) for obj in objs], {}, set(), []

    def remove(self, request: HttpRequest, obj: Any) -> None:
        delete_group(obj)
        forget_groups(request)
