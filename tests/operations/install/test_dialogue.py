"""The dialogue: asks only for what matters and was not said, and shows no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from apps.operations.install.answers import make
from apps.operations.install.dialogue import Console, complete

LINK = "https://ens.example.com/MailNotificationService/api/ens"


class Typist:
    """Types what a test says by the beginning of the question, and else just Enter."""

    def __init__(self, typed: Mapping[str, str], secrets: list[str]) -> None:
        self.asked: list[str] = []
        self.shown: list[str] = []
        self._typed = dict(typed)
        self._secrets = secrets

    def ask(self, question: str) -> str:
        self.asked.append(question)
        assert len(self.asked) < 60, "it asks for ever"
        for beginning in self._typed:
            if question.startswith(beginning):
                return self._typed.pop(beginning)
        return ""

    def ask_secret(self, question: str) -> str:
        self.asked.append(question)
        return self._secrets.pop(0)

    def console(self) -> Console:
        return Console(self.ask, self.ask_secret, self.shown.append)


def test_a_first_server_from_nothing() -> None:
    typist = Typist(
        {"Do you accept": "yes", "Public address": LINK, "Database:": "sqlite"},
        ["correct horse battery 9", "other", "correct horse battery 9", "correct horse battery 9"],
    )
    found = complete({}, typist.console(), "THE LICENCE")
    assert typist.shown == ["THE LICENCE", "The two are not the same."]
    made = make(found)
    assert made.administrator.password is not None
    assert made.administrator.password.get_secret_value() == "correct horse battery 9"
    assert (made.link_address, made.database.kind) == (LINK, "sqlite")
    # SQLite has no server, no Redis no password, no CNS no proxy.
    assert not any("Database server" in q or "proxy" in q for q in typist.asked)


def test_what_was_said_is_not_asked() -> None:
    given: dict[str, Any] = {
        "accept_license": True,
        "components": ["worker"],
        "link_address": LINK,
        "config_xml": "config.xml",
        "config_password_file": "p.txt",
        "database.kind": "postgresql",
        "database.password": SecretStr("x"),
    }
    typist = Typist({}, [])
    found = complete(given, typist.console(), "")
    asked = " ".join(typist.asked)
    for word in ("licence", "What runs", "certificate", "password", "Public address", "group"):
        assert word not in asked
    assert found["database.host"] == "localhost"


def test_without_the_licence_nothing_more_is_asked() -> None:
    typist = Typist({"Do you accept": "no"}, [])
    assert complete({}, typist.console(), "x") == {"accept_license": False}
    assert len(typist.asked) == 1


def test_a_wrong_choice_is_asked_again() -> None:
    typist = Typist({"Database:": "oracle"}, ["secret"] * 3)
    found = complete({"accept_license": True, "link_address": LINK}, typist.console(), "")
    assert found["database.kind"] == "postgresql"
    assert "One of postgresql, sqlserver, sqlite, please." in typist.shown


@pytest.mark.parametrize("components", ["beat", "relay"])
def test_tls_files_are_asked_for_where_something_listens(components: str) -> None:
    typist = Typist({}, ["secret"] * 3)
    given = {"accept_license": True, "components": components, "link_address": LINK}
    complete(given, typist.console(), "")
    assert any("certificate" in q for q in typist.asked) is (components == "relay")
