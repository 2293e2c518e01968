"""`ens.env` as the installer writes it: its own lines are set, all others stay as they are."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import ValidationError

from apps.operations.install.answers import Answers
from apps.operations.install.steps import StepFailed
from ens_project.env import EnsSettings

_LINE: Final = re.compile(r"\s*(?:export\s+)?(ENS_[A-Z0-9_]+)\s*=")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%,=+&?;*~-]*")
_HEAD: Final = (
    "# Settings of ENS (docs/settings.md). The next run of ens_install sets its lines again; what\n"
    "# you add stays. Lines of your own that it shall know stand under [settings] of its answers.\n"
)
_SECRET_CHARACTERS: Final = 40
_ROLES: Final = {
    "web": ("device-api", "notify", "metrics"),
    "console": ("console", "admin-api"),
    "relay": ("relay",),
}


def values_of(text: str) -> dict[str, str]:
    """What a settings file says."""
    found = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value is not None}


def line(name: str, value: str) -> str:
    """One line, quoted where it must be.

    Raises:
        StepFailed: the value has a line break.
    """
    if "\n" in value or "\r" in value:
        raise StepFailed("settings_invalid", f"{name} has a line break")
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{quoted}'"


def merged(text: str, values: Mapping[str, str]) -> str:
    """The file's text with these values: in their lines where they have one, else at the end."""
    now, left, lines = values_of(text), dict(values), []
    for old in text.splitlines():
        found = _LINE.match(old)
        name = found[1] if found else ""
        if name in values:
            # A second line of the name would win over the first.
            if name in left and now.get(name) != left.pop(name):
                lines.append(line(name, values[name]))
            elif now.get(name) == values[name]:
                lines.append(old)
            continue
        lines.append(old)
    lines += [line(name, value) for name, value in left.items()]
    return ("" if text else _HEAD) + "\n".join(lines) + "\n"


def read(path: Path) -> str:
    """The file's text; empty where there is none.

    Raises:
        StepFailed: it can't be read.
    """
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise StepFailed("file_not_read", f"{path} can't be read ({reason})") from None


def roles(answers: Answers) -> str:
    """`ENS_ROLES` of the whole server: commands need the tables of all; each service takes its own.

    A server with nothing but workers has the web's: a role says only what a web process serves.
    """
    wanted = [role for part, own in _ROLES.items() if part in answers.components for role in own]
    return ",".join(wanted or _ROLES["web"])


def component_roles(component: str) -> str:
    """`ENS_ROLES` of one component's service."""
    return ",".join(_ROLES[component])


def settings(
    answers: Answers, existing: Mapping[str, str], paths: Mapping[str, str]
) -> dict[str, str]:
    """The installer's lines of `ens.env`; `paths` are those that end in `_FILE` or `_DIR`.

    What was drawn at random by an earlier run is taken from `existing`.
    """
    hosts = [host for host in (answers.host, answers.cns_host) if host]
    given = answers.secret_key.get_secret_value() if answers.secret_key else ""
    drawn = existing.get("ENS_SECRET_KEY") or secrets.token_urlsafe(_SECRET_CHARACTERS)
    found = {
        "ENS_SECRET_KEY": given or drawn,
        "ENS_LINK_ADDRESS": answers.link_address or f"{answers.cns.url.rstrip('/')}/api/ens",
        "ENS_URL_PREFIX": answers.url_prefix,
        "ENS_ROLES": roles(answers),
        # `ready` is asked by monitors on the machine itself.
        "ENS_ALLOWED_HOSTS": ",".join(dict.fromkeys([*hosts, "localhost", "127.0.0.1"])),
        "ENS_TRUSTED_PROXIES": "127.0.0.0/8,::1/128",
        **paths,
        **_stores(answers, existing),
        **_cns(answers),
    }
    # Where a line names a file that holds the value, the value must not stand beside it.
    in_files = {name.removesuffix("_FILE") for name in answers.settings if name.endswith("_FILE")}
    return {k: v for k, v in found.items() if k not in in_files} | answers.settings


def problem(values: Mapping[str, str]) -> str:
    """What is wrong with settings, in one line without their values; empty where all is well."""
    known = EnsSettings.model_fields
    given = {}
    for name, value in values.items():
        field = name.removeprefix("ENS_").lower()
        if field in known:
            given[field] = value
        elif not (field.endswith("_file") and field.removesuffix("_file") in known):
            return f"{name} is not a setting of ENS"
    try:
        EnsSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        return f"ENS_{str(first['loc'][0]).upper()}: {first['msg']}"
    return ""


def database_password(answers: Answers, existing: Mapping[str, str]) -> str:
    """The database account's: as answered, as an earlier run drew it, or a new one."""
    if answers.database.password is not None:
        return answers.database.password.get_secret_value()
    known = urlsplit(existing.get("ENS_DATABASE_URL", "")).password
    if known:
        return unquote(known)
    return secrets.token_urlsafe(24) if answers.database.create else ""


def _stores(answers: Answers, existing: Mapping[str, str]) -> dict[str, str]:
    found = {}
    if url := answers.database.url(database_password(answers, existing)):
        found["ENS_DATABASE_URL"] = url
    if answers.redis.url:
        found["ENS_BROKER_URL"] = answers.redis.broker_url()
        found["ENS_EVENT_LOG_URL"] = answers.redis.event_log_url()
        if "+sentinel" in answers.redis.url:
            found["ENS_EVENT_LOG_WAIT_REPLICAS"] = "1"
    return found


def _cns(answers: Answers) -> dict[str, str]:
    cns, found = answers.cns, {}
    if cns.url:
        found["ENS_CNS_URL"] = cns.url
    if cns.pins:
        found["ENS_CNS_PINS"] = ",".join(cns.pins)
    if cns.ca_file:
        found["ENS_CNS_CA_FILE"] = cns.ca_file.as_posix()
    if cns.proxy_url:
        found["ENS_CNS_PROXY_URL"] = cns.proxy_url
        found["ENS_CNS_PROXY_AUTH"] = cns.proxy_auth
        found["ENS_CNS_PROXY_USER"] = cns.proxy_user
        if cns.proxy_password is not None:
            found["ENS_CNS_PROXY_PASSWORD"] = cns.proxy_password.get_secret_value()
    if "relay" in answers.components:
        found["ENS_RELAY_AUDIENCE"] = cns.url
    return found
