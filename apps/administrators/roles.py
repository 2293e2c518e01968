"""The four roles, and what each of them may do.

A permission is asked for by its name everywhere: pages, actions, the admin API.
"""

from __future__ import annotations

from typing import Final

from django.db import models


class Role(models.TextChoices):
    """What an administrator is; a person may be several things in several groups."""

    SYSTEM_ADMINISTRATOR = "system_administrator", "System administrator"
    OG_ADMINISTRATOR = "og_administrator", "OG administrator"
    HELP_DESK = "help_desk", "Help desk"
    AUDITOR = "auditor", "Auditor"


# What each permission allows, as the console's page about roles tells it.
PERMISSIONS: Final = {
    "console.read": "See organization groups, settings, devices and subscriptions",
    "groups.manage": "Create, rename and delete organization groups",
    "settings.change": "Change settings, mail systems and site URLs",
    "devices.act": "Test, block, unblock and remove devices",
    "devices.export": "Export tables of devices, and what is held about a person",
    "tokens.manage": "Create, rotate and revoke API tokens",
    "config.download": "Download the configuration file and the app configuration",
    "diagnostics.run": "Run diagnostics",
    "audit.read": "Read and export the audit log",
    "system.change": "Change what concerns all: certificates, pins, push apps, private hosts",
    "administrators.manage": "Manage administrators and their roles",
}

_ALL: Final = frozenset(PERMISSIONS)
ROLE_PERMISSIONS: Final[dict[str, frozenset[str]]] = {
    Role.SYSTEM_ADMINISTRATOR: _ALL,
    Role.OG_ADMINISTRATOR: _ALL - {"system.change", "administrators.manage"},
    Role.HELP_DESK: frozenset({"console.read", "devices.act", "diagnostics.run"}),
    Role.AUDITOR: frozenset({"console.read", "audit.read"}),
}
