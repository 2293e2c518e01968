"""`ens.env`: what others wrote stays, what is random is drawn once, and every value comes back."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from dotenv import dotenv_values

from apps.operations.install import env_file
from apps.operations.install.answers import make
from apps.operations.install.steps import StepFailed

LINK = "https://ens.example.com/MailNotificationService/api/ens"


def settings(existing: dict[str, str] | None = None, **given: Any) -> dict[str, str]:
    answers = make({"link_address": LINK} | {k.replace("__", "."): v for k, v in given.items()})
    return env_file.settings(
        answers, existing or {}, {"ENS_MASTER_KEY_FILE": "/etc/ens/master.key"}
    )


@pytest.mark.parametrize(
    "value",
    ["", "plain", "with space", "it's", 'say "hi"', "C:\\ENS\\new", "#no", "$HOME ${x}", "größer"],
)
def test_every_value_comes_back(value: str) -> None:
    text = env_file.line("ENS_X", value)
    assert dotenv_values(stream=StringIO(text + "\n"), interpolate=False) == {"ENS_X": value}


def test_a_line_break_is_refused() -> None:
    with pytest.raises(StepFailed, match="line break"):
        env_file.line("ENS_X", "one\nENS_DEBUG=1")


def test_other_lines_stay_and_ours_are_set_in_place() -> None:
    text = "# mine\nENS_AUDIT_DAYS=90\nexport ENS_ROLES=notify\n\nENS_ROLES='console'\n"
    merged = env_file.merged(text, {"ENS_ROLES": "device-api", "ENS_DEBUG": "0"})
    assert merged == "# mine\nENS_AUDIT_DAYS=90\nENS_ROLES=device-api\n\nENS_DEBUG=0\n"
    assert env_file.merged(merged, {"ENS_ROLES": "device-api", "ENS_DEBUG": "0"}) == merged
    # Written otherwise, but the same: not touched.
    same = "ENS_ROLES='device-api'\n"
    assert env_file.merged(same, {"ENS_ROLES": "device-api"}) == same


def test_what_is_random_is_drawn_once() -> None:
    first = settings(database__create="yes")
    assert len(first["ENS_SECRET_KEY"]) >= 40
    assert settings(first, database__create="yes") == first
    assert settings(database__create="yes")["ENS_SECRET_KEY"] != first["ENS_SECRET_KEY"]


def test_the_settings_are_ones_that_ens_takes() -> None:
    found = settings(
        components="web,relay",
        cns__url="https://cns.example.com/nws",
        redis__url="redis://r:6379",
        cns__proxy_url="http://proxy:8080",
        cns__proxy_auth="negotiate",
    )
    assert env_file.problem(found) == ""
    assert found["ENS_ROLES"] == "device-api,notify,metrics,relay"
    assert found["ENS_RELAY_AUDIENCE"] == found["ENS_CNS_URL"]
    assert found["ENS_ALLOWED_HOSTS"].startswith("ens.example.com,cns.example.com,")
    assert env_file.problem(found | {"ENS_NO_SUCH": "1"}) == "ENS_NO_SUCH is not a setting of ENS"
    bad = env_file.problem(found | {"ENS_AUDIT_DAYS": "verysecret"})
    assert bad.startswith("ENS_AUDIT_DAYS: ") and "verysecret" not in bad


def test_settings_of_the_administrator_win_and_may_name_files() -> None:
    found = settings(settings={"ENS_SECRET_KEY_FILE": "/etc/ens/secret", "ENS_ALLOWED_HOSTS": "x"})
    assert "ENS_SECRET_KEY" not in found
    assert found["ENS_ALLOWED_HOSTS"] == "x"
    assert env_file.problem(found | {"ENS_SECRET_KEY": "x" * 32}) == ""


def test_each_service_has_its_own_roles_and_a_worker_the_tables_of_the_web() -> None:
    assert env_file.component_roles("console") == "console,admin-api"
    assert env_file.roles(make({"link_address": LINK, "components": "worker"})) == (
        "device-api,notify,metrics"
    )
