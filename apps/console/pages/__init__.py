"""The console's pages, a module for each. Importing this registers them all."""

from __future__ import annotations

from apps.console.pages import api_tokens, app_configuration, groups, mail_systems, og_settings

__all__ = ["api_tokens", "app_configuration", "groups", "mail_systems", "og_settings"]
