"""Loaded by pytest before Django: every test run has its own settings, keys and directories."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from base64 import b64encode
from pathlib import Path

_home = Path(tempfile.mkdtemp(prefix="ens-tests-"))
atexit.register(shutil.rmtree, _home, ignore_errors=True)

MASTER_KEY_FILE = _home / "master.key"
MASTER_KEY_FILE.write_text(f"test:{b64encode(bytes(range(32))).decode()}\n")

# Under another name for pytest-xdist's workers, which begin with this environment: ENS refuses to
# start with a setting that it doesn't know.
_KEPT = "TESTS_OF_ENS_DATABASE_URL"
if "ENS_TEST_DATABASE_URL" in os.environ:
    os.environ[_KEPT] = os.environ["ENS_TEST_DATABASE_URL"]
for _name in [name for name in os.environ if name.startswith("ENS_")]:
    del os.environ[_name]
os.environ |= {
    "ENS_ENV_FILE": str(_home / "ens.env"),
    "ENS_SECRET_KEY": "only-for-tests-0123456789-0123456789",
    "ENS_LINK_ADDRESS": "https://ens.example/MailNotificationService/api/ens",
    "ENS_ROLES": "device-api,notify,metrics,console,admin-api,relay",
    "ENS_DATA_DIR": str(_home),
    "ENS_MASTER_KEY_FILE": str(MASTER_KEY_FILE),
    "ENS_CNS_URL": "https://cns.example",
    "ENS_RELAY_AUDIENCE": "https://cns.example",
    "ENS_ALLOWED_HOSTS": "*",
}
if _KEPT in os.environ:
    os.environ["ENS_DATABASE_URL"] = os.environ[_KEPT]
