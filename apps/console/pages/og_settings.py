"""Settings of the chosen group: what is in force, where it comes from, override and reset.

Every section that a room registers (apps/tenants/inherited.py) has a page, made from its fields.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

import apps.announce.policy
import apps.devices.labels
import apps.keypairs.policy
import apps.subscriptions.settings  # noqa: F401 - all register their sections
from apps.administrators.scope import may
from apps.console.base import audit
from apps.console.chosen import chosen_og, groups_of, user_of
from apps.console.site import page, refused, show
from apps.tenants import inherited
from apps.tenants.inherited import Description, SettingRefused
from apps.tenants.models import OrganizationGroup

_NUMBERS: Final = {int: forms.IntegerField, float: forms.FloatField}


@page("settings/", name="settings", permission="console.read")
def first(request: HttpRequest) -> HttpResponse:
    """The first section there is."""
    return redirect("console:settings_section", next(iter(inherited.sections())))


@page("settings/<slug:section>/", name="settings_section", permission="console.read")
def section(request: HttpRequest, section: str) -> HttpResponse:
    """One section of the chosen group."""
    cls, og = inherited.sections().get(section), chosen_og(request)
    if cls is None:
        raise Http404
    if og is None:
        return redirect("console:index")
    permitted = may(user_of(request), "settings.change", og)
    if request.method == "POST":
        if not permitted:
            return refused(request)
        form = SectionForm(cls, og, request.POST)
        if form.is_valid() and _save(request, form, section):
            messages.success(request, "Saved.")
            return redirect("console:settings_section", section)
    else:
        form = SectionForm(cls, og)
    visible = {group.pk for group in groups_of(request)}
    context = {
        "form": form,
        "rows": form.rows(visible),
        "og": og,
        "permitted": permitted,
        "sections": [
            {"name": name, "title": inherited.title_of(name), "active": name == section}
            for name in inherited.sections()
        ],
    }
    return show(request, "console/settings.html", inherited.title_of(section), context)


def _save(request: HttpRequest, form: SectionForm, section: str) -> bool:
    before = form.own_values()
    values, dropped = form.wanted()
    try:
        with transaction.atomic():
            inherited.reset(form.og, form.section, dropped)
            inherited.override(form.og, form.section, **values)
            after = SectionForm(form.section, form.og).own_values()
            if before != after:
                audit(request, "settings.change", section, form.og, before, after)
    except SettingRefused as error:
        key, _, fault = str(error).partition(": ")
        form.add_error(f"value_{key.partition('.')[2]}", _in_words(fault))
        return False
    return True


def _in_words(fault: str) -> str:
    if fault.startswith("wider"):
        return "A group above allows less. This is a security setting: it may only be narrowed."
    return f"Not possible: {fault}."


class SectionForm(forms.Form):
    """For each setting of a section: whether the group overrides it, and with what."""

    def __init__(self, section: type, og: OrganizationGroup, data: Any = None) -> None:
        super().__init__(data)
        self.section, self.og = section, og
        self.own = inherited.own_names(og, section)
        self.origins = inherited.origins(og, section)
        self.descriptions = [d for d in inherited.describe(section) if _field(d) is not None]
        for item in self.descriptions:
            self.fields[f"own_{item.name}"] = forms.BooleanField(
                required=False,
                initial=item.name in self.own,
                label=f"Override {item.label}",
                widget=UnfoldBooleanSwitchWidget,
            )
            field = _field(item)
            assert field is not None
            field.initial = _shown(self.origins[item.name].value)
            self.fields[f"value_{item.name}"] = field

    def own_values(self) -> dict[str, Any]:
        """What the group sets itself, for the audit log."""
        return {name: self.origins[name].value for name in sorted(self.own)}

    def wanted(self) -> tuple[dict[str, Any], list[str]]:
        """What is to be overridden with what, and what is to be inherited again."""
        values, dropped = {}, []
        for item in self.descriptions:
            if self.cleaned_data.get(f"own_{item.name}"):
                values[item.name] = _typed(item, self.cleaned_data.get(f"value_{item.name}"))
            elif item.name in self.own:
                dropped.append(item.name)
        return values, dropped

    def rows(self, visible: set[int]) -> list[dict[str, Any]]:
        """What the page shows of each setting; a group that may not be seen stays unnamed."""
        return [
            {
                "item": item,
                "own": self[f"own_{item.name}"],
                "value": self[f"value_{item.name}"],
                "in_force": _in_force_text(item, self.origins[item.name].value),
                "origin": self._origin(item.name, visible),
                "overridden": item.name in self.own,
            }
            for item in self.descriptions
        ]

    def _origin(self, name: str, visible: set[int]) -> str:
        setter = self.origins[name].og
        if setter is None:
            return "Default"
        if setter.pk == self.og.pk:
            return "Overridden here"
        return f"Inherited from {setter.name if setter.pk in visible else 'a group above'}"


def _plain_hint(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was allowed."""
    options = [option for option in get_args(hint) if option is not NoneType]
    if NoneType in get_args(hint) and len(options) == 1:
        return options[0], True
    return hint, False


def _field(item: Description) -> forms.Field | None:
    """The form field of a setting; None for a type that has a page of its own."""
    hint, optional = _plain_hint(item.hint)
    common: dict[str, Any] = {"label": item.label, "required": False}
    choices = item.choices
    if get_origin(hint) is Literal and not choices:
        choices = tuple((value, str(value)) for value in get_args(hint))
    if choices:
        pairs = [(str(value), f"{word} {item.unit}".strip()) for value, word in choices]
        return forms.ChoiceField(choices=pairs, widget=UnfoldAdminSelectWidget, **common)
    if hint is bool:
        pairs = [("True", "Yes"), ("False", "No")]
        return forms.ChoiceField(choices=pairs, widget=UnfoldAdminSelectWidget, **common)
    if hint in _NUMBERS:
        bounds = {"min_value": item.minimum, "max_value": item.maximum}
        empty = {"placeholder": "no limit"} if optional else {}
        widget = UnfoldAdminIntegerFieldWidget(attrs=empty)
        return _NUMBERS[hint](widget=widget, **bounds, **common)
    if hint is str:
        return forms.CharField(max_length=1000, widget=UnfoldAdminTextInputWidget, **common)
    if hint == tuple[str, ...]:
        widget_lines = UnfoldAdminTextareaWidget(attrs={"rows": 4})
        return forms.CharField(max_length=20_000, widget=widget_lines, **common)
    return None


def _typed(item: Description, text: Any) -> Any:
    """What came from the form as the setting's own type; `inherited` checks it once more."""
    hint, optional = _plain_hint(item.hint)
    if item.choices:
        return next((value for value, _ in item.choices if str(value) == text), text)
    if hint is bool:
        return text == "True"
    if hint == tuple[str, ...]:
        return tuple(line.strip() for line in str(text or "").splitlines() if line.strip())
    if hint is float and text is not None:
        return float(text)
    return None if optional and text in ("", None) else text


def _shown(value: Any) -> Any:
    return "\n".join(value) if isinstance(value, tuple) else value


def _in_force_text(item: Description, value: Any) -> str:
    for choice, word in item.choices:
        if choice == value:
            return f"{word} {item.unit}".strip()
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if value is None:
        return "No limit"
    if isinstance(value, tuple):
        return ", ".join(value) or "None"
    return f"{value} {item.unit}".strip() if value != "" else "Empty"
