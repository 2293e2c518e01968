"""Writes `docs/settings.md` from the settings' own descriptions, or checks that it is current."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from pydantic_core import PydanticUndefined

from ens_project.env import BASE_DIR, PREFIX, EnsSettings

PAGE = BASE_DIR / "docs" / "settings.md"
HEAD = """# Settings

One file, `ens.env` beside `manage.py` (or wherever `ENS_ENV_FILE` points), holds every setting as
`NAME=value`, one a line. The process environment wins over the file. Any setting may be kept in a
file of its own: `ENS_SECRET_KEY_FILE=/run/secrets/key` reads `ENS_SECRET_KEY` from there. A setting
that is missing, unknown or malformed stops the start with one line that names it.

This page is generated: `python manage.py ens_settings`.
"""


def page() -> str:
    """The settings page in Markdown."""
    parts = [HEAD]
    for field, info in EnsSettings.model_fields.items():
        name = PREFIX + field.upper()
        if info.default is PydanticUndefined:
            default = "required"
        else:
            default = f"default: {_shown(info.default)}"
        parts.append(f"## {name}\n\n{info.description}\n\n*{default}*\n")
    return "\n".join(parts)


def _shown(value: object) -> str:
    if value is None or value == []:
        return "none"
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, list):
        value = ",".join(str(part) for part in value)
    return f"`{str(value).replace(str(BASE_DIR), '<installation>')}`"


class Command(BaseCommand):
    help = "Write docs/settings.md from the settings' descriptions."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only say whether it is current")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            if not PAGE.is_file() or PAGE.read_text("utf-8") != page():
                raise CommandError("docs/settings.md is not current: run manage.py ens_settings")
            return
        PAGE.write_text(page(), "utf-8", newline="\n")
