"""The console's pages, a module for each. Importing this registers them all."""

from __future__ import annotations

from apps.console.pages import groups, og_settings

__all__ = ["groups", "og_settings"]
