"""Windows services for worker and beat, and who may read which file.

A service is a small host of our own (`windows_service.py`, on pywin32) that starts the Celery
processes, starts again what ends, and stops them gracefully. NSSM has had no release since 2017 and
WinSW's last is an alpha of 2023; pywin32 is maintained and comes with pip.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Literal

from apps.operations.install.iis import SYSTEM32
from apps.operations.install.runner import Completed
from apps.operations.install.wanted import Argv, Wanted, missing, tells_of, there
from apps.operations.install.web_config import Place

SC: Final = SYSTEM32 + r"\sc.exe"
ICACLS: Final = SYSTEM32 + r"\icacls.exe"
# By number: its name is another one in each language of Windows. LocalSystem belongs to it.
ADMINISTRATORS: Final = "*S-1-5-32-544"
# After how many seconds Windows starts a service again that ended: the first, the second and every
# later time; counted anew after a day without an end.
RESTARTS_S: Final = (5, 30, 60)

Kind = Literal["worker", "beat"]
DESCRIPTIONS: Final[Mapping[Kind, str]] = {
    "worker": "Email Notification Service: joins, announcements, housekeeping",
    "beat": "Email Notification Service: pokes the workers every second",
}


@dataclass(frozen=True, slots=True)
class Service:
    """One Windows service. Raises ValueError for what sc.exe can't be told."""

    kind: Kind
    processes: int = 1
    threads: int = 4
    """Of each process; beat has one of each."""
    account: str = ""
    """A group-managed service account, `EXAMPLE\\svc-ens$`; empty: the service's own account."""
    prefix: str = "ENS"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", self.prefix):
            raise ValueError("services are named with letters, digits, - and _")

    @property
    def name(self) -> str:
        """As Windows names it: `ENSWorker`."""
        return self.prefix + self.kind.capitalize()

    @property
    def identity(self) -> str:
        """The account under which it runs, as icacls and sc.exe name it."""
        return self.account or rf"NT SERVICE\{self.name}"


def command_line(service: Service, place: Place) -> str:
    """What Windows starts, as CreateProcess reads it.

    By the interpreter that the virtual environment was made from: the one inside starts it as a
    process of its own, and Windows would wait for the wrong one (event 7039).
    """
    script = place.root / "apps" / "operations" / "install" / "windows_service.py"
    words = [str(place.base_python), "-I", str(script), service.kind, "--name", service.name]
    words += ["--python", str(place.python), "--env-file", str(place.env_file)]
    words += ["--logs", str(place.logs)]
    if service.kind == "worker":
        words += ["--processes", str(service.processes), "--threads", str(service.threads)]
    return subprocess.list2cmdline(words)


def installed(service: Service, place: Place) -> list[Wanted]:
    """The service: starts with Windows, and again whenever it missing."""
    line = command_line(service, place)
    what = ["binPath=", line, "start=", "delayed-auto", "obj=", service.identity]
    # There is none: Windows sees to the passwords of such accounts itself.
    what += ["password=", ""]
    restarts = "/".join(f"restart/{seconds * 1000}" for seconds in RESTARTS_S)
    query = (SC, "qc", service.name, "8192")
    return [
        Wanted(
            (SC, "query", service.name),
            there,
            (SC, "create", service.name, *what, "DisplayName=", f"ENS {service.kind}"),
        ),
        Wanted(query, tells_of(line, service.identity), (SC, "config", service.name, *what)),
        Wanted(
            (SC, "qdescription", service.name, "1024"),
            tells_of(DESCRIPTIONS[service.kind]),
            (SC, "description", service.name, DESCRIPTIONS[service.kind]),
        ),
        Wanted(
            (SC, "qfailure", service.name),
            _restarts_as_wanted,
            (SC, "failure", service.name, "reset=", "86400", "actions=", restarts),
        ),
        # Also when it ends by itself with an error, not only when it crashes.
        Wanted(
            (SC, "qfailureflag", service.name),
            tells_of("TRUE"),
            (SC, "failureflag", service.name, "1"),
        ),
    ]


def _restarts_as_wanted(done: Completed) -> bool:
    """Whether `sc qfailure` shows our delays; its words are in the language of Windows."""
    found = re.findall(r"(?<=[:=] )\d+", done.out)
    return done.ok and found == ["86400", *(str(seconds * 1000) for seconds in RESTARTS_S)]


def running(service: Service) -> Wanted:
    """The service runs."""
    return Wanted((SC, "query", service.name), _in_state(4), (SC, "start", service.name))


def at_rest(service: Service) -> Wanted:
    """The service has stopped."""
    return Wanted((SC, "query", service.name), _in_state(1), stopped(service))


def _in_state(number: int) -> Callable[[Completed], bool]:
    """Whether `sc query` shows it: 1 is stopped, 4 runs; their names are in Windows' language."""
    return lambda done: done.ok and re.search(rf":\s*{number}\s+\S", done.out) is not None


def stopped(service: Service) -> Argv:
    """The command that asks the service to stop; it may take half a minute."""
    return (SC, "stop", service.name)


def gone(service: Service) -> Wanted:
    """The service is asked to stop, and removed once it has."""
    command = (SC, "delete", service.name)
    return Wanted((SC, "query", service.name), missing, command, first=stopped(service))


Rights = Literal["R", "RX", "M"]


def only_for(
    path: PurePath, accounts: Mapping[str, Rights], *, directory: bool, optional: bool = False
) -> Wanted:
    """Nobody but Administrators and these accounts may open `path`; a directory's content too.

    `optional`: it need not be there.

    icacls can say that in one command only where no other account was named before.
    """
    heirs = "(OI)(CI)" if directory else ""
    grants = [f"{ADMINISTRATORS}:{heirs}F"]
    grants += [f"{account}:{heirs}{rights}" for account, rights in accounts.items()]
    entries = [f"{account}:{heirs}({rights})" for account, rights in accounts.items()]

    def is_so(done: Completed) -> bool:
        if not done.ok:
            return optional
        found = re.findall(r":((?:\([A-Z,]+\))+)", done.out)
        return (
            len(found) == len(grants)
            and not any("(I)" in rights for rights in found)
            and all(entry.casefold() in done.out.casefold() for entry in entries)
        )

    # Reset first: grants of former accounts would stay.
    return Wanted(
        (ICACLS, str(path)),
        is_so,
        (ICACLS, str(path), "/inheritance:r", "/grant:r", *grants),
        first=(ICACLS, str(path), "/reset"),
    )
