"""Answers: from a file or options, typed, and never with a secret in clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from apps.operations.install import answers
from apps.operations.install.answers import Answers, AnswersInvalid, make, read_file
from ens_project.env import EnsSettings

LINK = "https://ens.example.com/MailNotificationService/api/ens"
SECRET = "correct horse: 77 @/staple"


def refusal(given: dict[str, Any]) -> str:
    with pytest.raises(AnswersInvalid) as refused:
        make({"link_address": LINK} | given)
    assert SECRET not in str(refused.value)
    return str(refused.value)


def test_a_file_is_read_with_paths_from_its_own_directory(tmp_path: Path) -> None:
    (tmp_path / "password.txt").write_text(f"{SECRET}\nsecond line\n")
    file = tmp_path / "answers.toml"
    file.write_text(
        f"""
        link_address = "{LINK}"
        components = ["web", "worker"]
        location = "programs"
        [database]
        host = "db.example.com"
        password_file = "password.txt"
        [settings]
        ENS_LOG_LEVEL = "WARNING"
        ENS_PUSHES_IN_FLIGHT = 12
        """
    )
    made = make(read_file(file))
    assert made.components == ["web", "worker"]
    assert made.location == tmp_path / "programs"
    assert made.database.password is not None
    assert made.database.password.get_secret_value() == SECRET
    assert made.settings == {"ENS_LOG_LEVEL": "WARNING", "ENS_PUSHES_IN_FLIGHT": "12"}
    assert SECRET not in repr(made)


def test_options_are_text_and_lists_are_by_comma() -> None:
    made = make({"link_address": LINK, "components": "web, beat", "database.port": "5433"})
    assert made.components == ["web", "beat"]
    assert made.database.port == 5433
    assert (made.host, made.url_prefix) == ("ens.example.com", "/MailNotificationService")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"database.password": SECRET}, "database.password_file"),
        ({"database.passwort": "x"}, "no answer"),
        ({"database.password_file": "missing.txt"}, "can't be read"),
        ({"database.port": "0"}, "database.port"),
        ({"database.name": 'x"; DROP'}, "database.name"),
        ({"components": "web,mail"}, "components"),
        ({"link_address": "http://ens.example.com/api/ens"}, "link_address"),
        ({"link_address": ""}, "link_address is missing"),
        ({"redis.url": f"redis://:{SECRET}@host"}, "redis.url"),
        ({"cns.proxy_auth": "basic"}, "cns.proxy_user"),
        ({"tls.key_file": "key.pem"}, "go together"),
        ({"root": "somewhere"}, "service.manager"),
        ({"components": "web,relay"}, "cns.url"),
        ({"console.listen": "443"}, "console.listen"),
        ({"settings": {"PATH": "x"}}, "ENS_"),
        ({"settings": {"ENS_X\nENS_DEBUG": "1"}}, "ENS_"),
        ({"service.account": "ens ens"}, "service.account"),
    ],
)
def test_what_can_not_be_used_is_named(given: dict[str, Any], words: str) -> None:
    assert words in refusal(given)


def test_a_file_that_is_none_says_so_without_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    for content in (f"password = {SECRET}", b"\xff\xfe"):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(AnswersInvalid) as refused:
            read_file(file)
        assert SECRET not in str(refused.value)
    with pytest.raises(AnswersInvalid, match="can't be read"):
        read_file(tmp_path / "none.toml")


def database(**given: Any) -> str:
    return answers.Database(password=SecretStr(SECRET), **given).url()


def test_addresses_are_those_that_the_settings_understand() -> None:
    import dj_database_url

    parsed = dj_database_url.parse(database(host="db.example.com", port=5433))
    assert (parsed["HOST"], parsed["PORT"], parsed["PASSWORD"]) == ("db.example.com", 5433, SECRET)
    parsed = dj_database_url.parse(
        database(
            kind="sqlserver", host="listener", windows_account=True, multi_subnet_failover=True
        )
    )
    assert (parsed["HOST"], parsed["USER"], parsed["PASSWORD"]) == ("listener", "", "")
    assert parsed["OPTIONS"] == {
        "driver": "ODBC Driver 18 for SQL Server",
        "extra_params": "Trusted_Connection=yes;MultiSubnetFailover=yes",
    }
    assert database(kind="sqlite") == ""


def test_redis_is_broker_and_event_log() -> None:
    plain = answers.Redis(url="redis://r.example.com:6379", password=SecretStr("a/b"))
    assert plain.broker_url() == "redis://:a%2Fb@r.example.com:6379/0"
    assert plain.event_log_url() == "redis://:a%2Fb@r.example.com:6379/1"
    watched = answers.Redis(url="redis+sentinel://a:26379,b:26379/ens")
    assert watched.broker_url() == "sentinel://a:26379;sentinel://b:26379?service=ens"
    assert watched.event_log_url() == "redis+sentinel://a:26379,b:26379/ens/1"


def test_every_answer_says_what_it_is_and_names_no_setting_twice() -> None:
    named = dict(answers.fields())
    assert all(info.description for info in named.values())
    assert len({name.replace(".", "-").replace("_", "-") for name in named}) == len(named)
    assert "secret_key" in EnsSettings.model_fields
    assert isinstance(make({"link_address": LINK}), Answers)
