"""What the Windows guide and the page on databases say, as far as it can be tried here."""

from __future__ import annotations

import re
from pathlib import Path

import dj_database_url
import pytest

from apps.operations.install import answers as answering
from apps.operations.install import iis, sql_server, windows
from ens_project.env import BASE_DIR

WINDOWS = (BASE_DIR / "docs" / "install-windows.md").read_text("utf-8")
DATABASES = (BASE_DIR / "docs" / "databases.md").read_text("utf-8")


def test_the_answers_of_the_windows_guide_are_answers(tmp_path: Path) -> None:
    (text,) = re.findall(r"(?s)```toml\n(.*?)```", WINDOWS)
    (tmp_path / "answers.toml").write_text(text, "utf-8")
    (tmp_path / "administrator.txt").write_text("correct horse battery 9\n")
    made = answering.make(answering.read_file(tmp_path / "answers.toml"))
    assert [one.name for one in windows.windows_services(made)] == ["ENSWorker", "ENSBeat"]
    assert "MultiSubnetFailover" in made.database.url()


def test_the_windows_guide_names_what_is_done() -> None:
    assert f"0x{iis.HTTPERR_FIELDS:x}" in WINDOWS
    named = {name for name, _ in answering.fields()} | {"web.config"}
    for name in re.findall(r"`((?:service|database|web|iis|cns|worker)\.[a-z_]+)`", WINDOWS):
        assert name in named, name


@pytest.mark.parametrize("url", re.findall(r"`(mssql://[^`]+)`", DATABASES))
def test_the_urls_of_the_page_are_read(url: str) -> None:
    found = dj_database_url.parse(url.replace("<password>", "x"))
    # ens_project/settings.py says which back end that is.
    assert (found["ENGINE"], found["NAME"]) == ("mssql", "ens")
    assert found["OPTIONS"]["driver"] == "ODBC Driver 18 for SQL Server"


def test_the_statements_of_the_page_are_the_installers() -> None:
    database = answering.Database(kind="sqlserver")
    assert sql_server.snapshot_on(database) in DATABASES
    for role in sql_server.ROLES:
        assert f"ALTER ROLE {role} ADD MEMBER [ens]" in DATABASES
