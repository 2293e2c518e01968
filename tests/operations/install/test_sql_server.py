"""SQL Server: what it is told, and what ENS's own way in looks like. No SQL Server runs here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps.operations.install import answers as answering
from apps.operations.install import sql_server
from apps.operations.install.answers import Answers
from apps.operations.install.sql_server import CreateSqlServer
from apps.operations.install.steps import StepFailed
from ens_project.env import BASE_DIR
from tests.operations.install.deployment import clean

DRIVER = "ODBC Driver 18 for SQL Server"


class Error(Exception):
    """pyodbc.Error."""


class Server:
    """A SQL Server behind a pretend pyodbc: who may get in, and what was executed."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self.statements: list[tuple[str, str]] = []
        self.databases: set[str] = {"master"}
        self.snapshot = False
        self.logins: set[str] = set()
        self.pyodbc = SimpleNamespace(Error=Error, drivers=lambda: [DRIVER], connect=self.connect)

    def connect(self, told: str, **_options: Any) -> Any:
        self.strings.append(told)
        words = dict(part.partition("=")[::2] for part in told.split(";"))
        name = words["DATABASE"].strip("{}")
        user = words.get("UID", "{sa}").strip("{}")
        if name not in self.databases or (user != "sa" and user not in self.logins):
            raise Error("28000", "secret text of the driver")

        def execute(statement: str) -> Any:
            self.statements.append((name, statement))
            if "CREATE DATABASE" in statement:
                self.databases.add("ens")
            if "SET READ_COMMITTED_SNAPSHOT ON" in statement:
                self.snapshot = True
            if "CREATE LOGIN" in statement:
                self.logins.add("ens o'hara]")
            return SimpleNamespace(fetchone=lambda: (self.snapshot,))

        cursor = SimpleNamespace(execute=execute)
        return SimpleNamespace(cursor=lambda: cursor, close=lambda: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setitem(sys.modules, "pyodbc", made.pyodbc)
    return made


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    (tmp_path / "p").write_text("pa;ss}word'\n")
    return answering.make(
        {
            "link_address": "https://ens.example.com/MailNotificationService/api/ens",
            "database.kind": "sqlserver",
            "database.host": "listener.example.com",
            "database.user": "ens o'hara]",
            "database.password_file": str(tmp_path / "p"),
            "database.create": True,
            "database.multi_subnet_failover": True,
            "database.admin_user": "sa",
            "database.admin_password_file": str(tmp_path / "p"),
        }
    )


def test_the_database_is_made_once_with_readers_that_block_nobody(
    server: Server, answers: Answers
) -> None:
    step = CreateSqlServer(answers, dict, answers.database.user)
    assert sql_server.check(answers, {}) == "is made"
    assert step.needed()
    assert "pa;ss" not in step.describe()
    server.statements.clear()
    step.apply()
    member = (
        "IF IS_ROLEMEMBER(N'{0}', N'ens o''hara]') = 0 ALTER ROLE {0} ADD MEMBER [ens o'hara]]]"
    )
    assert server.statements[:-1] == [
        ("master", "IF DB_ID(N'ens') IS NULL CREATE DATABASE [ens]"),
        ("master", "ALTER DATABASE [ens] SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"),
        (
            "master",
            "IF SUSER_ID(N'ens o''hara]') IS NULL CREATE LOGIN [ens o'hara]]] "
            "WITH PASSWORD = N'pa;ss}word'''",
        ),
        (
            "ens",
            "IF USER_ID(N'ens o''hara]') IS NULL "
            "CREATE USER [ens o'hara]]] FOR LOGIN [ens o'hara]]]",
        ),
        ("ens", member.format("db_datareader")),
        ("ens", member.format("db_datawriter")),
        ("ens", member.format("db_ddladmin")),
    ]
    assert not step.needed()
    assert sql_server.check(answers, {}) == "SQL Server"


def test_how_it_logs_in(answers: Answers) -> None:
    database = answers.database
    assert sql_server.connection_string(database, "ens", "pa;ss}word'") == (
        "DRIVER={ODBC Driver 18 for SQL Server};SERVER={listener.example.com};DATABASE={ens};"
        "UID={ens};PWD={pa;ss}}word'};MultiSubnetFailover={yes}"
    )
    assert "Trusted_Connection={yes}" in sql_server.connection_string(database, "", "")


def test_without_leave_to_change_it_the_statement_is_named(
    server: Server, answers: Answers
) -> None:
    server.databases.add("ens")
    server.logins.add("ens o'hara]")
    by_hand = answers.model_copy(
        update={"database": answers.database.model_copy(update={"create": False})}
    )
    with pytest.raises(StepFailed, match="SET READ_COMMITTED_SNAPSHOT ON"):
        sql_server.check(by_hand, {})
    server.snapshot = True
    assert sql_server.check(by_hand, {}) == "SQL Server"
    server.logins.clear()
    with pytest.raises(StepFailed, match=r"28000") as failed:
        sql_server.check(by_hand, {})
    assert "secret text" not in str(failed.value)


def test_a_windows_account_needs_no_password(server: Server, answers: Answers) -> None:
    own = answers.database.model_copy(update={"windows_account": True, "password": None})
    made = sql_server.server_statements(own, "EXAMPLE\\svc-ens$", "")
    assert made[-1] == (
        "IF SUSER_ID(N'EXAMPLE\\svc-ens$') IS NULL CREATE LOGIN [EXAMPLE\\svc-ens$] FROM WINDOWS"
    )
    assert sql_server.database_statements("") == []
    update = {"database": own}
    step = CreateSqlServer(answers.model_copy(update=update), dict, "")
    step.apply()
    assert server.logins == set()
    assert not step.needed()


def test_the_driver_must_be_there(server: Server, answers: Answers) -> None:
    server.pyodbc.drivers = lambda: ["SQL Server"]
    with pytest.raises(StepFailed, match="ODBC Driver 18"):
        sql_server.check(answers, {})


# --- what ENS makes of ENS_DATABASE_URL --------------------------------------------------------


# What mssql-django makes of our settings, without Microsoft's driver.
SHOW = """
import sys
from types import ModuleType
driver = ModuleType("pyodbc")
driver.version = "5.5.0"
driver.__getattr__ = lambda name: type(name, (Exception,), {})
sys.modules["pyodbc"] = driver
import django
django.setup()
from django.db import connection
options = connection.settings_dict["OPTIONS"]
print(connection._build_connection_string(connection.get_connection_params(), options["driver"]))
print([options[name] for name in ("connection_timeout", "query_timeout", "connection_retries")])
"""


def shown(database: answering.Database, home: Path) -> str:
    environment = clean() | {
        "ENS_DATABASE_URL": database.url(),
        "ENS_SECRET_KEY": "only-for-tests-0123456789-0123456789",
        "ENS_LINK_ADDRESS": "https://ens.example.com/MailNotificationService/api/ens",
        "ENS_DATA_DIR": str(home),
        "ENS_MASTER_KEY_FILE": "none",
        "ENS_ENV_FILE": "none",
        "DJANGO_SETTINGS_MODULE": "ens_project.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ens_logs_in_as_the_installer_did(answers: Answers, tmp_path: Path) -> None:
    found = shown(answers.database, tmp_path)
    assert f"DRIVER={DRIVER};" in found
    assert "SERVER=listener.example.com;" in found
    assert "UID=ens o'hara];PWD={pa;ss}}word'}" in found
    assert "MultiSubnetFailover=yes" in found
    assert found.endswith("[5, 15, 0]\n")
    own = answers.database.model_copy(update={"windows_account": True, "port": 1444})
    found = shown(own, tmp_path)
    assert "Trusted_Connection=yes" in found
    assert "SERVER=listener.example.com,1444;" in found
    assert "UID" not in found
