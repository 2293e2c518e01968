"""The diagnosis of the directory says in plain words what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from apps.administrators.directory import check
from apps.diagnosis import registry
from apps.diagnosis.registry import Step
from ens_project.env import LdapGroup
from tests.administrators.directory import slapd
from tests.administrators.directory.conftest import use
from tests.administrators.directory.slapd import Slapd

pytestmark = pytest.mark.django_db


def steps() -> list[Step]:
    (found,) = registry.run("administrators")
    return list(found.steps)


def test_without_a_directory_there_is_nothing_to_test() -> None:
    assert [step.status for step in steps()] == ["skipped"]


def test_all_is_well(directory: Slapd) -> None:
    assert [step.status for step in steps()] == ["ok"]


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"ldap_ca_file": None}, "failed", "issued by a CA"),
        ({"ldap_urls": ["ldaps://127.0.0.1:1"]}, "failed", "firewall"),
        ({"ldap_bind_name": f"cn=x,{slapd.SUFFIX}"}, "failed", "ENS_LDAP_BIND_NAME"),
        ({"ldap_user_base": "ou=x,dc=contoso,dc=example"}, "failed", "ENS_LDAP_USER_BASE"),
        (
            {"ldap_groups": [LdapGroup(role="auditor", dn=f"cn=x,{slapd.SUFFIX}")]},
            "warning",
            "ENS_LDAP_GROUPS",
        ),
    ],
)
def test_what_is_wrong_is_said(
    directory: Slapd, settings: Any, wrong: dict[str, Any], status: str, says: str
) -> None:
    urls = {"ldap_urls": [directory.ldaps], "ldap_ca_file": directory.ca_file}
    use(settings, **urls | wrong)
    step = steps()[-1]
    assert step.status == status and says in step.advice
    assert slapd.SERVICE_PASSWORD not in repr(step)


def test_a_group_of_ours_that_is_not_there(directory: Slapd, settings: Any) -> None:
    guid = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    groups = [LdapGroup(role="auditor", og=guid, dn=slapd.CHIEFS)]  # type: ignore[arg-type]
    urls = {"ldap_urls": [directory.ldaps], "ldap_ca_file": directory.ca_file}
    use(settings, ldap_groups=groups, **urls)
    assert guid in steps()[-1].detail


def test_the_library_may_be_missing(directory: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    assert "requirements-ldap.txt" in steps()[-1].advice
