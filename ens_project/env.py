"""Every setting of ENS, read once from `ens.env` and the process environment.

A setting is documented where it is defined: `docs/settings.md` is generated from the descriptions
below (`python manage.py ens_settings`). The environment wins over the file, and each value may
instead be kept in a file of its own, named by the same setting with `_FILE` behind it.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

BASE_DIR = Path(__file__).resolve().parent.parent
PREFIX = "ENS_"

Role = Literal["device-api", "notify", "metrics", "console", "admin-api", "relay"]


class SettingsInvalid(Exception):
    """The settings can't be used; the message is one line that names the setting and the fault."""


class LdapGroup(BaseModel):
    """What members of a group of the directory are: a role everywhere, or in a group of ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system_administrator", "og_administrator", "help_desk", "auditor"]
    og: UUID | None = None
    dn: str = Field(min_length=3, pattern=r"=")


class EnsSettings(BaseModel):
    """The settings of one ENS process; field names are the lower-case names in `ens.env`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret_key: SecretStr = Field(
        min_length=32,
        description="Django's secret key: 32 characters or more, random, the same on all servers.",
    )
    link_address: str = Field(
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
        description="The public address of the device API, as Exchange and the phones reach it: "
        "`https://<host>/MailNotificationService/api/ens`. Webhook URLs begin with it.",
    )
    url_prefix: str = Field(
        "/MailNotificationService",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path under which this process is mounted; may be empty.",
    )
    roles: list[Role] = Field(
        default=["device-api", "notify", "metrics"],
        min_length=1,
        description="What this process serves, by comma: `device-api`, `notify` (the webhook "
        "that Exchange calls), `metrics` (for Prometheus), `console` (for administrators), "
        "`admin-api` (for their programs), `relay` (our CNS). Keep `console` and `admin-api` off a "
        "listener that the internet reaches. A process "
        "with the role `relay` alone needs only the relay's tables.",
    )
    data_dir: Path = Field(
        BASE_DIR / "var",
        description="Directory for what the embedded default keeps: database, broker folders.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`sqlite:///<path>`, `postgres://…` or `mssql://…`. Default: SQLite in "
        "`ENS_DATA_DIR`.",
    )
    master_key_file: Path = Field(
        description="File with the master key (several during rotation), readable by the service "
        "account only. `python manage.py ens_master_key` makes one.",
    )
    broker_url: SecretStr = Field(
        SecretStr("filesystem://"),
        description="Celery's broker: `redis://…`, `sentinel://host:port;sentinel://host:port"
        "?service=<master's name>` for Redis behind Sentinel, or `filesystem://` for folders in "
        "`ENS_DATA_DIR` (one server only).",
    )
    event_log_url: SecretStr = Field(
        SecretStr(""),
        description="Where the event log is kept. Empty: in tables of the database. "
        "`redis://[user:password@]host[:port][/db]` (`rediss://` with TLS): in a Redis 7 or newer. "
        "`redis+sentinel://[user:password@]host[:port],host[:port],…/<service>[/db]` "
        "(`rediss+sentinel://` with TLS): in the one that these Sentinels name; their own login is "
        "`?sentinel_username=…&sentinel_password=…`. Redis needs `appendonly yes`, "
        "`appendfsync always` (or `ENS_EVENT_LOG_WAIT_REPLICAS`), `maxmemory-policy noeviction`.",
    )
    event_log_wait_replicas: int = Field(
        0,
        ge=0,
        le=5,
        description="How many replicas of Redis must have an event before Exchange is answered "
        "OK. With Sentinel at least 1, or a fail-over loses what was answered last.",
    )
    allowed_hosts: list[str] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        description="Host names this process answers to, by comma (Django's ALLOWED_HOSTS).",
    )
    trusted_proxies: list[IPv4Network | IPv6Network] = Field(
        default=[],
        description="Networks of reverse proxies whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed, by comma.",
    )
    cns_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^?#\s]+$",
        description="Address of the Cloud Notification Service (the relay). It may already end "
        "in `/nws/notify/apns`. Needed by workers.",
    )
    cns_key_file: Path | None = Field(
        default=None,
        description="PEM file with the secure channel certificate and its private key, with "
        "which calls to the CNS are signed. `python manage.py cns_certificate` makes one.",
    )
    cns_pins: list[str] = Field(
        default=[],
        description="Base64 SHA-256 of the SubjectPublicKeyInfo of the CNS host's certificate, "
        "by comma: the current pin and the next. Empty: no pinning.",
    )
    cns_ca_file: Path | None = Field(
        default=None, description="PEM bundle of private CAs for the CNS host."
    )
    cns_proxy_url: str | None = Field(
        default=None,
        pattern=r"^http://[^/?#\s@]+/?$",
        description="HTTP proxy on the way to the CNS, `http://proxy.example.com:8080`; it is "
        "asked for a tunnel (CONNECT). Proxies in the environment are ignored.",
    )
    cns_proxy_auth: Literal["none", "basic", "ntlm", "negotiate"] = Field(
        "none",
        description="How to log in at the proxy. `ntlm` and `negotiate` are for Windows accounts: "
        "without `ENS_CNS_PROXY_USER` the account of the service itself (on Linux its Kerberos "
        "ticket, which needs `pip install pyspnego[kerberos]`).",
    )
    cns_proxy_user: SecretStr = Field(
        SecretStr(""), description="`user` for `basic`; `DOMAIN\\user` or `user@domain` else."
    )
    cns_proxy_password: SecretStr = Field(
        SecretStr(""), description="Better in a file, named by `ENS_CNS_PROXY_PASSWORD_FILE`."
    )
    relay_audience: str | None = Field(
        default=None,
        description="The address by which deployments call this relay; what they sign must name "
        "it. Needed by the role `relay`.",
    )
    relay_apns_url: str | None = Field(
        default=None,
        pattern=r"^https://[^/?#\s]+$",
        description="Another address than Apple's for APNs, for the lab. Default: Apple's "
        "production or sandbox host, as each push app says.",
    )
    relay_apns_ca_file: Path | None = Field(
        default=None, description="PEM bundle of private CAs for `ENS_RELAY_APNS_URL`."
    )
    relay_fcm_url: str | None = Field(
        default=None,
        pattern=r"^https://[^/?#\s]+$",
        description="Another address than Google's for FCM, for the lab.",
    )
    relay_fcm_token_url: str | None = Field(
        default=None,
        pattern=r"^https://[^?#\s]+$",
        description="Another address than Google's where access tokens for FCM are given, for the "
        "lab. What a service account's file names is never called.",
    )
    relay_fcm_ca_file: Path | None = Field(
        default=None,
        description="PEM bundle of private CAs for `ENS_RELAY_FCM_URL` and "
        "`ENS_RELAY_FCM_TOKEN_URL`.",
    )
    relay_sns_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+$",
        description="Another address than Amazon's for SNS, for tests.",
    )
    guard_exceptions: list[IPv4Network | IPv6Network] = Field(
        default=[],
        description="Networks to which ENS may connect although the address guard refuses them "
        "(loopback, link-local, …), by comma. For the lab only; empty in production.",
    )
    dns_servers: list[str] = Field(
        default=[],
        description="Name servers that are asked for Autodiscover's SRV record, as address or "
        "address:port (IPv6 in brackets), by comma. Empty: those of the operating system. The "
        "addresses of hosts are always looked up by the operating system.",
    )
    exchange_calls_in_flight: int = Field(
        64,
        ge=1,
        le=1000,
        description="Calls that one worker process has under way to one Exchange host at most; "
        "others wait, by turns among the users, and other hosts are not concerned. While Exchange "
        "is slow or busy there are fewer, down to four.",
    )
    pushes_in_flight: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Announcements that one worker process has under way at the CNS or not yet "
        "recorded: as many at most are repeated when it is killed. With an answer in a tenth of a "
        "second, 64 are 600 a second for each process.",
    )
    wakeups_a_second: int = Field(
        10,
        ge=1,
        le=1000,
        description="How many phones of one mail system are woken in any second at most, by all "
        "workers together: after an Exchange restart every phone that wakes brings a join. Two "
        "cores can do 10 beside others' mail.",
    )
    lab_clock_scale: float = Field(
        1.0,
        ge=1.0,
        le=10_000.0,
        description="How much faster than real time subscriptions, check-ins and wake-ups live. "
        "For the lab only.",
    )
    lab_clock_origin: float = Field(
        0.0,
        description="The Unix time at which the faster clock was right; the same on all processes. "
        "For the lab only.",
    )
    debug: bool = Field(
        default=False, description="Django's DEBUG; never in production: pages show settings."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged."
    )
    log_format: Literal["line", "json"] = Field(
        "line",
        description="How log lines look: `line` for people, `json` for log collectors, one object "
        "a line.",
    )
    log_dir: Path | None = Field(
        default=None,
        description="Directory for log files, one a process and day, instead of standard error. "
        "For Windows; elsewhere whoever starts ENS collects its standard error.",
    )
    log_days: int = Field(
        14, ge=1, le=3650, description="How many days files in `ENS_LOG_DIR` are kept."
    )
    audit_days: int = Field(
        730,
        ge=30,
        le=36500,
        description="How many days the audit log is kept. Shortening this does not shorten the "
        "time of what is in it already.",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="The bearer token with which Prometheus may read "
        "`<ENS_URL_PREFIX>/metrics`, 32 characters or more. Without it there is no such page.",
    )
    alert_urls: list[SecretStr] = Field(
        default=[],
        description="Where alerts go, by comma or space, as [Apprise URLs]"
        "(https://github.com/caronc/apprise/wiki): `mailtos://user:password@mail.example.com?"
        "to=admin@example.com`, `jsons://hooks.example.com/ens` (webhook), `syslog://`, "
        "`rsyslog://log.example.com`; `eventlog://ENS` for the Windows Event Log. They hold "
        "passwords: better in a file, named by `ENS_ALERT_URLS_FILE`.",
    )

    console_idle_minutes: int = Field(
        30,
        ge=1,
        le=1440,
        description="After so many minutes without a request an administrator must sign in again.",
    )
    console_session_hours: int = Field(
        12,
        ge=1,
        le=168,
        description="After so many hours an administrator must sign in again in any case.",
    )
    console_failures: int = Field(
        5,
        ge=3,
        le=50,
        description="After so many wrong passwords in a row a user name is locked for "
        "`ENS_CONSOLE_LOCKED_MINUTES`.",
    )
    console_locked_minutes: int = Field(
        15, ge=1, le=1440, description="How long a user name stays locked."
    )
    oidc_issuer: str | None = Field(
        default=None,
        pattern=r"^(https://[^?#\s]+|http://127\.0\.0\.1:[0-9]+)$",
        description="Issuer of an OpenID provider (Entra ID, AD FS, Keycloak, …) with which "
        "administrators may sign in. Register "
        "`https://<host><ENS_URL_PREFIX>/console/account/oidc/company/login/callback/` there. Who "
        "may come in is known by the provider's `sub`, never by a name.",
    )
    oidc_client_id: str = Field("", description="The client id that the OpenID provider gave.")
    oidc_client_secret: SecretStr = Field(
        SecretStr(""), description="The client secret that the OpenID provider gave."
    )
    oidc_name: str = Field(
        "Company sign-in", description="What the button to the OpenID provider says."
    )
    oidc_ca_file: Path | None = Field(
        default=None, description="PEM bundle of private CAs for the OpenID provider."
    )
    ldap_urls: list[Annotated[str, Field(pattern=r"^ldaps?://[A-Za-z0-9.\[\]:-]+$")]] = Field(
        default=[],
        description="Directory servers with whose accounts administrators may sign in, by comma: "
        "`ldaps://dc1.example.com,ldaps://dc2.example.com`. They are asked in this order until one "
        "answers. `ldap://` is used with StartTLS only. Needs `pip install -r "
        "requirements-ldap.txt`, on workers as well. Empty: no such sign-in.",
    )
    ldap_kind: Literal["active-directory", "openldap"] = Field(
        "active-directory",
        description="How accounts and groups look there. `openldap` is for others as well that "
        "give each entry an `entryUUID`.",
    )
    ldap_ca_file: Path | None = Field(
        default=None,
        description="PEM bundle of private CAs for the directory servers. On Windows, which uses "
        "its own store, import them there (Local Computer, Trusted Root Certification "
        "Authorities) and leave this empty.",
    )
    ldap_bind_name: str = Field(
        "",
        description="The service account that looks people up: its DN, or `name@domain` in Active "
        "Directory. It needs to read people and groups, nothing else. With it, roles are looked "
        "up again every quarter of an hour.",
    )
    ldap_bind_password: SecretStr = Field(
        SecretStr(""), description="Better in a file, named by `ENS_LDAP_BIND_PASSWORD_FILE`."
    )
    ldap_user_bind: str = Field(
        "",
        pattern=r"^(.*\{name\}.*)?$",
        description="Instead of a service account: as what a person is bound, "
        "`{name}@example.com` or `uid={name},ou=people,dc=example,dc=com`.",
    )
    ldap_user_base: str = Field(
        "", description="The DN below which administrators are found: `dc=example,dc=com`."
    )
    ldap_name_attribute: str = Field(
        "",
        pattern=r"^[A-Za-z][A-Za-z0-9-]*$|^$",
        description="The attribute that is the name with which people sign in. Default: "
        "`sAMAccountName` in Active Directory, else `uid`.",
    )
    ldap_user_filter: str = Field(
        "",
        pattern=r"^(\(.*\))?$",
        description="What else must be true of a person, as an LDAP filter. Default: "
        "`(&(objectCategory=person)(objectClass=user))` in Active Directory, else "
        "`(objectClass=person)`.",
    )
    ldap_groups: list[LdapGroup] = Field(
        default=[],
        max_length=100,
        description="Which groups of the directory give which role, by semicolon: "
        "`system_administrator=CN=ENS Admins,OU=Groups,DC=example,DC=com; "
        "help_desk@<GUID of an organization group>=CN=Help Desk,OU=Groups,DC=example,DC=com`. "
        "Roles: `system_administrator` (everywhere only), `og_administrator`, `help_desk`, "
        "`auditor`. In Active Directory members of member groups count. Who is in none of them "
        "doesn't come in.",
    )
    ldap_timeout_seconds: float = Field(
        5.0, ge=1, le=30, description="How long a directory server is waited for."
    )
    require_second_factor: list[
        Literal["all", "system_administrator", "og_administrator", "help_desk", "auditor"]
    ] = Field(
        default=[],
        description="Who must use an authenticator app, by comma: `all`, or roles "
        "(`system_administrator,og_administrator`). Who has none yet sets one up at the next "
        "sign-in, before anything else. It holds for every way to sign in. Empty: nobody must.",
    )
    hsts_seconds: int = Field(
        0,
        ge=0,
        le=63_072_000,
        description="`max-age` of Strict-Transport-Security, which tells browsers to use https "
        "only; 0 sends none. 31536000 (a year) once https works for good.",
    )

    @field_validator(
        "roles",
        "allowed_hosts",
        "trusted_proxies",
        "cns_pins",
        "guard_exceptions",
        "ldap_urls",
        "require_second_factor",
        "dns_servers",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("ldap_groups", mode="before")
    @classmethod
    def _split_groups(cls, value: Any) -> Any:
        # A semicolon within a DN is escaped (RFC 4514).
        if isinstance(value, str):
            return [_ldap_group(one) for one in re.split(r"(?<!\\);", value) if one.strip()]
        return value

    @field_validator("dns_servers")
    @classmethod
    def _check_dns_servers(cls, value: list[str]) -> list[str]:
        for one in value:
            found = re.fullmatch(r"([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", one)
            if found is None:
                raise ValueError("not an address or address:port")
            ip_address(found[1].strip("[]"))
        return value

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: Any) -> Any:
        # Not at every comma: Apprise's URLs may hold some. A new one begins with a scheme.
        if isinstance(value, str):
            return [url for url in re.split(r"[,\s]+(?=[a-zA-Z]+://)", value.strip()) if url]
        return value

    @field_validator(
        "data_dir",
        "log_dir",
        "master_key_file",
        "cns_key_file",
        "cns_ca_file",
        "relay_apns_ca_file",
        "relay_fcm_ca_file",
        "oidc_ca_file",
        "ldap_ca_file",
        mode="after",
    )
    @classmethod
    def _anchor(cls, value: Path | None) -> Path | None:
        """Take relative paths from the installation, not from where the process was started."""
        return BASE_DIR / value if value is not None else None


def _ldap_group(text: str) -> dict[str, Any]:
    """`<role>[@<GUID>]=<DN>` in its parts."""
    place, _, dn = text.partition("=")
    role, at, og = place.partition("@")
    return {"role": role.strip(), "og": og.strip() if at else None, "dn": dn.strip()}


def _missing(found: EnsSettings) -> str | None:
    """The setting that this process can't do without as the others are, if it is missing."""
    if "relay" in found.roles and found.relay_audience is None:
        return "ENS_RELAY_AUDIENCE"
    if found.cns_proxy_auth == "basic" and not found.cns_proxy_user.get_secret_value():
        return "ENS_CNS_PROXY_USER"
    if found.oidc_issuer is not None and not found.oidc_client_id:
        return "ENS_OIDC_CLIENT_ID"
    return _missing_for_ldap(found) if found.ldap_urls else None


def _missing_for_ldap(found: EnsSettings) -> str | None:
    if not found.ldap_bind_name and not found.ldap_user_bind:
        return "ENS_LDAP_BIND_NAME"
    if found.ldap_bind_name and not found.ldap_bind_password.get_secret_value():
        return "ENS_LDAP_BIND_PASSWORD"
    if not found.ldap_user_base:
        return "ENS_LDAP_USER_BASE"
    return None if found.ldap_groups else "ENS_LDAP_GROUPS"


def _impossible(found: EnsSettings) -> str | None:
    """What can't be as it is set, though each setting by itself is right."""
    if not found.ldap_urls or found.roles == ["relay"]:
        return None
    if any(one.role == "system_administrator" and one.og for one in found.ldap_groups):
        return "ENS_LDAP_GROUPS: a system administrator answers for the whole deployment"
    if sys.platform.startswith("win") and found.ldap_ca_file is not None:
        return "ENS_LDAP_CA_FILE: Windows uses its own store; import the CA there instead"
    if find_spec("bonsai") is None:
        return (
            "ENS_LDAP_URLS is set, but the library for it is not installed: "
            "pip install -r requirements-ldap.txt"
        )
    return None


def env_file() -> Path:
    """The settings file: `ENS_ENV_FILE`, or `ens.env` beside `manage.py`."""
    return Path(os.environ.get("ENS_ENV_FILE", BASE_DIR / "ens.env"))


def load() -> EnsSettings:
    """Read and check all settings.

    Raises:
        SettingsInvalid: a setting is missing, unknown or malformed.
    """
    path = env_file()
    lines = _dotenv(path)
    try:
        found = EnsSettings.model_validate(_indirect(lines))
    except ValidationError as error:
        raise SettingsInvalid(_one_line(error, path)) from None
    if missing := _missing(found):
        raise SettingsInvalid(f"{missing} is missing; set it in {path} (see docs/settings.md)")
    if wrong := _impossible(found):
        raise SettingsInvalid(wrong)
    return found


def load_or_exit() -> EnsSettings:
    """Read all settings, or end the process with one clear line on standard error."""
    try:
        return load()
    except SettingsInvalid as error:
        print(f"ENS can't start: {error}", file=sys.stderr)  # noqa: T201 - logging is not set up
        raise SystemExit(2) from None


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        found = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path} can't be read ({type(error).__name__})") from None
    empty = [name for name, value in found.items() if value is None]
    if empty:
        raise SettingsInvalid(f"{path}: the line of {empty[0]!r} has no '='")
    return {name: value for name, value in found.items() if value is not None}


def _indirect(lines: dict[str, str]) -> dict[str, str]:
    """Join file and environment (which wins) and follow names that end in `_FILE`."""
    merged = lines | {k: v for k, v in os.environ.items() if k.startswith(PREFIX)}
    merged.pop("ENS_ENV_FILE", None)
    values: dict[str, str] = {}
    for name, value in merged.items():
        field = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX):
            raise SettingsInvalid(f"{name} is not a setting of ENS: every name begins {PREFIX}")
        if field in EnsSettings.model_fields:
            values[field] = value
        elif field.endswith("_file") and field.removesuffix("_file") in EnsSettings.model_fields:
            try:
                values[field.removesuffix("_file")] = Path(value).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise SettingsInvalid(f"{name}: the file it names can't be read") from None
        else:
            raise SettingsInvalid(f"{name} is not a setting of ENS")
    return values


def _one_line(error: ValidationError, path: Path) -> str:
    """Name the first fault without its value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "the settings"
    if first["type"] == "missing":
        return f"{name} is missing; set it in {path} (see docs/settings.md)"
    return f"{name} is malformed: {first['msg']} (see docs/settings.md)"
