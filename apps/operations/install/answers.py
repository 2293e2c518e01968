"""All that `ens_install` must know, from an answers file (TOML), from options or from the dialogue.

Every answer is a field of a model below; its description is the help of its option and the question
of the dialogue. A secret (`SecretStr`) is never written out: the file and the options name a file
that holds it, by the same name with `_file` behind it, and the dialogue asks without an echo.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import quote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from ens_project.env import BASE_DIR

Port = Annotated[int, Field(ge=1, le=65535)]
Component = Literal["web", "console", "worker", "beat", "relay"]
COMPONENTS: Final[tuple[Component, ...]] = get_args(Component)
_MOST_BYTES: Final = 1024 * 1024


class AnswersInvalid(Exception):
    """An answer is missing or can't be used; the message is one line that names it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Database(_Section):
    """Where the tables are."""

    kind: Literal["postgresql", "sqlserver", "sqlite"] = Field(
        "postgresql", description="Database: postgresql, sqlserver, or sqlite for a trial"
    )
    host: str = Field("localhost", description="Database server; an AlwaysOn listener's name")
    port: Port | None = Field(None, description="Its port; default: the usual one")
    name: str = Field("ens", pattern=r"^[A-Za-z0-9_]{1,63}$", description="Name of the database")
    user: str = Field("ens", description="Account at the database server")
    password: SecretStr | None = Field(None, description="Its password")
    windows_account: bool = Field(
        False, description="Log in at SQL Server as the Windows account of the service"
    )
    multi_subnet_failover: bool = Field(
        False, description="The SQL Server is an AlwaysOn availability group's listener"
    )
    odbc_driver: str = Field(
        "ODBC Driver 18 for SQL Server", description="Microsoft's driver for SQL Server"
    )
    create: bool = Field(False, description="Create database and account if they are missing")
    admin_user: str = Field(
        "", description="Who may create them; empty: on Linux the local account postgres"
    )
    admin_password: SecretStr | None = Field(None, description="The password of who may")

    def url(self, password: str = "") -> str:
        """`ENS_DATABASE_URL`, with a secret in it; empty for SQLite in the data directory."""
        if self.kind == "sqlite":
            return ""
        secret = self.password.get_secret_value() if self.password else password
        user = quote(self.user, safe="") if not self.windows_account else ""
        login = f"{user}:{quote(secret, safe='')}@" if user else ""
        port = f":{self.port}" if self.port else ""
        if self.kind == "postgresql":
            return f"postgres://{login}{self.host}{port}/{self.name}"
        query = [f"driver={quote(self.odbc_driver)}"]
        extra = []
        if self.windows_account:
            extra.append("Trusted_Connection=yes")
        if self.multi_subnet_failover:
            extra.append("MultiSubnetFailover=yes")
        if extra:
            query.append(f"extra_params={quote(';'.join(extra))}")
        return f"mssql://{login}{self.host}{port}/{self.name}?{'&'.join(query)}"


class Redis(_Section):
    """The broker and the event log in Redis; without an address both are elsewhere."""

    url: str = Field(
        "",
        pattern=r"^$|^rediss?://[^/?#\s@]+$|^rediss?\+sentinel://[^/?#\s@]+/[A-Za-z0-9._-]+$",
        description="Redis: redis://host:6379, or redis+sentinel://host:26379,host:26379/service; "
        "empty for none",
    )
    password: SecretStr | None = Field(None, description="Its password")

    def broker_url(self) -> str:
        """`ENS_BROKER_URL`, with a secret in it."""
        scheme, _, rest = self.url.partition("://")
        if "+sentinel" not in scheme:
            return f"{scheme}://{self._login()}{rest}/0"
        hosts, _, service = rest.partition("/")
        nodes = (f"sentinel://{self._login()}{host}" for host in hosts.split(","))
        return f"{';'.join(nodes)}?service={service}"

    def event_log_url(self) -> str:
        """`ENS_EVENT_LOG_URL`, with a secret in it."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{self._login()}{rest}/1"

    def _login(self) -> str:
        return f":{quote(self.password.get_secret_value(), safe='')}@" if self.password else ""


class Cns(_Section):
    """The Cloud Notification Service, and the way to it."""

    url: str = Field(
        "", pattern=r"^$|^https?://[^?#\s]+$", description="Address of the CNS; empty: set it later"
    )
    pins: list[str] = Field([], description="Pins of its certificate, by comma")
    ca_file: Path | None = Field(None, description="PEM bundle of private CAs for it")
    proxy_url: str = Field(
        "",
        pattern=r"^$|^http://[^/?#\s@]+/?$",
        description="HTTP proxy on the way to it, http://proxy.example.com:8080; empty for none",
    )
    proxy_auth: Literal["none", "basic", "ntlm", "negotiate"] = Field(
        "none", description="How to log in at the proxy: none, basic, ntlm or negotiate"
    )
    proxy_user: str = Field("", description="Account at the proxy; empty: that of the service")
    proxy_password: SecretStr | None = Field(None, description="Its password")


class Tls(_Section):
    """What the web server shows."""

    certificate_file: Path | None = Field(None, description="PEM file: certificate and its chain")
    key_file: Path | None = Field(None, description="PEM file: its private key")


class Web(_Section):
    """What Exchange and the phones call."""

    listen: list[str] = Field(
        ["443", "[::]:443"], min_length=1, description="Where the web server listens, by comma"
    )
    port: Port = Field(8000, description="Loopback port of ENS behind it")
    processes: int = Field(1, ge=1, le=64, description="Processes that answer")
    threads: int = Field(8, ge=1, le=64, description="Threads of each process")


class Console(_Section):
    """The administrators' pages, on a listener that the internet need not reach."""

    listen: list[str] = Field(
        ["8443", "[::]:8443"], min_length=1, description="Where the console listens, by comma"
    )
    port: Port = Field(8001, description="Loopback port of ENS behind it")


class Relay(_Section):
    """Our own CNS, where it stands on this server: called at the address that `cns.url` gives."""

    listen: list[str] = Field(
        ["443", "[::]:443"], min_length=1, description="Where the relay listens, by comma"
    )
    port: Port = Field(8002, description="Loopback port of the relay behind it")


class Iis(_Section):
    """On Windows: how IIS hands requests to ENS."""

    gateway: Literal["httpplatform", "wfastcgi"] = Field(
        "httpplatform",
        description="On Windows: httpplatform (HttpPlatformHandler), or wfastcgi where that can't "
        "be installed",
    )


class Worker(_Section):
    """Who fetches and pushes."""

    processes: int = Field(1, ge=1, le=64, description="Worker processes")
    threads: int = Field(4, ge=1, le=64, description="Threads of each")


class Service(_Section):
    """As whom ENS runs, and who starts it."""

    account: str = Field(
        "ens", pattern=r"^[^\s:/]+$", description="Service account; made if it is missing"
    )
    password: SecretStr | None = Field(None, description="Its password, on Windows")
    manager: Literal["system", "none"] = Field(
        "system",
        description="Who starts ENS: system (systemd or Windows services), or none: files are "
        "written, nothing is started",
    )


class Administrator(_Section):
    """The first administrator of the console."""

    name: str = Field("admin", min_length=1, max_length=150, description="Administrator's name")
    password: SecretStr | None = Field(None, description="Administrator's password")


class Answers(_Section):
    """All answers. Paths are absolute once loaded."""

    accept_license: bool = Field(False, description="Accept the licence (the file LICENSE)")
    components: list[Component] = Field(
        ["web", "console", "worker", "beat"],
        min_length=1,
        description=f"What runs on this server, by comma: {', '.join(COMPONENTS)}",
    )
    link_address: str = Field(
        "",
        pattern=r"^$|^https://[^/?#\s@]+(/[^?#\s]*)?/api/ens$",
        description="Public address: https://<host>/MailNotificationService/api/ens",
    )
    location: Path = Field(BASE_DIR, description="Directory of the programs; copied there")
    root: Path | None = Field(
        None,
        description="For trials: directory under which everything is written, named with it",
    )
    python: Path = Field(Path(sys.executable), description="Python that runs ENS")
    master_key_file: Path | None = Field(
        None, description="Master key file to take over; empty: a new one, or the config.xml's"
    )
    secret_key: SecretStr | None = Field(
        None, description="ENS_SECRET_KEY of the deployment, for a further server"
    )
    organization_group: str = Field(
        "Company", min_length=1, max_length=100, description="Name of the root organization group"
    )
    token_label: str = Field(
        "mail app", min_length=1, max_length=100, description="What the first API token is for"
    )
    config_xml: Path | None = Field(
        None, description="config.xml of the deployment that this server joins"
    )
    config_password: SecretStr | None = Field(None, description="The password of the config.xml")
    database: Database = Database()
    redis: Redis = Redis()
    cns: Cns = Cns()
    tls: Tls = Tls()
    web: Web = Web()
    console: Console = Console()
    relay: Relay = Relay()
    iis: Iis = Iis()
    worker: Worker = Worker()
    service: Service = Service()
    administrator: Administrator = Administrator()
    settings: dict[str, str] = Field(
        {},
        repr=False,
        description="Further lines of ens.env, NAME=VALUE (docs/settings.md); may be repeated",
    )

    @field_validator("settings", mode="before")
    @classmethod
    def _settings_named(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if not str(name).startswith("ENS_") or not str(name).replace("_", "").isalnum():
                    raise ValueError("every name begins ENS_")
            return {name: str(given) for name, given in value.items()}
        return value

    @model_validator(mode="after")
    def _together(self) -> Answers:
        if self.cns.proxy_auth == "basic" and not self.cns.proxy_user:
            raise ValueError("cns.proxy_user is missing: Basic needs one")
        if (self.tls.certificate_file is None) is not (self.tls.key_file is None):
            raise ValueError("tls.certificate_file and tls.key_file go together")
        if self.runs("web") and self.runs("console"):
            shared = set(self.web.listen) & set(self.console.listen)
            if shared:
                raise ValueError(f"console.listen: the web server has {min(shared)} already")
        if self.root is not None and self.service.manager != "none":
            raise ValueError('root goes with service.manager = "none" only')
        if self.runs("relay") and not self.cns.url:
            raise ValueError("cns.url is missing: the address at which the relay is called")
        if not self.relay_only and not self.link_address:
            raise ValueError("link_address is missing")
        return self

    @property
    def relay_only(self) -> bool:
        """Whether this is a relay of its own, with its own database and keys."""
        return self.components == ["relay"]

    @property
    def host(self) -> str:
        """The public host name, without a port."""
        return urlsplit(self.link_address or self.cns.url).hostname or ""

    @property
    def cns_host(self) -> str:
        """The host name of the CNS, without a port; empty where there is none."""
        return urlsplit(self.cns.url).hostname or ""

    @property
    def url_prefix(self) -> str:
        """`ENS_URL_PREFIX`: what stands before `/api/ens` in the link address."""
        return urlsplit(self.link_address).path.removesuffix("/api/ens")

    def runs(self, *components: Component) -> bool:
        """Whether one of these runs on this server."""
        return any(component in self.components for component in components)


def fields(model: type[BaseModel] = Answers, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every answer: its dotted name, like `database.host`, and what is known about it."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", info


def is_secret(info: FieldInfo) -> bool:
    """Whether the answer is named by a file that holds it."""
    return SecretStr in (info.annotation, *get_args(info.annotation))


def is_path(info: FieldInfo) -> bool:
    """Whether the answer is a file or directory."""
    return Path in (info.annotation, *get_args(info.annotation))


def is_list(info: FieldInfo) -> bool:
    """Whether the answer is a list, written by comma in options and in the dialogue."""
    return "list[" in str(info.annotation)


def read_file(file: Path) -> dict[str, Any]:
    """What an answers file says, by dotted names; relative paths are taken from its directory.

    Raises:
        AnswersInvalid: it can't be read, or names what is no answer.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES).decode("utf-8-sig")
        found = tomllib.loads(text)
    except OSError as error:
        raise AnswersInvalid(f"{file} can't be read ({type(error).__name__})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # Its text may quote a line, which may hold what should not be there.
        raise AnswersInvalid(f"{file} is no TOML file ({type(error).__name__})") from None
    known = dict(fields())
    given = dict(_flat(found))
    return {
        name: _anchored(value, file.absolute().parent) if _names_file(name, known) else value
        for name, value in given.items()
    }


def make(given: Mapping[str, Any]) -> Answers:
    """The answers, from values by dotted names; secrets are read from the files that name them.

    Raises:
        AnswersInvalid: one is unknown, missing or malformed, or a secret stands in clear.
    """
    known = dict(fields())
    tree: dict[str, Any] = {}
    for name, value in given.items():
        info = known.get(name)
        if info is None:
            name, value = name.removesuffix("_file"), _secret(name, value, known)
        elif is_secret(info) and not isinstance(value, SecretStr | None):
            raise AnswersInvalid(f"{name} is a secret: write it to a file, and name it {name}_file")
        elif is_path(info) and value not in (None, ""):
            value = _anchored(value, Path.cwd())
        elif is_list(info) and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if is_path(known[name]) and value == "":
            continue
        branch = tree
        *sections, leaf = name.split(".")
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    try:
        return Answers.model_validate(tree)
    except ValidationError as error:
        raise AnswersInvalid(_one_line(error)) from None


def _secret(name: str, value: Any, known: Mapping[str, FieldInfo]) -> SecretStr:
    info = known.get(name.removesuffix("_file"))
    if info is None or not name.endswith("_file") or not is_secret(info):
        raise AnswersInvalid(f"{name} is no answer that ens_install knows")
    return secret_of(name, value)


def secret_of(name: str, value: Any) -> SecretStr:
    """The first line of the file that the answer `name` names.

    Raises:
        AnswersInvalid: it can't be read, or is empty.
    """
    try:
        with _anchored(value, Path.cwd()).open("rb") as opened:
            lines = opened.read(_MOST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise AnswersInvalid(f"{name}: the file can't be read ({type(error).__name__})") from None
    if not lines or not lines[0]:
        raise AnswersInvalid(f"{name}: the file's first line is empty")
    return SecretStr(lines[0])


def _names_file(name: str, known: Mapping[str, FieldInfo]) -> bool:
    info = known.get(name)
    return name.endswith("_file") if info is None else is_path(info)


def _anchored(value: Any, directory: Path) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise AnswersInvalid("a path is empty, or no text")
    return directory / Path(value).expanduser()


def _flat(found: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict) and f"{path}{name}" != "settings":
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _one_line(error: ValidationError) -> str:
    """The first fault, without its value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    text = first["msg"].removeprefix("Value error, ")
    return f"{name}: {text}" if name else text
