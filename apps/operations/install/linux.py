"""Linux: a service account, systemd units, an nginx site and log rotation.

The texts are those of `deploy/linux`, with `@NAME@` filled in. What is run, and what is written,
comes from plain functions here; nothing is started where `service.manager` is `none`.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from apps.operations.config_xml import Configuration
from apps.operations.install import common, database, env_file
from apps.operations.install.answers import COMPONENTS, Answers
from apps.operations.install.common import Access, Manage, Places
from apps.operations.install.files import (
    Directory,
    File,
    Gone,
    Programs,
    Rights,
    release_files,
    write,
)
from apps.operations.install.runner import Runner, must
from apps.operations.install.sql_server import CreateSqlServer
from apps.operations.install.steps import Check, Plan, Step, StepFailed
from ens_project.env import BASE_DIR

_TEMPLATES: Final = BASE_DIR / "deploy" / "linux"
_PLACEHOLDER: Final = re.compile(r"@([A-Z_]+)@")
_TARGET: Final = "ens.target"
_STOP_S: Final = 45
_CONSOLE_BODY: Final = "8m"
# What the services can't see (ProtectHome, PrivateTmp).
_HIDDEN: Final = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the system looks for what we write; all below `root` where one is given."""

    root: Path

    @property
    def units(self) -> Path:
        """systemd's units of the administrator."""
        return self.root / "etc/systemd/system"

    @property
    def nginx(self) -> Path:
        """The site; nginx on Debian and Red Hat reads all of conf.d."""
        return self.root / "etc/nginx/conf.d/ens.conf"

    @property
    def logrotate(self) -> Path:
        """Our rule of log rotation."""
        return self.root / "etc/logrotate.d/ens"

    @property
    def nginx_pid(self) -> Path:
        """Where nginx leaves its process id."""
        return self.root / "run/nginx.pid"


def tree(answers: Answers) -> Tree:
    """Where the system's directories are."""
    return Tree(answers.root or Path("/"))


def places(answers: Answers) -> Places:
    """Where ENS's own files are."""
    root = answers.root or Path("/")
    return Places(
        programs=answers.location,
        python=answers.python,
        settings=root / "etc/ens",
        data=root / "var/lib/ens",
        logs=root / "var/log/ens",
    )


def account(answers: Answers) -> str:
    """Whose processes they are; in a trial tree, those of whoever makes it."""
    return answers.service.account if answers.root is None else getpass.getuser()


def access(answers: Answers) -> Access:
    """Rights of files; in a trial tree everything belongs to whoever makes it."""
    if answers.root is not None:
        return Access(Rights(0o640), Rights(0o600), Rights(0o750), Rights(0o700))
    own = answers.service.account
    return Access(
        settings=Rights(0o640, "root", own),
        secret=Rights(0o600, own, own),
        settings_directory=Rights(0o750, "root", own),
        data_directory=Rights(0o700, own, own),
    )


def manage(answers: Answers, runner: Runner) -> Manage:
    """How management commands are run: as the service account."""
    prefix = () if answers.root is not None else ("runuser", "-u", answers.service.account, "--")
    return Manage(runner, places(answers), prefix)


def plan(answers: Answers, runner: Runner, configuration: Configuration | None) -> Plan:
    """Checks and steps of an installation on Linux."""
    own, where, rights = places(answers), tree(answers), access(answers)
    command = manage(answers, runner)

    def existing() -> Mapping[str, str]:
        return env_file.values_of(env_file.read(own.env_file))

    checks = [
        *common.checks(answers, own, configuration),
        database.check(answers, existing, configuration),
        Check("This server", lambda: _server(answers)),
    ]
    steps: list[Step] = [Account(answers.service.account, own.data, runner)]
    if answers.root is not None:
        steps.clear()
    steps += [
        Programs(BASE_DIR, own.programs),
        Directory(own.settings, rights.settings_directory),
        Directory(own.data, rights.data_directory),
        common.EnvFile(answers, own, rights.settings),
    ]
    if answers.database.create and configuration is None and answers.database.kind != "sqlite":
        if answers.database.kind == "sqlserver":
            steps.append(CreateSqlServer(answers, existing, answers.database.user))
        else:
            steps.append(database.CreatePostgresql(answers, existing, runner))
    steps.append(common.master_key(answers, command, rights.secret, configuration))
    if answers.cns.url and not answers.relay_only:
        steps.append(common.channel_key(command, rights.secret, configuration))
    steps.append(common.Tables(command))
    if configuration is None and not answers.relay_only:
        steps.append(common.First(answers, command))
    steps += [Unit(name, where.units / name, text) for name, text in units(answers).items()]
    steps += _web_server(answers, own, where, runner)
    if answers.service.manager == "system":
        steps.append(Services(services(answers), own, runner))
    unwanted = [path for path in _unit_files(where) if path.name not in units(answers)]
    steps.append(Gone("Units of components that are not wanted", unwanted))
    return Plan(checks, steps)


def removal(answers: Answers, runner: Runner, *, everything: bool) -> Plan:
    """Steps that take ENS off this server; with `everything` settings, keys and data, too."""
    own, where = places(answers), tree(answers)
    steps: list[Step] = []
    if answers.service.manager == "system":
        steps.append(Stopped(runner))
    steps.append(Gone("systemd units", [*_unit_files(where), where.units / _TARGET]))
    steps.append(Gone("nginx site and log rotation", [where.nginx, where.logrotate]))
    if everything:
        steps.append(Gone("Settings, keys, data and logs", [own.settings, own.data, own.logs]))
    return Plan((), steps)


def _unit_files(where: Tree) -> list[Path]:
    names = [f"ens-{component}{{}}.service" for component in COMPONENTS]
    files = [where.units / name.format(at) for name in names for at in ("", "@")]
    return [file for file in files if file.exists()]


def _server(answers: Answers) -> str:
    if answers.root is not None:
        return f"nothing is started; all files below {answers.root}"
    if os.geteuid() != 0:
        raise StepFailed("not_root", "Run it as root, or with --root for a trial")
    for path in (answers.python, answers.location):
        if str(path).startswith(_HIDDEN):
            raise StepFailed("hidden", f"Services can't see {path}: move it, to /opt for example")
    programs = ["runuser", "useradd"]
    if answers.service.manager == "system":
        programs += ["systemctl"]
        programs += ["nginx"] if answers.runs("web", "console", "relay") else []
    for program in programs:
        if shutil.which(program) is None:
            raise StepFailed("program_missing", f"{program} is missing: install it")
    return ", ".join(programs)


# --- texts ---


def render(name: str, values: Mapping[str, str]) -> str:
    """A template of deploy/linux, filled in. A placeholder without a value is a KeyError."""
    text = (_TEMPLATES / f"{name}.in").read_text("utf-8")
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def unit_word(text: str) -> str:
    """A word of a unit's line, quoted where systemd would split or expand it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", text) else escaped


def units(answers: Answers) -> dict[str, str]:
    """The unit files of this server's components, by name."""
    own = places(answers)
    values = {
        "ACCOUNT": account(answers),
        "PROGRAMS": str(own.programs).replace("%", "%%"),
        "PYTHON": unit_word(str(own.python)),
        "ENV_FILE": unit_word(f"ENS_ENV_FILE={own.env_file}").replace("$$", "$"),
        "STOP_S": str(_STOP_S),
        "HARDENING": render(
            "hardening", {"DATA": unit_word(str(own.data)).replace("$$", "$")}
        ).rstrip(),
    }
    found = {_TARGET: render(_TARGET, {})}
    for component in answers.components:
        name = f"ens-{component}{'@' if component == 'worker' else ''}.service"
        found[name] = render(name, values | _process(answers, component))
    return found


def _process(answers: Answers, component: str) -> dict[str, str]:
    threads = {"THREADS": str(answers.web.threads), "PROCESSES": "1"}
    match component:
        case "web":
            port, processes = answers.web.port, answers.web.processes
        case "console":
            port, processes = answers.console.port, 1
        case "relay":
            port, processes = answers.relay.port, answers.web.processes
        case "worker":
            return threads | {"THREADS": str(answers.worker.threads)}
        case _:
            return {}
    roles = env_file.component_roles(component)
    return threads | {"PORT": str(port), "PROCESSES": str(processes), "ROLES": roles}


def services(answers: Answers) -> list[str]:
    """The names of what systemd runs on this server."""
    found = []
    for component in answers.components:
        if component == "worker":
            numbers = range(1, answers.worker.processes + 1)
            found += [f"ens-worker@{number}.service" for number in numbers]
        else:
            found.append(f"ens-{component}.service")
    return found


def site(answers: Answers) -> str:
    """The nginx site of this server's components."""
    prefix, servers = answers.url_prefix, []
    relay = _location("/nws/", answers.relay.port, "8m", "150s", streams=True)
    together = answers.runs("web") and answers.runs("relay")
    together = together and answers.host == answers.cns_host
    if answers.runs("web"):
        locations = [
            _location(f"{prefix}/api/ens/", answers.web.port, "512k", "30s"),
            _location(f"{prefix}/static/", answers.web.port, "1k", "30s"),
            *([relay] if together else []),
        ]
        servers.append(_nginx_server(answers, answers.web.listen, answers.host, locations))
    if answers.runs("relay") and not together:
        servers.append(_nginx_server(answers, answers.relay.listen, answers.cns_host, [relay]))
    if answers.runs("console"):
        whole = _location(f"{prefix}/", answers.console.port, _CONSOLE_BODY, "60s")
        servers.append(_nginx_server(answers, answers.console.listen, answers.host, [whole]))
    return render("nginx.conf", {"SITES": "".join(servers)})


def _nginx_server(
    answers: Answers, listen: Sequence[str], host: str, locations: Sequence[str]
) -> str:
    assert answers.tls.certificate_file is not None
    assert answers.tls.key_file is not None
    own = places(answers)
    values = {
        "LISTEN": "\n".join(f"    listen {one} ssl;" for one in listen),
        "HOST": host,
        "CERTIFICATE": _nginx_word(answers.tls.certificate_file),
        "KEY": _nginx_word(answers.tls.key_file),
        "ACCESS_LOG": _nginx_word(own.logs / "nginx-access.log"),
        "LOCATIONS": "".join(locations),
    }
    return render("nginx-server", values)


def _location(path: str, port: int, most: str, patience: str, *, streams: bool = False) -> str:
    # The relay answers line by line, and refuses a caller before it has read the body.
    more = "        proxy_buffering off;\n        proxy_request_buffering off;\n"
    values = {"PATH": path, "PORT": str(port), "MOST": most, "PATIENCE": patience}
    return render("nginx-location", values | {"MORE": more if streams else ""})


def _nginx_word(path: PurePosixPath | Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def rotation(answers: Answers) -> str:
    """The rule of log rotation."""
    pid = str(tree(answers).nginx_pid).replace("'", "'\\''")
    values = {
        "LOG_GLOB": f'"{places(answers).logs}/nginx-access.log"',
        "NGINX_PID": f"'{pid}'",
    }
    return render("logrotate", values)


def _web_server(answers: Answers, own: Places, where: Tree, runner: Runner) -> list[Step]:
    if not answers.runs("web", "console", "relay"):
        return []
    if answers.tls.certificate_file is None or answers.tls.key_file is None:
        return []  # the checks have said so
    mode, live = Rights(0o644), answers.service.manager == "system"
    shown = (answers.tls.certificate_file, answers.tls.key_file)
    return [
        # Passable: nginx's workers open their log anew when it is rotated.
        Directory(own.logs, Rights(0o751)),
        Site(where.nginx, site(answers), runner, live, shown),
        File("Log rotation", where.logrotate, rotation(answers).encode, mode),
    ]


# --- steps ---


@dataclass(frozen=True)
class Account:
    """The service account: nobody can log in as it."""

    name: str
    home: Path
    runner: Runner
    title: str = "Service account"

    def needed(self) -> bool:
        """See Step."""
        return not self.runner.run(["id", "-u", self.name]).ok

    def describe(self) -> str:
        """See Step."""
        return f"run {' '.join(useradd(self.name, self.home))}"

    def apply(self) -> None:
        """See Step."""
        must(self.runner.run(useradd(self.name, self.home)), "account", "useradd failed")


def useradd(name: str, home: Path) -> list[str]:
    """The command that makes a service account."""
    words = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(home)]
    return [*words, "--shell", "/usr/sbin/nologin", name]


@dataclass(frozen=True)
class Unit:
    """A unit file."""

    name: str
    path: Path
    text: str = field(repr=False)

    @property
    def title(self) -> str:
        """See Step."""
        return f"Unit {self.name}"

    def _file(self) -> File:
        return File(self.title, self.path, self.text.encode, Rights(0o644))

    def needed(self) -> bool:
        """See Step."""
        return self._file().needed()

    def describe(self) -> str:
        """See Step."""
        return self._file().describe()

    def apply(self) -> None:
        """See Step."""
        self._file().apply()


@dataclass(frozen=True)
class Site:
    """nginx's site. One that nginx refuses is taken back, so that other sites go on.

    `read` are the other files that nginx reads with it: when they change, it must read them anew.
    """

    path: Path
    text: str = field(repr=False)
    runner: Runner
    live: bool
    read: Sequence[Path] = ()
    title: str = "nginx site"

    def _file(self) -> File:
        return File(self.title, self.path, self.text.encode, Rights(0o644))

    def needed(self) -> bool:
        """See Step."""
        return self._file().needed() or (self.live and not self._loaded())

    def _loaded(self) -> bool:
        """Whether nginx runs, and has read the files since they last changed."""
        found = unit_state(self.runner, "nginx.service")
        since = newest([self.path, *self.read])
        return found.get("ActiveState") == "active" and not_before(
            found.get("StateChangeTimestamp", ""), since
        )

    def describe(self) -> str:
        """See Step."""
        checked = "\nrun nginx -t\nrun systemctl reload-or-restart nginx.service"
        return self._file().describe() + (checked if self.live else "")

    def apply(self) -> None:
        """See Step."""
        before = self.path.read_bytes() if self.path.exists() else None
        self._file().apply()
        commands = [["nginx", "-t", "-q"], ["systemctl", "reload-or-restart", "nginx.service"]]
        for command in commands if self.live else []:
            done = self.runner.run(command)
            if not done.ok:
                self._take_back(before)
                must(done, "nginx", "nginx refuses the site, which was taken back")

    def _take_back(self, before: bytes | None) -> None:
        if before is None:
            self.path.unlink(missing_ok=True)
        else:
            write(self.path, before, Rights(0o644))


def unit_state(runner: Runner, name: str) -> dict[str, str]:
    """What systemd says of a unit; times are `@` and Unix seconds."""
    argv = ["systemctl", "show", "--timestamp=unix", name, "--property"]
    argv.append(
        "ActiveState,UnitFileState,NeedDaemonReload,ActiveEnterTimestamp,StateChangeTimestamp"
    )
    lines = runner.run(argv).out.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def newest(files: Iterable[Path]) -> float:
    """When the last of these files changed; not the time of its content, which archives bring."""
    return max((file.stat().st_ctime for file in files if file.exists()), default=0.0)


def not_before(stamp: str, moment: float) -> bool:
    """Whether systemd's time stamp, in whole seconds, is not before a moment."""
    seconds = stamp.lstrip("@")
    return seconds.isdigit() and int(seconds) >= int(moment)


@dataclass(frozen=True)
class Services:
    """Everything runs, starts with the server, and with the settings and units as they are now."""

    names: Sequence[str]
    places: Places
    runner: Runner
    title: str = "Services"

    def needed(self) -> bool:
        """See Step."""
        return bool(self._stale()) or bool(self._surplus())

    def describe(self) -> str:
        """See Step."""
        commands = service_commands(self._stale() or self.names, self._surplus())
        return "\n".join(f"run {' '.join(command)}" for command in commands)

    def apply(self) -> None:
        """See Step."""
        for command in service_commands(self._stale(), self._surplus()):
            must(self.runner.run(command), "services", "systemctl failed")

    def _stale(self) -> list[str]:
        """Those that don't run, aren't enabled, or are older than unit, programs or ens.env."""
        files = [self.places.programs / file for file in release_files(self.places.programs)]
        changed = newest([*files, self.places.env_file])
        return [name for name in [_TARGET, *self.names] if not self._well(name, changed)]

    def _well(self, name: str, changed: float) -> bool:
        found = unit_state(self.runner, name)
        return (
            found.get("ActiveState") == "active"
            and found.get("UnitFileState") == "enabled"
            and found.get("NeedDaemonReload") == "no"
            # A target reads no settings.
            and (name == _TARGET or not_before(found.get("ActiveEnterTimestamp", ""), changed))
        )

    def _surplus(self) -> list[str]:
        """Services of ours that this server is not to run any more."""
        argv = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "ens-*.service"]
        listed = [line.split() for line in self.runner.run(argv).out.splitlines()]
        found = [words[0] for words in listed if len(words) > 2 and words[2] == "active"]
        ours = [name for name in found if name.endswith(".service")]
        return [name for name in ours if name not in self.names]


def service_commands(stale: Sequence[str], surplus: Sequence[str]) -> list[list[str]]:
    """What lets systemd know units, enable and (re)start some of them, and end others."""
    found = [["systemctl", "daemon-reload"]]
    if surplus:
        found.append(["systemctl", "disable", "--now", *surplus])
    if stale:
        found.append(["systemctl", "enable", *stale])
        found.append(["systemctl", "restart", *stale])
    return found


@dataclass(frozen=True)
class Stopped:
    """No service of ours runs or starts with the server."""

    runner: Runner
    title: str = "Services stopped"

    def _names(self) -> list[str]:
        argv = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "ens-*", _TARGET]
        return [line.split()[0] for line in self.runner.run(argv).out.splitlines() if line.strip()]

    def needed(self) -> bool:
        """See Step."""
        return bool(self._names())

    def describe(self) -> str:
        """See Step."""
        return f"run systemctl disable --now {' '.join(self._names())}"

    def apply(self) -> None:
        """See Step."""
        done = self.runner.run(["systemctl", "disable", "--now", *self._names()])
        must(done, "services", "systemctl failed")
