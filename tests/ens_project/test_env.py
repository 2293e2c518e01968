"""A missing or malformed setting stops the start with one clear line, without its value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ens_project import env

GOOD = {
    "ENS_SECRET_KEY": "0123456789012345678901234567890123456789",
    "ENS_LINK_ADDRESS": "https://ens.example/MailNotificationService/api/ens",
    "ENS_MASTER_KEY_FILE": "keys/master.key",
}
LDAP = {
    "ENS_LDAP_URLS": "ldaps://dc1.example.com, ldap://dc2:3389",
    "ENS_LDAP_BIND_NAME": "ens@example.com",
    "ENS_LDAP_BIND_PASSWORD": "secret-marked",
    "ENS_LDAP_USER_BASE": "dc=example,dc=com",
    "ENS_LDAP_GROUPS": "system_administrator=CN=A\\; B,DC=x; "
    "help_desk@6f9619ff-8b86-d011-b42d-00c04fc964ff=CN=Help,DC=x;",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in [name for name in os.environ if name.startswith("ENS_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "ens.env"
    monkeypatch.setenv("ENS_ENV_FILE", str(file))

    def made(**changes: str | None) -> Path:
        lines = {name: value for name, value in (GOOD | changes).items() if value is not None}
        file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), "utf-8")
        return file

    return made


def test_the_file_is_read_and_paths_stand_on_the_installation(write) -> None:  # type: ignore[no-untyped-def]
    write(
        ENS_TRUSTED_PROXIES="10.0.0.0/8, 192.168.0.0/16",
        ENS_ROLES="relay",
        ENS_RELAY_AUDIENCE="https://cns.example",
    )
    found = env.load()
    assert found.master_key_file == env.BASE_DIR / "keys/master.key"
    assert [str(network) for network in found.trusted_proxies] == ["10.0.0.0/8", "192.168.0.0/16"]
    assert found.roles == ["relay"]


def test_the_environment_wins(write, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    write(ENS_LOG_LEVEL="INFO")
    monkeypatch.setenv("ENS_LOG_LEVEL", "DEBUG")
    assert env.load().log_level == "DEBUG"


def test_a_value_may_stand_in_a_file_of_its_own(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    secret = tmp_path / "secret"
    secret.write_text("k" * 40 + "\n")
    write(ENS_SECRET_KEY=None, ENS_SECRET_KEY_FILE=str(secret))
    assert env.load().secret_key.get_secret_value() == "k" * 40


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ENS_SECRET_KEY": None}, "ENS_SECRET_KEY is missing"),
        ({"ENS_SECRET_KEY": "too-short-marked"}, "ENS_SECRET_KEY is malformed"),
        ({"ENS_LINK_ADDRESS": "ens.example"}, "ENS_LINK_ADDRESS is malformed"),
        ({"ENS_LINK_ADRESS": "https://x"}, "ENS_LINK_ADRESS is not a setting"),
        ({"ENS_ROLES": "web"}, "ENS_ROLES is malformed"),
        ({"ENS_ROLES": "relay"}, "ENS_RELAY_AUDIENCE is missing"),
        ({"ENS_CNS_PROXY_AUTH": "basic"}, "ENS_CNS_PROXY_USER is missing"),
        ({"ENS_CNS_PROXY_URL": "http://user:password@proxy"}, "ENS_CNS_PROXY_URL is malformed"),
        ({"ENS_ROLES": ""}, "ENS_ROLES is malformed"),
        ({"ENS_LDAP_URLS": "http://dc1"}, "ENS_LDAP_URLS is malformed"),
        ({"ENS_LDAP_URLS": "ldaps://dc1/dc=x"}, "ENS_LDAP_URLS is malformed"),
        ({"ENS_LDAP_URLS": "ldaps://dc1"}, "ENS_LDAP_BIND_NAME is missing"),
        (LDAP | {"ENS_LDAP_BIND_PASSWORD": None}, "ENS_LDAP_BIND_PASSWORD is missing"),
        (LDAP | {"ENS_LDAP_USER_BASE": None}, "ENS_LDAP_USER_BASE is missing"),
        (LDAP | {"ENS_LDAP_GROUPS": None}, "ENS_LDAP_GROUPS is missing"),
        (LDAP | {"ENS_LDAP_GROUPS": "boss=CN=a"}, "ENS_LDAP_GROUPS is malformed"),
        (LDAP | {"ENS_LDAP_GROUPS": "auditor@here=CN=a"}, "ENS_LDAP_GROUPS is malformed"),
        (LDAP | {"ENS_LDAP_GROUPS": "auditor"}, "ENS_LDAP_GROUPS is malformed"),
        (
            LDAP | {"ENS_LDAP_GROUPS": f"system_administrator@{'0' * 32}=CN=a"},
            "ENS_LDAP_GROUPS: a system administrator answers for the whole deployment",
        ),
        (LDAP | {"ENS_LDAP_USER_BIND": "name@x"}, "ENS_LDAP_USER_BIND is malformed"),
        (LDAP | {"ENS_LDAP_USER_FILTER": "objectClass=a"}, "ENS_LDAP_USER_FILTER is malformed"),
        (LDAP | {"ENS_LDAP_NAME_ATTRIBUTE": "uid=a)("}, "ENS_LDAP_NAME_ATTRIBUTE is malformed"),
        ({"ENS_REQUIRE_SECOND_FACTOR": "some"}, "ENS_REQUIRE_SECOND_FACTOR is malformed"),
        ({"ENS_TRUSTED_PROXIES": "everything"}, "ENS_TRUSTED_PROXIES is malformed"),
        ({"ENS_EXCHANGE_CALLS_IN_FLIGHT": "many"}, "ENS_EXCHANGE_CALLS_IN_FLIGHT is malformed"),
        ({"ENS_SECRET_KEY": None, "ENS_SECRET_KEY_FILE": "/nowhere"}, "ENS_SECRET_KEY_FILE"),
        ({"PATH_TO_KEY": "x"}, "PATH_TO_KEY is not a setting"),
    ],
)
def test_a_fault_is_one_line_that_names_the_setting(write, changes, named: str) -> None:  # type: ignore[no-untyped-def]
    write(**changes)
    with pytest.raises(env.SettingsInvalid) as caught:
        env.load()
    text = str(caught.value)
    assert named in text
    assert "\n" not in text
    for value in changes.values():
        assert not value or len(value) < 6 or value not in text or value.startswith(("/", "http"))


def test_a_process_that_lacks_a_setting_ends_with_that_line(write) -> None:  # type: ignore[no-untyped-def]
    write(ENS_SECRET_KEY=None)
    ended = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=env.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("ENS can't start: ENS_SECRET_KEY is missing")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where requirements-ldap.txt is installed."""
    monkeypatch.setattr(env, "find_spec", lambda name: object())


@pytest.mark.usefixtures("library")
def test_the_directory_is_read_in_parts(write) -> None:  # type: ignore[no-untyped-def]
    write(**LDAP)
    found = env.load()
    assert found.ldap_urls == ["ldaps://dc1.example.com", "ldap://dc2:3389"]
    first, second = found.ldap_groups
    assert (first.role, first.og, first.dn) == ("system_administrator", None, "CN=A\\; B,DC=x")
    assert (second.role, str(second.og)[:8], second.dn) == ("help_desk", "6f9619ff", "CN=Help,DC=x")
    assert "secret-marked" not in repr(found)


def test_roles_are_called_as_everywhere() -> None:
    from apps.administrators.roles import Role

    named = env.LdapGroup.model_fields["role"].annotation
    assert set(named.__args__) == set(Role.values)  # type: ignore[union-attr]


def test_the_directory_needs_its_library(write, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    write(**LDAP)
    monkeypatch.setattr(env, "find_spec", lambda name: None)
    with pytest.raises(env.SettingsInvalid, match=r"pip install -r requirements-ldap\.txt"):
        env.load()
    write()  # and nobody else does
    env.load()


@pytest.mark.usefixtures("library")
def test_windows_has_a_store_of_its_own(write, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    write(**LDAP, ENS_LDAP_CA_FILE="ca.pem")
    assert env.load().ldap_ca_file == env.BASE_DIR / "ca.pem"
    monkeypatch.setattr(env.sys, "platform", "win32")
    with pytest.raises(env.SettingsInvalid, match="ENS_LDAP_CA_FILE: Windows"):
        env.load()
