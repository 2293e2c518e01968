from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from apps.administrators.directory import ask
from ens_project.env import EnsSettings, LdapGroup
from tests.administrators.directory import slapd
from tests.administrators.directory.slapd import Slapd

PASSWORD = "person-canary-91c2"
GRACE = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    made = Slapd(tmp_path_factory.mktemp("slapd"))
    made.start()
    made.add(slapd.tree())
    yield made
    made.stop()


@pytest.fixture
def directory(server: Slapd, settings: Any) -> Iterator[Slapd]:
    """The server with Grace, who is a chief; ENS signs in with it over LDAPS."""
    server.add(slapd.person("grace", PASSWORD, guid=GRACE, userAccountControl="512"))
    server.join(slapd.CHIEFS, "grace")
    use(settings, ldap_urls=[server.ldaps], ldap_ca_file=server.ca_file)
    yield server
    server.start() if server._process is None else None
    server.delete(f"uid=grace,{slapd.PEOPLE}")
    for group in (slapd.CHIEFS, slapd.HELPERS, slapd.READERS):
        server.change(group, "replace: member\nmember: cn=nobody")


@pytest.fixture(autouse=True)
def _afresh() -> None:
    cache.clear()
    ask._last_good.clear()


def use(settings: Any, **values: Any) -> None:
    """Settings as they are for OpenLDAP, with these changes."""
    common: dict[str, Any] = {
        "ldap_kind": "openldap",
        "ldap_bind_name": slapd.SERVICE,
        "ldap_bind_password": EnsSettings.model_validate(
            {
                "secret_key": "x" * 40,
                "link_address": "https://x",
                "master_key_file": Path("x"),
                "ldap_bind_password": slapd.SERVICE_PASSWORD,
            }
        ).ldap_bind_password,
        "ldap_user_base": slapd.SUFFIX,
        "ldap_groups": [LdapGroup(role="system_administrator", dn=slapd.CHIEFS)],
        "ldap_timeout_seconds": 4.0,
    }
    settings.ENS = settings.ENS.model_copy(update=common | values)
