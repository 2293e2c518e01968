"""Settings of organization groups: each app declares its own as a frozen dataclass of defaults.

A field's metadata may hold `minimum` and `maximum` (inclusive), `choices` (in order from the
narrowest to the widest) and `narrows`: True for a security setting, which a group may only lower
below what it inherits. A root group may set any allowed value. For the console it may hold a
`label`, a `help` text of a sentence or two, a `unit`, and `choice_labels` in the order of the
choices.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, TypeVar, get_type_hints

from django.db import transaction
from pydantic import TypeAdapter, ValidationError

from apps.tenants.models import OgSetting, OrganizationGroup

_log = logging.getLogger(__name__)
_METADATA = {
    *("minimum", "maximum", "choices", "narrows"),
    *("label", "help", "unit", "choice_labels"),
}

T = TypeVar("T")


class SettingRefused(ValueError):
    """A value doesn't fit its setting; the message names the setting and the fault, no value."""


@dataclass(frozen=True, slots=True)
class Description:
    """A setting as a form shows it; `hint` is the type of its values."""

    name: str
    hint: Any
    label: str
    help: str
    unit: str
    minimum: Any
    maximum: Any
    choices: tuple[tuple[Any, str], ...]
    narrows: bool


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    key: str
    type: TypeAdapter[Any]
    minimum: Any
    maximum: Any
    choices: tuple[Any, ...]
    narrows: bool

    def check(self, value: Any) -> Any:
        """The value as it is stored, or SettingRefused."""
        try:
            typed = self.type.validate_python(value, strict=True)
        except ValidationError:
            raise SettingRefused(f"{self.key}: not of the right type") from None
        if self.choices and typed not in self.choices:
            raise SettingRefused(f"{self.key}: not one of the choices")
        if typed is not None and self.minimum is not None and not typed >= self.minimum:
            raise SettingRefused(f"{self.key}: less than {self.minimum}")
        if typed is not None and self.maximum is not None and not typed <= self.maximum:
            raise SettingRefused(f"{self.key}: more than {self.maximum}")
        return self.type.dump_python(typed, mode="json")

    def rank(self, value: Any) -> Any:
        """How wide a value is; None is no limit at all."""
        if self.choices:
            return self.choices.index(value)
        return math.inf if value is None else value

    def combine(self, inherited: Any, own: Any, is_root: bool) -> Any:
        if not self.narrows or is_root:
            return own
        return min(inherited, own, key=self.rank)


_sections: dict[type, dict[str, _Setting]] = {}
_names: dict[str, type] = {}
_titles: dict[str, str] = {}


def og_settings(section: str, title: str = "") -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass, all of whose fields have defaults, as settings of groups.

    `title` heads their page in the console.

    Raises:
        TypeError: the dataclass, its metadata or one of its defaults isn't fit for it.
    """

    def register(cls: type[T]) -> type[T]:
        if not is_dataclass(cls) or section in _names or not section.isidentifier():
            raise TypeError(f"{cls.__name__}: not a dataclass, or the name is taken or malformed")
        hints = get_type_hints(cls)
        found: dict[str, _Setting] = {}
        for item in fields(cls):
            if unknown := set(item.metadata) - _METADATA:
                raise TypeError(f"{section}.{item.name}: unknown metadata {sorted(unknown)}")
            found[item.name] = _Setting(
                item.name,
                f"{section}.{item.name}",
                TypeAdapter(hints[item.name]),
                item.metadata.get("minimum"),
                item.metadata.get("maximum"),
                tuple(item.metadata.get("choices", ())),
                item.metadata.get("narrows", False),
            )
        defaults = cls()
        for name, setting in found.items():
            setting.check(getattr(defaults, name))
        _names[section] = cls
        _titles[section] = title or section.replace("_", " ").capitalize()
        _sections[cls] = found
        return cls

    return register


class Origin(NamedTuple):
    """A value in force and the group that set it; None: nobody did, it is the default."""

    value: Any
    og: OrganizationGroup | None


def sections() -> Mapping[str, type]:
    """Every registered section by its name, in the order in which they were registered."""
    return dict(_names)


def title_of(name: str) -> str:
    """What heads the page of a section."""
    return _titles[name]


def describe(section: type) -> list[Description]:
    """A section's settings in their order, as a form shows them."""
    hints = get_type_hints(section)
    found = []
    for item in fields(section):
        data = item.metadata
        choices = tuple(data.get("choices", ()))
        words = data.get("choice_labels") or [str(choice).replace("_", " ") for choice in choices]
        found.append(
            Description(
                item.name,
                hints[item.name],
                data.get("label") or item.name.replace("_", " ").capitalize(),
                data.get("help", ""),
                data.get("unit", ""),
                data.get("minimum"),
                data.get("maximum"),
                tuple(zip(choices, words, strict=True)),
                data.get("narrows", False),
            )
        )
    return found


def origins(og: OrganizationGroup, section: type) -> dict[str, Origin]:
    """The values in force for a group as in `settings_for`, with where each comes from.

    Two queries.
    """
    found = _found(og.line_paths(), section)
    setters = OrganizationGroup.objects.in_bulk({pk for _, pk in found.values() if pk is not None})
    return {
        name: Origin(value, setters.get(pk) if pk is not None else None)
        for name, (value, pk) in found.items()
    }


def inherited_by(og: OrganizationGroup, section: type) -> dict[str, Any]:
    """What the group would have if it overrode nothing: the bound of a security setting."""
    return _in_force(og.line_paths()[:-1], section)


def own_names(og: OrganizationGroup, section: type) -> set[str]:
    """The settings that the group itself sets."""
    keys = {setting.key: name for name, setting in _sections[section].items()}
    stored = OgSetting.objects.filter(og=og, key__in=list(keys)).values_list("key", flat=True)
    return {keys[key] for key in stored}


def reset(og: OrganizationGroup, section: type, names: Collection[str]) -> None:
    """Inherit settings again that the group set for itself.

    Raises:
        SettingRefused: an unknown setting.
    """
    known = _sections[section]
    if unknown := set(names) - set(known):
        raise SettingRefused(f"no such setting: {', '.join(sorted(unknown))}")
    OgSetting.objects.filter(og=og, key__in=[known[name].key for name in names]).delete()


def settings_for(og: OrganizationGroup, section: type[T]) -> T:
    """The settings in force for a group: its own, else those of the nearest ancestor. One query.

    A stored value that no longer fits (after an upgrade) is logged and inherited instead.
    """
    return section(**_in_force(og.line_paths(), section))


def _in_force(paths: list[str], section: type) -> dict[str, Any]:
    return {name: value for name, (value, _) in _found(paths, section).items()}


def _found(paths: list[str], section: type) -> dict[str, tuple[Any, int | None]]:
    """The values in force, each with the key of the group that set it, if any did."""
    by_key = {setting.key: setting for setting in _sections[section].values()}
    values: dict[str, tuple[Any, int | None]] = {
        name: (getattr(section(), name), None) for name in _sections[section]
    }
    overrides = (
        OgSetting.objects.filter(og__path__in=paths, key__in=list(by_key))
        .order_by("og__depth")
        .values_list("og_id", "og__depth", "key", "value")
    )
    for og_id, depth, key, stored in overrides:
        setting = by_key[key]
        try:
            (value,) = stored
            own = setting.type.validate_python(value)
            setting.check(own)
        except (TypeError, ValueError):  # of pydantic's and of our own, too
            _log.warning("stored setting %s no longer fits and is ignored", key)
            continue
        inherited = values[setting.name][0]
        combined = setting.combine(inherited, own, is_root=depth == 1)
        # A wider value than the inherited one counts for nothing: the group above still says.
        if combined == own:
            values[setting.name] = (own, og_id)
    return values


def override(og: OrganizationGroup, section: type, **values: Any) -> None:
    """Set settings of a group, for itself and its descendants; all of them or none.

    Raises:
        SettingRefused: an unknown setting, a wrong type, a value outside its bounds, or one wider
            than a security setting that the group inherits.
    """
    known = _sections[section]
    if unknown := set(values) - set(known):
        raise SettingRefused(f"no such setting: {', '.join(sorted(unknown))}")
    stored = {name: known[name].check(value) for name, value in values.items()}
    above = og.line_paths()[:-1]
    inherited = _in_force(above, section) if above else {}
    for name in stored:
        wider = known[name].narrows and inherited
        if wider and known[name].rank(values[name]) > known[name].rank(inherited[name]):
            raise SettingRefused(f"{known[name].key}: wider than what the group inherits")
    with transaction.atomic():
        for name, value in stored.items():
            OgSetting.objects.update_or_create(
                og=og, key=known[name].key, defaults={"value": [value]}
            )
