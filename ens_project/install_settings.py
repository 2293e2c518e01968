"""What `manage.py ens_install` runs with: it writes `ens.env`, so it can't need one."""

from __future__ import annotations

SECRET_KEY = "nothing-is-signed-with-this"  # noqa: S105 - not kept, and used for nothing
INSTALLED_APPS = ["apps.operations"]
# The checks of a deployment need its rooms (apps/operations/apps.py).
RELAY_ONLY = True
USE_TZ = True
