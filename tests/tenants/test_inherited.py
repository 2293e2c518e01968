"""Inherited settings: typed, bounded, found with one query, security settings only narrowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.tenants import inherited
from apps.tenants.groups import create_group
from apps.tenants.inherited import SettingRefused, og_settings, override, settings_for
from apps.tenants.models import OgSetting, OrganizationGroup

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Trial:
    minutes: int = field(default=30, metadata={"minimum": 1, "maximum": 1440})
    content: str = field(
        default="sender", metadata={"choices": ("none", "sender", "preview"), "narrows": True}
    )
    hours: float | None = field(default=24.0, metadata={"minimum": 0.5, "narrows": True})
    enabled: bool = True
    flavour: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(inherited, "_sections", {})
    monkeypatch.setattr(inherited, "_names", {})
    og_settings("trial")(Trial)
    return


@pytest.fixture
def line() -> list[OrganizationGroup]:
    root = create_group("Root")
    middle = create_group("Middle", root)
    return [root, middle, create_group("Leaf", middle)]


def test_defaults_then_the_nearest_override(line: list[OrganizationGroup]) -> None:
    root, middle, leaf = line
    assert settings_for(leaf, Trial) == Trial()
    override(root, Trial, minutes=60, flavour="b")
    override(middle, Trial, minutes=5, names=("x", "y"))
    assert settings_for(root, Trial) == Trial(minutes=60, flavour="b")
    assert settings_for(leaf, Trial) == Trial(minutes=5, flavour="b", names=("x", "y"))
    override(middle, Trial, minutes=7)
    assert settings_for(leaf, Trial).minutes == 7
    assert settings_for(create_group("Other"), Trial) == Trial()


def test_values_are_stored_as_sql_server_takes_them(line: list[OrganizationGroup]) -> None:
    override(line[0], Trial, minutes=60, enabled=False, hours=None, names=("x",))
    stored = dict(OgSetting.objects.values_list("key", "value"))
    assert stored == {
        "trial.minutes": [60],
        "trial.enabled": [False],
        "trial.hours": [None],
        "trial.names": [["x"]],
    }
    assert settings_for(line[2], Trial) == Trial(60, hours=None, enabled=False, names=("x",))


def test_one_query(line: list[OrganizationGroup]) -> None:
    override(line[0], Trial, minutes=60, enabled=False)
    with CaptureQueriesContext(connection) as queries:
        settings_for(line[2], Trial)
    assert len(queries) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"minutes": 0},
        {"minutes": 1441},
        {"minutes": True},
        {"minutes": "30"},
        {"minutes": 1.5},
        {"minutes": None},
        {"hours": 0.4},
        {"hours": float("nan")},
        {"enabled": 1},
        {"enabled": "yes"},
        {"flavour": "c"},
        {"content": "all"},
        {"names": "xy"},
        {"names": (1,)},
        {"unknown": 1},
        {"minutes": 5, "enabled": "secret-value"},
    ],
)
def test_ill_typed_unknown_and_unbounded_values_are_refused(
    values: dict[str, Any], line: list[OrganizationGroup]
) -> None:
    with pytest.raises(SettingRefused) as refused:
        override(line[0], Trial, **values)
    assert "secret-value" not in str(refused.value)
    assert not OgSetting.objects.exists()


def test_security_settings_only_narrow_below_the_root(line: list[OrganizationGroup]) -> None:
    root, middle, leaf = line
    with pytest.raises(SettingRefused, match="wider"):
        override(leaf, Trial, content="preview")
    override(root, Trial, content="preview")
    override(leaf, Trial, content="preview", hours=12.0)
    assert settings_for(leaf, Trial).content == "preview"
    override(middle, Trial, content="none")
    assert settings_for(leaf, Trial).content == "none"
    with pytest.raises(SettingRefused, match="wider"):
        override(leaf, Trial, content="sender")


def test_no_limit_is_the_widest(line: list[OrganizationGroup]) -> None:
    root, middle, leaf = line
    with pytest.raises(SettingRefused, match="wider"):
        override(leaf, Trial, hours=None)
    override(root, Trial, hours=None)
    override(middle, Trial, hours=12.0)
    assert settings_for(leaf, Trial).hours == 12.0
    override(leaf, Trial, hours=1.0)
    assert settings_for(leaf, Trial).hours == 1.0


def test_a_stored_value_that_no_longer_fits_is_inherited(
    line: list[OrganizationGroup], caplog: pytest.LogCaptureFixture
) -> None:
    root, _, leaf = line
    override(root, Trial, minutes=60)
    OgSetting.objects.create(og=leaf, key="trial.minutes", value=[99_999])
    OgSetting.objects.create(og=leaf, key="trial.enabled", value=["marked-value"])
    OgSetting.objects.create(og=leaf, key="trial.flavour", value=5)
    assert settings_for(leaf, Trial) == Trial(minutes=60)
    assert "trial.minutes" in caplog.text
    assert "marked-value" not in caplog.text


def test_unfit_declarations_are_refused() -> None:
    @dataclass(frozen=True)
    class Typo:
        minutes: int = field(default=1, metadata={"minumum": 1})

    @dataclass(frozen=True)
    class OutOfBounds:
        minutes: int = field(default=0, metadata={"minimum": 1})

    with pytest.raises(TypeError, match="minumum"):
        og_settings("typo")(Typo)
    with pytest.raises(SettingRefused):
        og_settings("outofbounds")(OutOfBounds)
    with pytest.raises(TypeError):
        og_settings("trial")(Typo)
