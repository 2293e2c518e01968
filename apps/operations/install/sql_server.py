"""SQL Server before there are tables: the way in, and making the database where that is asked for.

Readers must not block writers: READ_COMMITTED_SNAPSHOT is on, or nothing is installed.
https://learn.microsoft.com/sql/t-sql/statements/alter-database-transact-sql-set-options
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from apps.operations.install import env_file
from apps.operations.install.answers import Answers, Database
from apps.operations.install.steps import StepFailed

_CONNECT_S: Final = 5
_SNAPSHOT: Final = (
    "SELECT is_read_committed_snapshot_on FROM sys.databases WHERE database_id = DB_ID()"
)
# Tables are made and changed by upgrades, so reading and writing is not enough.
ROLES: Final = ("db_datareader", "db_datawriter", "db_ddladmin")

Existing = Callable[[], Mapping[str, str]]


def check(answers: Answers, existing: Mapping[str, str]) -> str:
    """What is found, for people.

    Raises:
        StepFailed: no driver, no way in, or readers would block writers.
    """
    database = answers.database
    if database.odbc_driver not in _pyodbc().drivers():
        raise StepFailed("odbc_missing", f"There is no {database.odbc_driver} on this server")
    password = env_file.database_password(answers, existing)
    try:
        if _is_ready(database, password):
            return "SQL Server"
    except _pyodbc().Error as error:
        if database.create:
            return "is made"
        raise StepFailed("database", f"No way into the SQL Server ({_state(error)})") from None
    if database.create:
        return "gets READ_COMMITTED_SNAPSHOT"
    raise StepFailed(
        "read_committed_snapshot", f"Have its administrator run: {snapshot_on(database)}"
    )


def connection_string(
    database: Database, user: str, password: str, *, name: str | None = None
) -> str:
    """How ODBC is told to log in; without a user as the Windows account of this process."""
    words = {
        "DRIVER": database.odbc_driver,
        # A named instance is found by name, not by port.
        "SERVER": database.host + (f",{database.port}" if database.port else ""),
        "DATABASE": name or database.name,
    }
    if user:
        words |= {"UID": user, "PWD": password}
    else:
        words["Trusted_Connection"] = "yes"
    if database.multi_subnet_failover:
        words["MultiSubnetFailover"] = "yes"
    return ";".join(f"{word}={_braced(value)}" for word, value in words.items())


def snapshot_on(database: Database) -> str:
    """The statement that lets readers see what was committed, instead of waiting."""
    return (
        f"ALTER DATABASE {_name(database.name)} "
        "SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"
    )


def server_statements(database: Database, login: str, password: str) -> list[str]:
    """What is run in `master`: the database, and who may log in. Runs again without harm."""
    how = f"WITH PASSWORD = {_text(password)}" if password else "FROM WINDOWS"
    found = [
        f"IF DB_ID({_text(database.name)}) IS NULL CREATE DATABASE {_name(database.name)}",
        snapshot_on(database),
    ]
    if login:
        found.append(f"IF SUSER_ID({_text(login)}) IS NULL CREATE LOGIN {_name(login)} {how}")
    return found


def database_statements(login: str) -> list[str]:
    """What is run in the new database: what the login may do there."""
    if not login:
        return []
    user = f"CREATE USER {_name(login)} FOR LOGIN {_name(login)}"
    member = "IF IS_ROLEMEMBER({role}, {login}) = 0 ALTER ROLE {name} ADD MEMBER {user}"
    return [
        f"IF USER_ID({_text(login)}) IS NULL {user}",
        *(
            member.format(role=_text(role), login=_text(login), name=role, user=_name(login))
            for role in ROLES
        ),
    ]


@dataclass(frozen=True)
class CreateSqlServer:
    """The database, its setting, and the account's rights in it.

    With Windows accounts only a group-managed one gets its rights here: that of the computer, as
    which services log in elsewhere, is named by whoever knows the domain (docs/databases.md).
    """

    answers: Answers
    existing: Existing
    login: str
    title: str = field(default="SQL Server's database and its account", init=False)

    def needed(self) -> bool:
        """See Step."""
        try:
            return not _is_ready(self.answers.database, self._password())
        except _pyodbc().Error:
            return True

    def describe(self) -> str:
        """See Step: without the password."""
        database = self.answers.database
        shown = "***" if self._password() else ""
        made = server_statements(database, self.login, shown) + database_statements(self.login)
        return "\n".join(made)

    def apply(self) -> None:
        """See Step."""
        database, password = self.answers.database, self._password()
        given = database.admin_password
        admin = (database.admin_user, given.get_secret_value() if given else "")
        try:
            _execute(
                connection_string(database, *admin, name="master"),
                server_statements(database, self.login, password),
            )
            _execute(connection_string(database, *admin), database_statements(self.login))
            well = _is_ready(database, password)
        except _pyodbc().Error as error:
            raise StepFailed("database", f"It was not made ({_state(error)})") from None
        if not well:
            raise StepFailed("read_committed_snapshot", "READ_COMMITTED_SNAPSHOT is still off")

    def _password(self) -> str:
        if self.answers.database.windows_account:
            return ""
        return env_file.database_password(self.answers, self.existing())


def _is_ready(database: Database, password: str) -> bool:
    """Whether ENS gets in and readers don't block; raises pyodbc.Error."""
    user = "" if database.windows_account else database.user
    told = connection_string(database, user, password)
    with closing(_pyodbc().connect(told, timeout=_CONNECT_S)) as connection:
        row = connection.cursor().execute(_SNAPSHOT).fetchone()
    return row is not None and bool(row[0])


def _execute(told: str, statements: list[str]) -> None:
    with closing(_pyodbc().connect(told, timeout=_CONNECT_S, autocommit=True)) as connection:
        for statement in statements:
            connection.cursor().execute(statement)


def _pyodbc() -> Any:
    try:
        return import_module("pyodbc")
    except ImportError:
        raise StepFailed("odbc_missing", "Install Microsoft's ODBC driver") from None


def _state(error: Exception) -> str:
    """The SQLSTATE; the text may repeat what it was given."""
    return str(error.args[0]) if error.args else type(error).__name__


def _braced(value: str) -> str:
    """A value of a connection string, which may hold semicolons and braces."""
    return "{" + value.replace("}", "}}") + "}"


def _name(value: str) -> str:
    return "[" + value.replace("]", "]]") + "]"


def _text(value: str) -> str:
    return "N'" + value.replace("'", "''") + "'"
