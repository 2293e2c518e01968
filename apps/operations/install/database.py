"""The database before there are tables: whether ENS gets in, and making it where that is asked for.

A password reaches PostgreSQL only as its SCRAM verifier (RFC 5803), so no server log can hold it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg2

from apps.operations.config_xml import Configuration
from apps.operations.install import env_file, sql_server
from apps.operations.install.answers import Answers, Database
from apps.operations.install.runner import Runner, must
from apps.operations.install.steps import Check, StepFailed

_CONNECT_S: Final = 5
_OLDEST: Final = 150000
_ROUNDS: Final = 4096
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")

Existing = Callable[[], Mapping[str, str]]


def check(answers: Answers, existing: Existing, configuration: Configuration | None) -> Check:
    """Whether ENS gets into its database, or may make it; `existing` reads the present ens.env."""
    kind = answers.database.kind
    if kind == "sqlite":
        return Check("Database", lambda: "SQLite, in the data directory")
    if kind == "sqlserver":
        return Check("Database", lambda: sql_server.check(answers, existing()))
    return Check("Database", lambda: _postgresql(answers, existing(), configuration))


def _postgresql(
    answers: Answers, existing: Mapping[str, str], configuration: Configuration | None
) -> str:
    database = answers.database
    try:
        connection = _connect(database, env_file.database_password(answers, existing))
    except psycopg2.Error as error:
        if database.create and configuration is None:
            return "is made"
        raise StepFailed("database", f"No way into the database: {_reason(error)}") from None
    with closing(connection):
        if connection.server_version < _OLDEST:
            raise StepFailed("database_old", "PostgreSQL 15 or newer is needed")
        if configuration is not None and not _knows(connection, configuration):
            raise StepFailed(
                "other_deployment", "This database is not that of the config.xml's deployment"
            )
    return f"PostgreSQL {connection.server_version // 10000}"


def _connect(database: Database, password: str) -> Any:
    return psycopg2.connect(
        host=database.host,
        port=database.port or 5432,
        dbname=database.name,
        user=database.user,
        password=password,
        connect_timeout=_CONNECT_S,
    )


def _knows(connection: Any, configuration: Configuration) -> bool:
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT 1 FROM tenants_organizationgroup WHERE guid = %s",
                (str(configuration.og_guid),),
            )
        except psycopg2.Error:
            return False
        return cursor.fetchone() is not None


def _reason(error: psycopg2.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def scram(password: str, salt: bytes) -> str:
    """The verifier that PostgreSQL keeps of a password (RFC 5803)."""
    normal = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", normal, salt, _ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (b64encode(part).decode("ascii") for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ROUNDS, *parts)


def statements(database: Database, password: str, salt: bytes) -> list[tuple[str, str]]:
    """What to ask, and what to do where the answer is nothing; in this order."""
    user = '"' + database.user.replace('"', '""') + '"'
    literal = "'" + database.user.replace("'", "''") + "'"
    verifier = scram(password, salt)
    return [
        (
            f"SELECT 1 FROM pg_roles WHERE rolname = {literal}",  # noqa: S608 - quoted above
            f"CREATE ROLE {user} LOGIN PASSWORD '{verifier}'",
        ),
        (
            f"SELECT 1 FROM pg_database WHERE datname = '{database.name}'",  # noqa: S608
            f"CREATE DATABASE \"{database.name}\" OWNER {user} ENCODING 'UTF8' TEMPLATE template0",
        ),
    ]


@dataclass(frozen=True)
class CreatePostgresql:
    """The database and its account. Comes after ens.env, where a drawn password already stands."""

    answers: Answers
    existing: Existing
    runner: Runner
    title: str = field(default="Database and its account", init=False)

    def needed(self) -> bool:
        """See Step."""
        return not self._gets_in()

    def describe(self) -> str:
        """See Step."""
        database = self.answers.database
        by = "psql as postgres" if self._by_psql() else self._admin()
        return f"create account {database.user} and database {database.name} (by {by})"

    def apply(self) -> None:
        """See Step."""
        password = env_file.database_password(self.answers, self.existing())
        wanted = statements(self.answers.database, password, os.urandom(16))
        if self._by_psql():
            self._psql(wanted)
        else:
            self._as_admin(wanted)
        if not self._gets_in():
            raise StepFailed(
                "database", "The account is there, but not with this password: name its password"
            )

    def _gets_in(self) -> bool:
        password = env_file.database_password(self.answers, self.existing())
        try:
            _connect(self.answers.database, password).close()
        except psycopg2.Error:
            return False
        return True

    def _by_psql(self) -> bool:
        database = self.answers.database
        return database.admin_password is None and database.host in _LOCAL

    def _admin(self) -> str:
        return self.answers.database.admin_user or "postgres"

    def _psql(self, wanted: Sequence[tuple[str, str]]) -> None:
        """As Debian's postgres account, which needs no password; SQL goes by standard input."""
        argv = ["runuser", "-u", self._admin(), "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"]
        argv += ["-v", "VERBOSITY=terse"]  # else a fault would be shown with its statement
        argv += ["-p", str(self.answers.database.port or 5432), "-d", "postgres"]
        for question, action in wanted:
            if not must(self.runner.run(argv, question), "database", "psql failed").out.strip():
                must(self.runner.run(argv, action), "database", "psql failed")

    def _as_admin(self, wanted: Sequence[tuple[str, str]]) -> None:
        database = self.answers.database
        update = {"name": "postgres", "user": self._admin()}
        given = database.admin_password
        try:
            connection = _connect(
                database.model_copy(update=update), given.get_secret_value() if given else ""
            )
            with closing(connection):
                connection.autocommit = True
                with connection.cursor() as cursor:
                    for question, action in wanted:
                        cursor.execute(question)
                        if cursor.fetchone() is None:
                            cursor.execute(action)
        except psycopg2.Error as error:
            raise StepFailed("database", f"It was not made: {_reason(error)}") from None
