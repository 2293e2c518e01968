"""The database before there are tables, on a real PostgreSQL."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import psycopg2
import pytest
from pydantic import SecretStr

from apps.operations.install import database
from apps.operations.install.answers import Answers, Database, make
from apps.operations.install.steps import StepFailed
from tests.operations.install.recorder import Completed, Recorder
from tests.postgres import Postgres, postgres  # noqa: F401

LINK = "https://ens.example.com/MailNotificationService/api/ens"
PASSWORD = "päss 'wörd"


@pytest.fixture
def named(postgres: Postgres) -> dict[str, Any]:  # noqa: F811
    """Answers that make a database which isn't there yet."""
    made = postgres.create_database()
    return {
        "database.host": made["HOST"],
        "database.port": made["PORT"],
        "database.name": f"{made['NAME']}_new",
        "database.user": f"{made['NAME']}_user",
        "database.create": "yes",
        "database.admin_user": made["USER"],
        "database.admin_password": SecretStr(made["PASSWORD"]),
    }


def answered(given: dict[str, Any]) -> Answers:
    return make({"link_address": LINK} | given)


def checked(given: dict[str, Any], existing: dict[str, str] | None = None) -> str:
    return database.check(answered(given), lambda: existing or {}, None).run()


def creation(given: dict[str, Any], existing: dict[str, str]) -> database.CreatePostgresql:
    return database.CreatePostgresql(answered(given), lambda: existing, Recorder())


def test_account_and_database_are_made_once(named: dict[str, Any]) -> None:
    user = named["database.user"]
    existing = {"ENS_DATABASE_URL": f"postgres://{user}:{quote(PASSWORD)}@h/x"}
    assert checked(named, existing) == "is made"
    step = creation(named, existing)
    assert step.needed()
    assert user in step.describe() and PASSWORD not in step.describe()
    step.apply()
    assert not step.needed()
    step.apply()
    assert checked(named, existing).startswith("PostgreSQL 1")
    # Somebody else's password for an account that is there already is not forced upon it.
    other = creation(named, {"ENS_DATABASE_URL": f"postgres://{user}:other@h/x"})
    assert other.needed()
    with pytest.raises(StepFailed, match="not with this password"):
        other.apply()


def test_no_way_in_is_said_before_anything_is_done(named: dict[str, Any]) -> None:
    without = named | {"database.create": "no", "database.password": SecretStr(PASSWORD)}
    with pytest.raises(StepFailed) as failed:
        checked(without)
    assert failed.value.code == "database" and PASSWORD not in str(failed.value)
    wrong = named | {"database.admin_password": SecretStr(PASSWORD)}
    with pytest.raises(StepFailed) as failed:
        creation(wrong, {}).apply()
    assert PASSWORD not in str(failed.value)


def test_the_local_postgres_account_is_asked_by_psql_and_sees_no_password() -> None:
    record = Recorder(lambda argv: Completed(0, ""))
    made = answered({"database.create": "yes", "database.host": "localhost", "database.port": "1"})
    step = database.CreatePostgresql(
        made, lambda: {"ENS_DATABASE_URL": f"postgres://ens:{quote(PASSWORD)}@h/x"}, record
    )
    with pytest.raises(StepFailed):
        step.apply()
    assert {tuple(command[:5]) for command in record.commands} == {
        ("runuser", "-u", "postgres", "--", "psql")
    }
    assert len(record.inputs) == 4
    assert "SCRAM-SHA-256$4096:" in str(record.inputs[1])
    assert not any(PASSWORD in str(said) for said in [*record.commands, *record.inputs])


def test_names_can_not_break_out() -> None:
    odd = Database(user='e"; DROP ROLE x; --', password=SecretStr("x"))
    (_, role), _ = database.statements(odd, "x", bytes(16))
    assert role.startswith('CREATE ROLE "e""; DROP ROLE x; --" LOGIN')


def test_the_verifier_is_the_servers_own(postgres: Postgres) -> None:  # noqa: F811
    """PostgreSQL hashes the same password with the same salt to the same line."""
    made = postgres.create_database()
    connection = psycopg2.connect(
        host=made["HOST"], port=made["PORT"], user=made["USER"],
        password=made["PASSWORD"], dbname=made["NAME"],
    )  # fmt: skip
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE verified LOGIN PASSWORD 'plain one'")
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'verified'")
        (kept,) = cursor.fetchone()
        cursor.execute("DROP ROLE verified")
    connection.close()
    import base64

    salt = base64.b64decode(kept.split("$")[1].partition(":")[2])
    assert database.scram("plain one", salt) == kept


def test_a_sql_server_needs_its_driver() -> None:
    with pytest.raises(StepFailed) as failed:
        checked({"database.kind": "sqlserver", "database.odbc_driver": "No such driver"})
    assert failed.value.code == "odbc_missing"
    assert urlsplit(answered({"database.kind": "sqlserver"}).database.url("x")).scheme == "mssql"
