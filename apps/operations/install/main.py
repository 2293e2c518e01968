"""The whole of `ens_install`, from the answers to the summary."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import SecretStr

from apps.operations.config_xml import Configuration
from apps.operations.install import answers as answering
from apps.operations.install import common, runner
from apps.operations.install.answers import Answers, AnswersInvalid
from apps.operations.install.common import Manage, Places
from apps.operations.install.dialogue import Console, complete
from apps.operations.install.runner import Runner, Say
from apps.operations.install.steps import Plan, StepFailed
from ens_project.env import BASE_DIR


class Platform(Protocol):
    """What `linux.py` and `windows.py` offer."""

    def places(self, answers: Answers) -> Places:
        """Where ENS's own files are."""

    def manage(self, answers: Answers, runner: Runner) -> Manage:
        """How management commands are run."""

    def plan(self, answers: Answers, runner: Runner, configuration: Configuration | None) -> Plan:
        """Checks and steps of an installation."""

    def removal(self, answers: Answers, runner: Runner, *, everything: bool) -> Plan:
        """Steps that take ENS off this server."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for, beside the answers."""

    first: bool = False
    dry_run: bool = False
    uninstall: bool = False
    everything: bool = False


def platform() -> Platform:
    """That of this machine."""
    name = "windows" if sys.platform == "win32" else "linux"
    return cast(Platform, import_module(f"apps.operations.install.{name}"))


def install(wish: Wish, given: Mapping[str, Any], run: Runner, say: Say) -> bool:
    """Do what is wished; whether all is well, the diagnosis at the end included.

    Raises:
        AnswersInvalid, StepFailed: one line for the administrator.
    """
    if wish.uninstall:
        answers = answering.make({"link_address": "https://unknown/api/ens"} | dict(given))
        _carry_out(platform().removal(answers, run, everything=wish.everything), wish, say)
        return True
    configuration, given = _configuration(given)
    if wish.first is (configuration is not None):
        raise AnswersInvalid("either --first, or --config-xml of the deployment that it joins")
    answers = answering.make(given)
    here = platform()
    plan = here.plan(answers, run, configuration)
    say("Checks:")
    runner.check(plan, say)
    _carry_out(plan, wish, say)
    if wish.dry_run:
        return True
    well = True
    if answers.service.manager == "none":
        say("Nothing was started. Start it, and then run `manage.py diagnose`.")
    elif not answers.relay_only:
        say("Diagnosis:")
        well = common.diagnosis(here.manage(answers, run), say)
    for line in common.summary(answers, here.places(answers), first=wish.first):
        say(line)
    return well


def ask(given: Mapping[str, Any], talk: Console) -> dict[str, Any]:
    """The answers with what a dialogue finds out."""
    return complete(given, talk, (BASE_DIR / "LICENSE").read_text("utf-8"))


def _configuration(given: Mapping[str, Any]) -> tuple[Configuration | None, Mapping[str, Any]]:
    """What the `config.xml` holds, and the answers with what it brings."""
    file = given.get("config_xml")
    if not file:
        return None, given
    password = given.get("config_password")
    if "config_password_file" in given:
        password = answering.secret_of("config_password_file", given["config_password_file"])
    if not isinstance(password, SecretStr):
        raise AnswersInvalid("config_password_file is missing")
    configuration = common.open_configuration(Path(file), password.get_secret_value())
    return configuration, common.brought_by(configuration) | dict(given)


def _carry_out(plan: Plan, wish: Wish, say: Say) -> None:
    if wish.dry_run:
        say("Steps:")
        number = runner.dry_run(plan, say)
        say(f"{number} of {len(plan.steps)} steps would change something. Nothing was changed.")
        return
    say("Steps:")
    try:
        changed = runner.apply(plan, say)
    except StepFailed as failed:
        advice = f"{failed.advice}. What was done stays: mend this and run it again"
        raise StepFailed(failed.code, advice) from None
    say(f"{changed} steps changed something." if changed else "No change.")
