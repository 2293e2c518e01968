"""Windows Server 2016 and newer: sites and applications of IIS, services, and who may read what.

What is run comes from plain functions in `iis.py`, `services.py` and `certificates.py`; nothing but
files is written where `service.manager` is `none`.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from apps.operations.config_xml import Configuration
from apps.operations.install import certificates, common, database, env_file, iis, services
from apps.operations.install.answers import Answers
from apps.operations.install.common import Manage, Places
from apps.operations.install.files import Directory, File, Gone, Programs, Rights
from apps.operations.install.iis import SYSTEM32, Site
from apps.operations.install.runner import Runner, must
from apps.operations.install.service_host import mark_file, settings_mark
from apps.operations.install.services import Service
from apps.operations.install.sql_server import CreateSqlServer
from apps.operations.install.steps import Check, Plan, Step, StepFailed
from apps.operations.install.wanted import Commands, Wanted
from apps.operations.install.web_config import Place, Served, web_config
from ens_project.env import BASE_DIR

# Of no effect on Windows (files.Rights); access lists are steps of their own.
_FILE: Final = Rights(0o640)
_DIRECTORY: Final = Rights(0o750)
_WHOAMI: Final = SYSTEM32 + r"\whoami.exe"
# The mandatory label of a process that runs "as administrator".
_ELEVATED: Final = "S-1-16-12288"
# What answers.py has for Linux; here the services have accounts of their own.
_NO_ACCOUNT: Final = "ens"
# A worker may take half a minute to finish what it has begun.
_PATIENCE_S: Final = 60.0
_AGAIN_S: Final = 0.5
_HTTPERR: Final = "HTTPERR without URLs, once the server has been restarted"
_HANDLER: Final = "https://www.iis.net/downloads/microsoft/httpplatformhandler"

Hosted = Literal["web", "console", "relay"]
_NAMES: Final[Mapping[Hosted, str]] = {
    "web": "ENS",
    "console": "ENS-Console",
    "relay": "ENS-Relay",
}


def places(answers: Answers) -> Places:
    """Where ENS's own files are."""
    data = Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData"))
    root = (answers.root or data) / "ENS"
    return Places(
        programs=answers.location,
        python=answers.python,
        settings=root / "settings",
        data=root / "data",
        logs=root / "logs",
    )


def manage(answers: Answers, runner: Runner) -> Manage:
    """How management commands are run: as the administrator who installs."""
    return Manage(runner, places(answers))


def account(answers: Answers) -> str:
    """A group-managed service account; empty: pools and services have accounts of their own.

    Raises:
        StepFailed: another kind of account, whose password would have to be typed into IIS.
    """
    name = answers.service.account
    if name == _NO_ACCOUNT:
        return ""
    if not re.fullmatch(r"[^\\/\"'\[\]:;|=,+*?<>%]+\\[^\\/\"'\[\]:;|=,+*?<>%]+\$", name):
        advice = r"service.account: a group-managed account, EXAMPLE\name$, or leave it out"
        raise StepFailed("account", advice)
    return name


def base_python(python: Path) -> Path:
    """The interpreter that a virtual environment was made from; itself if it is in none."""
    told = python.parent.parent / "pyvenv.cfg"
    if told.is_file():
        for line in told.read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                return Path(value.strip()) / python.name
    return python


def place(answers: Answers, component: Hosted = "web") -> Place:
    """The paths that IIS and the services are told."""
    own = places(answers)
    return Place(
        root=own.programs,
        python=own.python,
        base_python=base_python(own.python),
        data=own.data,
        env_file=own.env_file,
        logs=own.logs,
        iis=own.data.parent / "iis",
        component=component,
    )


def hosted(answers: Answers) -> list[Hosted]:
    """The components of this server that IIS hosts."""
    return [one for one in _NAMES if answers.runs(one)]


def sites(answers: Answers) -> dict[Hosted, Site]:
    """The site of each component; components on one port and name share one.

    Raises:
        StepFailed: the TLS files or the account can't be used.
    """
    thumbprint = certificates.thumbprint(answers.tls.certificate_file)
    found: dict[Hosted, Site] = {}
    for component in hosted(answers):
        port = _port(answers, component)
        host = answers.cns_host if component == "relay" else answers.host
        prefix = "/nws" if component == "relay" else answers.url_prefix
        found[component] = _site(component, prefix, port, host, thumbprint, account(answers))
    return {component: _named(site, list(found.values())) for component, site in found.items()}


def _named(site: Site, others: Sequence[Site]) -> Site:
    """The site under the name it shares with those on its port and host.

    Raises:
        StepFailed: another component has the same address.
    """
    port = [one for one in others if one.port == site.port]
    same = [one for one in port if one.host == site.host]
    if [one.prefix for one in same].count(site.prefix) > 1:
        told = " and ".join(one.name for one in same if one.prefix == site.prefix)
        raise StepFailed("same_port", f"{told} need ports of their own: both are on {site.port}")
    # Alone on the port no name is needed, and callers without SNI are served, too.
    host = "" if len(same) == len(port) else site.host
    return replace(site, name=same[0].name, host=host)


def _port(answers: Answers, component: Hosted) -> int:
    """IIS listens on all addresses; of several answers the first tells the port."""
    listen = {
        "web": answers.web.listen,
        "console": answers.console.listen,
        "relay": answers.relay.listen,
    }
    return int(listen[component][0].rpartition(":")[2])


def _site(
    component: Hosted, prefix: str, port: int, host: str, thumbprint: str, account: str
) -> Site:
    name = _NAMES[component]
    try:
        return Site(name, name, prefix, port, host, thumbprint, account)
    except ValueError as error:
        raise StepFailed("iis_name", f"{component}: {error}") from None


def windows_services(answers: Answers) -> list[Service]:
    """Worker and beat, as far as they run on this server."""
    own, worker = account(answers), answers.worker
    found = []
    if answers.runs("worker"):
        found.append(Service("worker", worker.processes, worker.threads, own))
    if answers.runs("beat"):
        found.append(Service("beat", account=own))
    return found


def served(answers: Answers, component: Hosted) -> Served:
    """What the component's application serves, and by how much."""
    return Served(
        roles=env_file.component_roles(component),
        ready="/ready" if component == "relay" else "/api/ens/ready",
        processes=1 if component == "console" else answers.web.processes,
        threads=answers.web.threads,
        settings=settings_mark(places(answers).env_file),
    )


def plan(answers: Answers, runner: Runner, configuration: Configuration | None) -> Plan:
    """Checks and steps of an installation on Windows."""
    own, command = places(answers), manage(answers, runner)
    system = answers.service.manager == "system"

    def existing() -> Mapping[str, str]:
        return env_file.values_of(env_file.read(own.env_file))

    checks = [
        *common.checks(answers, own, configuration),
        database.check(answers, existing, configuration),
        Check("This server", lambda: _server(answers, runner)),
    ]
    directories = [own.settings, own.data, own.logs]
    if hosted(answers):
        here = place(answers)
        directories.append(Path(here.site))
        directories += [Path(replace(here, component=one).application) for one in hosted(answers)]
    steps: list[Step] = [Programs(BASE_DIR, own.programs)]
    steps += [Directory(one, _DIRECTORY) for one in directories]
    if system:
        # Before anything is written that not everybody may read.
        steps += _accounts(answers, runner)
    steps.append(common.EnvFile(answers, own, _FILE))
    if answers.database.create and configuration is None:
        steps += _database(answers, existing, runner)
    steps.append(common.master_key(answers, command, _FILE, configuration))
    if answers.cns.url and not answers.relay_only:
        steps.append(common.channel_key(command, _FILE, configuration))
    steps.append(common.Tables(command))
    if configuration is None and not answers.relay_only:
        steps.append(common.First(answers, command))
        if system:
            # Neither pools nor services need it; who has installed carries it to the app.
            own_file = services.only_for(own.token_file, {}, directory=False, optional=True)
            steps.append(_commands("Rights of the API token", [own_file], runner, "rights"))
    steps += [_web_config(answers, component) for component in hosted(answers)]
    if system:
        steps += _web_server(answers, runner)
        steps += _started(answers, runner)
    return Plan(checks, steps)


def _database(
    answers: Answers, existing: Callable[[], Mapping[str, str]], runner: Runner
) -> list[Step]:
    match answers.database.kind:
        case "postgresql":
            return [database.CreatePostgresql(answers, existing, runner)]
        case "sqlserver":
            own = account(answers) if answers.database.windows_account else answers.database.user
            return [CreateSqlServer(answers, existing, own)]
        case _:
            return []


def removal(answers: Answers, runner: Runner, *, everything: bool) -> Plan:
    """Steps that take ENS off this server; with `everything` settings, keys and data, too."""
    own, steps = places(answers), list[Step]()
    if answers.service.manager == "system":
        all_services = [services.gone(Service("worker")), services.gone(Service("beat"))]
        steps.append(_commands("Windows services", all_services, runner, "service"))
        wanted = [one for site in _any_sites(answers) for one in iis.removed(site)]
        wanted += iis.fastcgi_removed(place(answers))
        steps.append(_commands("Sites of IIS", wanted, runner, "iis"))
    steps.append(Gone("Directories of IIS", [own.data.parent / "iis"]))
    if everything:
        steps.append(Gone("Settings, keys, data and logs", [own.settings, own.data, own.logs]))
    return Plan((), steps)


def _any_sites(answers: Answers) -> list[Site]:
    """Those that an installation may have made, whatever its answers were."""
    prefix = answers.url_prefix or "/MailNotificationService"
    return [
        Site(
            name,
            name,
            "/nws" if component == "relay" else prefix,
            _port(answers, component),
            thumbprint="0" * 40,
        )
        for component, name in _NAMES.items()
    ]


def _server(answers: Answers, runner: Runner) -> str:
    account(answers)
    if hosted(answers):
        sites(answers)
    if answers.service.manager == "none":
        return f"nothing is started; all files in {places(answers).settings.parent}"
    if _ELEVATED not in runner.run((_WHOAMI, "/groups")).out:
        raise StepFailed("not_elevated", "Run it in a console opened as administrator")
    found = "IIS, services" if hosted(answers) else "services"
    if windows_services(answers) and not _has_pywin32(answers, runner):
        raise StepFailed("pywin32_missing", "pip install -r requirements.txt, with this Python")
    gateway = answers.iis.gateway
    if hosted(answers) and gateway == "wfastcgi" and not Path(place(answers).wfastcgi).exists():
        raise StepFailed("wfastcgi_missing", "pip install wfastcgi==3.0.0, with this Python")
    return f"{found} as {account(answers) or 'accounts of their own'}"


def _has_pywin32(answers: Answers, runner: Runner) -> bool:
    return runner.run([str(answers.python), "-c", "import win32service"]).ok


def _commands(title: str, wanted: Sequence[Wanted], runner: Runner, code: str) -> Commands:
    return Commands(title, wanted, runner, code, f"{title}: a command of Windows failed")


def _accounts(answers: Answers, runner: Runner) -> list[Step]:
    """Pools and services, whose accounts there are only now; then who may open what."""
    steps: list[Step] = []
    pools = sites(answers)
    if pools:
        steps.append(_commands("Role services of IIS", iis.role_services(), runner, "role_service"))
        wanted = [one for site in pools.values() for one in iis.pool(site)]
        steps.append(_commands("Application pools", wanted, runner, "iis"))
    made = windows_services(answers)
    if made:
        wanted = [one for each in made for one in services.installed(each, place(answers))]
        steps.append(_commands("Windows services", wanted, runner, "service"))
    wanted = _rights(answers, list(pools.values()), made)
    steps.append(_commands("Rights of files", wanted, runner, "rights"))
    return steps


def _rights(answers: Answers, pools: Sequence[Site], made: Sequence[Service]) -> list[Wanted]:
    """Programs and settings are read, data and logs are written, by ENS's accounts alone."""
    own = places(answers)
    accounts = sorted({*(site.identity for site in pools), *(one.identity for one in made)})
    read: dict[str, services.Rights] = dict.fromkeys(accounts, "RX")
    write: dict[str, services.Rights] = dict.fromkeys(accounts, "M")
    found = [
        services.only_for(own.programs, read, directory=True),
        services.only_for(own.settings, read, directory=True),
        services.only_for(own.data, write, directory=True),
        services.only_for(own.logs, write, directory=True),
    ]
    if pools:
        only: dict[str, services.Rights] = dict.fromkeys(
            sorted({site.identity for site in pools}), "RX"
        )
        found.append(services.only_for(place(answers).iis, only, directory=True))
    return found


def _web_config(answers: Answers, component: Hosted) -> Step:
    here = place(answers, component)

    def content() -> bytes:
        try:
            return web_config(answers.iis.gateway, here, served(answers, component)).encode()
        except ValueError as error:
            raise StepFailed("iis_path", str(error)) from None

    path = Path(here.application) / "web.config"
    return File(f"web.config of {component}", path, content, _FILE)


def _web_server(answers: Answers, runner: Runner) -> list[Step]:
    found = sites(answers)
    if not found:
        return []
    gateway, steps = answers.iis.gateway, list[Step]()
    wanted: list[Wanted] = []
    if gateway == "httpplatform":
        steps.append(Handler(runner))
    else:
        wanted += iis.fastcgi(place(answers), max(4, answers.web.processes))
    steps.append(certificates.Imported(answers.tls, runner))
    for component, site in found.items():
        try:
            wanted += iis.application(site, place(answers, component))
        except ValueError as error:
            raise StepFailed("iis_path", str(error)) from None
        wanted += iis.binding(site) + iis.quiet_logs(site)
    steps.append(_commands("Sites of IIS", wanted, runner, "iis"))
    steps.append(_commands(_HTTPERR, [iis.httperr()], runner, "iis"))
    return steps


def _started(answers: Answers, runner: Runner) -> list[Step]:
    own = places(answers)
    return [
        Running(service, own.env_file, own.logs, runner) for service in windows_services(answers)
    ]


# --- steps ---


@dataclass(frozen=True)
class Handler:
    """HttpPlatformHandler, which comes apart from Windows: only looked for."""

    runner: Runner
    title: str = "HttpPlatformHandler"

    def needed(self) -> bool:
        """See Step."""
        probe, word = iis.handler_installed()
        return word.casefold() not in self.runner.run(probe).out.casefold()

    def describe(self) -> str:
        """See Step."""
        return f"install it by hand: {_HANDLER}"

    def apply(self) -> None:
        """See Step."""
        raise StepFailed("handler_missing", f"Install HttpPlatformHandler ({_HANDLER})")


@dataclass(frozen=True)
class Running:
    """A service runs, with the settings and the release as they are now."""

    service: Service
    env_file: Path
    logs: Path
    runner: Runner

    @property
    def title(self) -> str:
        """See Step."""
        return f"Service {self.service.name}"

    def needed(self) -> bool:
        """See Step."""
        return not services.running(self.service).seen(self.runner) or not self._as_now()

    def describe(self) -> str:
        """See Step."""
        wanted = services.running(self.service)
        stop = [services.stopped(self.service)] if wanted.seen(self.runner) else []
        return "\n".join(subprocess.list2cmdline(argv) for argv in [*stop, wanted.command])

    def apply(self) -> None:
        """See Step."""
        wanted = services.running(self.service)
        if wanted.seen(self.runner):
            self.runner.run(services.stopped(self.service))
            self._wait(lambda: services.at_rest(self.service).seen(self.runner))
        must(self.runner.run(wanted.command), "service", f"{self.title} was not started")
        self._wait(lambda: not self.needed())

    def _as_now(self) -> bool:
        file = mark_file(self.logs, self.service.name)
        return file.is_file() and file.read_text("utf-8") == settings_mark(self.env_file)

    def _wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not true():
            if time.monotonic() > deadline:
                told = f"{self.title} takes too long: see {self.logs} and Windows' event log"
                raise StepFailed("service", told)
            time.sleep(_AGAIN_S)
