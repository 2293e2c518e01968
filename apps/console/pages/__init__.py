"""The console's pages, a module for each. Importing this registers them all."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from django.apps import apps

# Pages about what not every installation has: the app whose tables they need.
_NEEDS: Final = {"push_apps": "apps.relay"}

for _page in iter_modules(__path__):
    if apps.is_installed(_NEEDS.get(_page.name, __name__.partition(".pages")[0])):
        import_module(f"{__name__}.{_page.name}")
