"""The guided dialogue: asks for what neither options nor an answers file have said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from apps.operations.install.answers import fields, is_list, is_secret

Given = Mapping[str, Any]
When = Callable[[Given], bool]


@dataclass(frozen=True, slots=True)
class Console:
    """How to talk: `ask` shows a line and returns what is typed, `ask_secret` without an echo."""

    ask: Callable[[str], str]
    ask_secret: Callable[[str], str]
    say: Callable[[str], None]


def _kind(*kinds: str) -> When:
    return lambda given: given.get("database.kind") in kinds


def _with(*components: str) -> When:
    return lambda given: bool(set(components) & set(_parts(given.get("components", ""))))


def _parts(value: Any) -> list[str]:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)


def _set(name: str) -> When:
    return lambda given: bool(given.get(name))


def _unset(name: str) -> When:
    return lambda given: not given.get(name)


def _all(*conditions: When) -> When:
    return lambda given: all(condition(given) for condition in conditions)


_ALWAYS: Final[When] = lambda given: True  # noqa: E731
_FIRST: Final = _unset("config_xml")
_QUESTIONS: Final[tuple[tuple[str, When], ...]] = (
    ("config_password", _set("config_xml")),
    ("components", _ALWAYS),
    ("link_address", _all(_FIRST, _with("web", "console", "worker", "beat"))),
    ("tls.certificate_file", _with("web", "console", "relay")),
    ("tls.key_file", _with("web", "console", "relay")),
    ("database.kind", _ALWAYS),
    ("database.host", _kind("postgresql", "sqlserver")),
    ("database.name", _kind("postgresql", "sqlserver")),
    ("database.windows_account", _kind("sqlserver")),
    ("database.multi_subnet_failover", _kind("sqlserver")),
    ("database.user", _all(_kind("postgresql", "sqlserver"), _unset("database.windows_account"))),
    ("database.create", _all(_FIRST, _kind("postgresql", "sqlserver"))),
    (
        "database.password",
        _all(
            _kind("postgresql", "sqlserver"),
            _unset("database.windows_account"),
            _unset("database.create"),
        ),
    ),
    ("redis.url", _ALWAYS),
    ("redis.password", _set("redis.url")),
    ("cns.url", _FIRST),
    ("cns.proxy_url", _set("cns.url")),
    ("cns.proxy_auth", _set("cns.proxy_url")),
    ("cns.proxy_user", lambda given: given.get("cns.proxy_auth", "none") != "none"),
    ("cns.proxy_password", _set("cns.proxy_user")),
    ("service.account", _ALWAYS),
    ("organization_group", _all(_FIRST, _with("web", "console", "worker", "beat"))),
    ("administrator.name", _all(_FIRST, _with("web", "console", "worker", "beat"))),
    ("administrator.password", _all(_FIRST, _with("web", "console", "worker", "beat"))),
)
# What may be left empty although it is a secret.
_MAY_BE_EMPTY: Final = ("redis.password",)


def complete(given: Given, talk: Console, license_text: str) -> dict[str, Any]:
    """The answers with what was asked for; nothing that was given is asked again."""
    found, known = dict(given), dict(fields())
    if "accept_license" not in found:
        talk.say(license_text)
        found["accept_license"] = _yes(talk.ask("Do you accept this licence? [no] "))
        if not found["accept_license"]:
            return found
    for name, when in _QUESTIONS:
        if name in found or f"{name}_file" in found or not when(found):
            continue
        answer = _asked(name, known[name], talk)
        if answer is not None:
            found[name] = answer
    return found


def _asked(name: str, info: FieldInfo, talk: Console) -> Any:
    if is_secret(info):
        return _secret(name, info, talk)
    default = _shown(info)
    choices = get_args(info.annotation) if "Literal" in str(info.annotation) else ()
    while True:
        typed = talk.ask(f"{info.description} [{default}] ").strip() or default
        if info.annotation is bool:
            return _yes(typed)
        if not choices or is_list(info) or typed in choices:
            return typed or None
        talk.say(f"One of {', '.join(choices)}, please.")


def _secret(name: str, info: FieldInfo, talk: Console) -> SecretStr | None:
    while True:
        typed = talk.ask_secret(f"{info.description}: ")
        if not typed and name in _MAY_BE_EMPTY:
            return None
        if typed and (name != "administrator.password" or _again(typed, talk)):
            return SecretStr(typed)


def _again(typed: str, talk: Console) -> bool:
    same = talk.ask_secret("Once more: ") == typed
    if not same:
        talk.say("The two are not the same.")
    return same


def _shown(info: FieldInfo) -> str:
    default = info.default
    if default is None:
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ",".join(default) if isinstance(default, list) else str(default)


def _yes(text: str) -> bool:
    return text.strip().lower() in ("y", "yes", "true", "1")
