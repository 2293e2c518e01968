"""Asking the company's directory: each server in turn, each in a process that can be ended."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from apps.administrators.directory import child
from apps.administrators.directory.child import PERSON, Answer, Question

log = logging.getLogger(__name__)

# Starting Python takes a fifth of a second; on a busy machine more.
_START_S: Final = 5.0
_NO_WINDOW: Final = getattr(subprocess, "CREATE_NO_WINDOW", 0)
# The server that answered last, which is asked first; each process finds it out by itself.
_last_good: list[str] = []


class DirectoryAway(Exception):
    """No directory server could be asked; the message is for an administrator, without names."""


def is_configured() -> bool:
    """Whether administrators may sign in with the directory."""
    return bool(settings.ENS.ldap_urls)


def has_service_account() -> bool:
    """Whether people can be looked up without their password."""
    return bool(settings.ENS.ldap_bind_name)


def sign_in(name: str, password: str) -> Answer:
    """Who somebody is, if the directory takes this name and password: found, nobody or several.

    A server that was given the password and never said that it is right has said that it is wrong:
    some take their time over wrong ones, and who guesses must not go uncounted.

    Raises:
        DirectoryAway: no server could be asked, or none took our service account.
    """
    return _any_server(verb="sign_in", name=name, password=password)


def look(uid: str) -> Answer:
    """What became of somebody: found, or nobody.

    Raises:
        DirectoryAway: no server could be asked, or none took our service account.
    """
    return _any_server(verb="look", uid=uid)


def _any_server(**asked: Any) -> Answer:
    faults = []
    urls = sorted(settings.ENS.ldap_urls, key=lambda url: url not in _last_good)
    for url in urls:
        answer = ask(url, **asked)
        if answer.outcome != "failed":
            _last_good[:] = [url]
            return answer
        log.warning("directory server %s: %s failed (%s)", url, answer.stage, answer.error)
        faults.append(f"{answer.stage} failed ({answer.error})")
        if answer.stage == "bind":
            break  # asking the others with the same password would only lock the service account
        if answer.stage == PERSON:
            return Answer("nobody")
    raise DirectoryAway("; ".join(faults))


def ask(url: str, **asked: Any) -> Answer:
    """Ask one server, within bounds; every fault of it is in the answer."""
    question = Question(url=url, **_from_settings(), **asked)
    try:
        done = subprocess.run(  # noqa: S603 - our own file, and nothing of a visitor's
            [sys.executable, "-P", str(Path(child.__file__))],
            input=json.dumps(asdict(question)),
            capture_output=True,
            encoding="utf-8",
            timeout=_START_S + settings.ENS.ldap_timeout_seconds,
            env=_environment(),
            creationflags=_NO_WINDOW,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired as ended:
        stage = PERSON if PERSON in str(ended.stderr or "") else "connect"
        return Answer("failed", stage, "TimeoutError")
    except (OSError, ValueError):
        return Answer("failed", "library", "NotUsable")
    answer["groups"] = tuple(answer["groups"])
    return Answer(**answer)


def _environment() -> dict[str, str]:
    """The environment without our own settings, some of them secret, and without LDAP's."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("ENS_", "LDAP"))
    }


def _from_settings() -> dict[str, Any]:
    ens = settings.ENS
    ad = ens.ldap_kind == "active-directory"
    people = "(&(objectCategory=person)(objectClass=user))" if ad else "(objectClass=person)"
    return {
        "base": ens.ldap_user_base,
        "active_directory": ad,
        "name_attribute": ens.ldap_name_attribute or ("sAMAccountName" if ad else "uid"),
        "user_filter": ens.ldap_user_filter or people,
        "groups": tuple(group.dn for group in ens.ldap_groups),
        "ca_file": str(ens.ldap_ca_file or ""),
        "bind_name": ens.ldap_bind_name,
        "bind_password": ens.ldap_bind_password.get_secret_value(),
        "user_bind": ens.ldap_user_bind,
        "seconds": ens.ldap_timeout_seconds,
    }
