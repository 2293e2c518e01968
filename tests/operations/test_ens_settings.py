"""The settings page is generated and current."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.operations.management.commands import ens_settings
from ens_project.env import EnsSettings


def test_every_setting_is_described_on_the_committed_page() -> None:
    call_command("ens_settings", check=True)
    text = ens_settings.PAGE.read_text("utf-8")
    for field, info in EnsSettings.model_fields.items():
        assert f"## ENS_{field.upper()}" in text
        assert info.description


def test_a_page_that_is_not_current_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ens_settings, "PAGE", tmp_path / "settings.md")
    with pytest.raises(CommandError):
        call_command("ens_settings", check=True)
    call_command("ens_settings")
    call_command("ens_settings", check=True)
