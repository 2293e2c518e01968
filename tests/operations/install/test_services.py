"""What `sc.exe` and `icacls.exe` are told, and what their answers mean."""

from __future__ import annotations

import subprocess
from pathlib import PureWindowsPath

import pytest

from apps.operations.install import services
from apps.operations.install.runner import Completed
from apps.operations.install.services import Rights, Service
from tests.operations.install.test_web_config import WINDOWS

SC = r"C:\Windows\System32\sc.exe"
ICACLS = r"C:\Windows\System32\icacls.exe"
ROOT = r"C:\Program Files\ENS für Ümläute & Co"
WORKER = Service("worker", processes=3, threads=8)
LINE = (
    r'"C:\Program Files\Python313\python.exe" -I '
    rf'"{ROOT}\apps\operations\install\windows_service.py" worker --name ENSWorker '
    rf'--python "{ROOT}\.venv\Scripts\python.exe" --env-file "D:\ENS Daten\ens.env" '
    r'--logs "D:\ENS Daten\logs" --processes 3 --threads 8'
)


def test_the_command_line_is_what_create_process_reads() -> None:
    assert services.command_line(WORKER, WINDOWS) == LINE
    beat = services.command_line(Service("beat"), WINDOWS)
    assert beat.endswith(
        r'beat --name ENSBeat --python "'
        + rf"{ROOT}\.venv\Scripts\python.exe"
        + r'" --env-file "D:\ENS Daten\ens.env" --logs "D:\ENS Daten\logs"'
    )


def test_the_service_is_made_as_recorded() -> None:
    create, config, description, failure, flag = services.installed(WORKER, WINDOWS)
    what = (
        "binPath=",
        LINE,
        "start=",
        "delayed-auto",
        "obj=",
        r"NT SERVICE\ENSWorker",
        "password=",
        "",
    )
    assert create.command == (SC, "create", "ENSWorker", *what, "DisplayName=", "ENS worker")
    assert config.command == (SC, "config", "ENSWorker", *what)
    # The quotes of the command line within the quotes of an argument.
    assert rf'binPath= "\"C:\Program Files\Python313\python.exe\" -I \"{ROOT}\apps' in (
        subprocess.list2cmdline(create.command)
    )
    assert subprocess.list2cmdline(description.command) == (
        f"{SC} description ENSWorker "
        '"Email Notification Service: joins, announcements, housekeeping"'
    )
    assert subprocess.list2cmdline(failure.command) == (
        f"{SC} failure ENSWorker reset= 86400 actions= restart/5000/restart/30000/restart/60000"
    )
    assert subprocess.list2cmdline(flag.command) == f"{SC} failureflag ENSWorker 1"


def test_what_sc_shows_is_understood() -> None:
    _, config, _, failure, _ = services.installed(WORKER, WINDOWS)
    shown = f"""[SC] QueryServiceConfig SUCCESS

SERVICE_NAME: ENSWorker
        TYPE               : 10  WIN32_OWN_PROCESS
        START_TYPE         : 2   AUTO_START  (DELAYED)
        BINARY_PATH_NAME   : {LINE}
        SERVICE_START_NAME : NT SERVICE\\ENSWorker
"""
    assert config.is_so(Completed(0, shown))
    assert not config.is_so(Completed(0, shown.replace("--threads 8", "--threads 4")))
    delays = "".join(
        f"   RESTART -- Verzögerung = {ms} Millisekunden.\n" for ms in (5000, 30000, 60000)
    )
    german = f"SERVICE_NAME: ENS2026Worker\n  ZURÜCKSETZEN (in Sekunden)    : 86400\n{delays}"
    assert failure.is_so(Completed(0, german))
    assert not failure.is_so(Completed(0, german.replace("5000", "1000")))
    running = services.running(WORKER)
    assert running.is_so(Completed(0, "        STATE              : 4  RUNNING \n"))
    assert not running.is_so(Completed(0, "        STATE              : 1  STOPPED \n"))
    assert running.command == (SC, "start", "ENSWorker")
    assert services.stopped(WORKER) == (SC, "stop", "ENSWorker")
    gone = services.gone(WORKER)
    assert (gone.first, gone.command) == ((SC, "stop", "ENSWorker"), (SC, "delete", "ENSWorker"))


def test_files_are_for_the_accounts_and_administrators_only() -> None:
    accounts: dict[str, Rights] = {r"NT SERVICE\ENSWorker": "M", "EXAMPLE\\svc-ens$": "RX"}
    directory = services.only_for(PureWindowsPath(r"D:\ENS Daten"), accounts, directory=True)
    assert subprocess.list2cmdline(directory.command) == (
        f'{ICACLS} "D:\\ENS Daten" /inheritance:r /grant:r *S-1-5-32-544:(OI)(CI)F '
        r'"NT SERVICE\ENSWorker:(OI)(CI)M" EXAMPLE\svc-ens$:(OI)(CI)RX'
    )
    secret = PureWindowsPath(r"D:\ENS Daten\master.key")
    file = services.only_for(secret, {"EXAMPLE\\svc-ens$": "R"}, directory=False)
    assert subprocess.list2cmdline(file.command) == (
        f'{ICACLS} "{secret}" /inheritance:r /grant:r *S-1-5-32-544:F EXAMPLE\\svc-ens$:R'
    )


SHOWN = r"""D:\ENS Daten\master.key NT SERVICE\ENSWorker:(R)
                        VORDEFINIERT\Administratoren:(F)

1 Dateien erfolgreich verarbeitet, bei 0 Dateien ist ein Verarbeitungsfehler aufgetreten.
"""


@pytest.mark.parametrize(
    ("shown", "so"),
    [
        (SHOWN, True),
        (SHOWN.replace(":(R)", ":(M)"), False),
        (SHOWN.replace("ENSWorker", "Other"), False),
        (SHOWN.replace(":(F)", ":(I)(F)"), False),
        (SHOWN.replace(":(F)\n", ":(F)\n   Jeder:(R)\n"), False),
    ],
)
def test_what_icacls_shows_is_understood(shown: str, so: bool) -> None:
    one = services.only_for(
        PureWindowsPath(r"D:\ENS Daten\master.key"), {WORKER.identity: "R"}, directory=False
    )
    assert one.is_so(Completed(0, shown)) is so
    assert not one.is_so(Completed(2))


def test_a_file_that_was_carried_away_needs_no_rights() -> None:
    token = services.only_for(PureWindowsPath(r"D:\t"), {}, directory=False, optional=True)
    assert token.is_so(Completed(2))
    assert not token.is_so(Completed(0, r"D:\t VORDEFINIERT\Benutzer:(I)(RX)"))


def test_a_name_that_sc_would_misread_is_refused() -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        Service("worker", prefix='ENS" ')
