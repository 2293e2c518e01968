"""The commands of a developer's day, on any platform: `python dev.py run`, `test`, `demo`, ...

Needs nothing but Python 3.11 or newer: makes `.venv` beside itself, installs the requirements
there when they have changed, and goes on inside it. `make <command>` does the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
OLDEST = (3, 11)
SWITCHES = ("MAILS", "JSON", "SEED", "SECONDS", "SUBSCRIPTIONS", "WAKEUPS", "PUSHES", "REPEATS")

USAGE = """usage: python dev.py <command> [NAME=value ...]

  run           ENS with the lab and the live page, until Ctrl-C
  demo          the main job once, headless: MAILS mails sent and announced
  chaos         MAILS mails in SECONDS seconds while everything is killed, restarted and cut
  simulate-day  a day in minutes, in which Exchange silently forgets subscriptions
  storm         Exchange restarts and forgets SUBSCRIPTIONS at once; writes var/storm.svg
  bench-relay   the relay beside other senders: REPEATS times PUSHES pushes each; needs npm for one
  lab           the lab's servers alone, for trying other clients on them, until Ctrl-C
  test          every check: linters, types, imports, migrations, generated pages, all tests
  fast          the linter and the quick tests only
  screenshot    takes docs/live-page.png anew
  screenshots   takes every page of the console anew, into docs/screenshots

JSON=1 prints one JSON object as the last line, SEED= repeats a run of chaos or simulate-day."""


class Stop(Exception):
    """Nothing more can be done; the message is one line for the person."""


def main(arguments: Sequence[str]) -> int:
    if sys.version_info < OLDEST:
        print(f"ENS needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    names = [word for word in arguments if "=" not in word]
    if names == ["help"]:
        print(USAGE)
        return 0
    if len(names) != 1 or names[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return COMMANDS[names[0]](_switches([word for word in arguments if "=" in word]))
    except Stop as reason:
        print(f"dev.py: {reason}", file=sys.stderr)
        return 2


def _switches(words: Sequence[str]) -> dict[str, str]:
    """The switches from the environment, or from `NAME=value` arguments, which win."""
    found = {name: os.environ[name] for name in SWITCHES if name in os.environ}
    for word in words:
        name, _, value = word.partition("=")
        if name not in SWITCHES:
            raise Stop(f"{name} is not a switch; known are {', '.join(SWITCHES)}")
        found[name] = value
    return found


# --- the commands ----------------------------------------------------------------------------


def _run(switches: dict[str, str]) -> int:
    _install("requirements-lab.txt")
    return _inside("-m", "apps.lab.stand", "run")


def _lab(switches: dict[str, str]) -> int:
    _install("requirements-lab.txt")
    return _inside("-m", "apps.lab.stand", "lab")


def _demo(switches: dict[str, str]) -> int:
    _install("requirements-lab.txt")
    return _inside("-m", "apps.lab.stand", "demo", *_words(switches, "MAILS"))


def _chaos(switches: dict[str, str]) -> int:
    _install("requirements-lab.txt")
    return _inside("-m", "apps.lab.chaos", *_words(switches, "MAILS", "SECONDS", "SEED"))


def _simulate_day(switches: dict[str, str]) -> int:
    _install("requirements-lab.txt")
    return _inside("-m", "apps.lab.day", *_words(switches, "SEED"))


def _storm(switches: dict[str, str]) -> int:
    _install("requirements-lab.txt")
    chart = HERE / "var" / "storm.svg"
    chart.parent.mkdir(exist_ok=True)
    words = _words(switches, "SUBSCRIPTIONS", "SECONDS", "WAKEUPS")
    return _inside("-m", "apps.lab.storm", "--chart", str(chart), *words)


def _bench_relay(switches: dict[str, str]) -> int:
    # One of those it is compared with is a library that only checks need.
    _install("requirements-dev.txt")
    raw = HERE / "var" / "bench-relay.json"
    raw.parent.mkdir(exist_ok=True)
    words = _words(switches, "PUSHES", "REPEATS")
    return _inside("-m", "apps.lab.bench_relay", "--raw", str(raw), *words)


def _words(switches: dict[str, str], *wanted: str) -> list[str]:
    """The switches as the lab's programs take them: `--mails 20 --json`."""
    words = []
    for name in wanted:
        if switches.get(name):
            words += [f"--{name.lower()}", switches[name]]
    if switches.get("JSON", "").lower() not in ("", "0", "no", "false"):
        words.append("--json")
    return words


def _screenshot(switches: dict[str, str]) -> int:
    _install("requirements-dev.txt")
    return _inside("-m", "apps.lab.live.screenshot", "docs/live-page.png")


def _screenshots(switches: dict[str, str]) -> int:
    _install("requirements-dev.txt")
    return _inside("-m", "apps.lab.pictures", "docs/screenshots")


def _fast(switches: dict[str, str]) -> int:
    _install("requirements-dev.txt")
    return _checks([*LINT, QUICK])


def _test(switches: dict[str, str]) -> int:
    _install("requirements-dev.txt")
    return _checks(
        [
            *LINT,
            ("types", ["-m", "mypy"]),
            ("import rules", ["-c", "from importlinter.cli import lint_imports_command as c; c()"]),
            ("migrations", ["manage.py", "makemigrations", "--check", "--dry-run"]),
            ("settings page", ["manage.py", "ens_settings", "--check"]),
            QUICK,
            ("slow tests", ["-m", "pytest", "-m", "slow"]),
        ]
    )


LINT: list[tuple[str, list[str]]] = [
    ("ruff check", ["-m", "ruff", "check", "."]),
    ("ruff format", ["-m", "ruff", "format", "--check", "."]),
]
# A worker a core, a file to one worker: what a file's tests share they share still.
QUICK = ("quick tests", ["-m", "pytest", "-m", "not slow", "-n", "auto", "--dist", "loadfile"])
COMMANDS: dict[str, Callable[[dict[str, str]], int]] = {
    "run": _run,
    "demo": _demo,
    "chaos": _chaos,
    "simulate-day": _simulate_day,
    "storm": _storm,
    "bench-relay": _bench_relay,
    "lab": _lab,
    "test": _test,
    "fast": _fast,
    "screenshot": _screenshot,
    "screenshots": _screenshots,
}


def _checks(checks: Sequence[tuple[str, list[str]]]) -> int:
    """Run every check, whatever the ones before it said, and sum up at the end."""
    results: list[tuple[str, int, float]] = []
    with tempfile.TemporaryDirectory(prefix="ens-checks-") as home:
        environment = _check_environment(Path(home))
        for name, words in checks:
            print(f"\n=== {name}", flush=True)
            began = time.monotonic()
            code = _inside(*words, environment=_for(words, environment))
            results.append((name, code, time.monotonic() - began))
            if _interrupted:
                raise Stop("interrupted")
    print("\n=== summary")
    for name, code, seconds in results:
        print(f"{'ok    ' if code == 0 else 'FAILED'}  {name:<14} {seconds:7.1f} s")
    failed = [name for name, code, _ in results if code != 0]
    print(f"{len(failed)} of {len(results)} checks failed" if failed else "all checks passed")
    return 1 if failed else 0


def _for(words: Sequence[str], environment: dict[str, str]) -> dict[str, str]:
    """ENS refuses to start with a setting it doesn't know, and only its tests know ENS_TEST_…"""
    if words[0] != "manage.py":
        return environment
    return {name: value for name, value in environment.items() if not name.startswith("ENS_TEST_")}


def _check_environment(home: Path) -> dict[str, str]:
    """Settings with which manage.py can start, whatever `ens.env` this machine has."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
    tests = {name: value for name, value in os.environ.items() if name.startswith("ENS_TEST_")}
    # The tests' own settings module; for `manage.py` it stands in for ens.env.
    return (
        plain
        | tests
        | {
            "ENS_ENV_FILE": str(home / "ens.env"),
            "ENS_SECRET_KEY": "only-for-checks-0123456789-0123456789",
            "ENS_LINK_ADDRESS": "https://ens.example/MailNotificationService/api/ens",
            "ENS_ROLES": "device-api,notify,metrics,console,relay",
            "ENS_DATA_DIR": str(home),
            "ENS_MASTER_KEY_FILE": str(home / "master.key"),
            "ENS_RELAY_AUDIENCE": "https://cns.example",
        }
    )


# --- the virtual environment -----------------------------------------------------------------


def _install(requirements: str) -> None:
    """Make the virtual environment hold what `requirements` names; quick when it does already."""
    _make_venv()
    wanted = _fingerprint(requirements)
    if wanted in _stamps():
        return
    print(f"dev.py: installing {requirements} into {VENV.name} ...", file=sys.stderr, flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-q"]
    done = subprocess.run([*pip, "-r", str(HERE / requirements)], check=False, cwd=HERE)
    if done.returncode != 0:
        raise Stop(f"pip could not install {requirements}; its own words are above")
    # The larger set holds the smaller one; what stood here before is outdated.
    files = _with_included(HERE / requirements)
    _stamp_file().write_text("\n".join(_fingerprint(file.name) for file in files), "utf-8")


def _make_venv() -> None:
    if _venv_works():
        return
    for module in ("venv", "ensurepip"):
        if not _importable(module):
            raise Stop(
                f"this Python has no {module!r}; on Debian or Ubuntu: apt install python3-venv"
                + (" python3-pip" if module == "ensurepip" else "")
                + ", elsewhere install Python from python.org"
            )
    if VENV.exists():
        if not (VENV / "pyvenv.cfg").is_file():
            raise Stop(f"{VENV} is in the way and no virtual environment; move it elsewhere")
        shutil.rmtree(VENV)
    print(f"dev.py: making {VENV.name} ...", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False)
    if done.returncode != 0 or not _venv_works():
        raise Stop(f"{sys.executable} -m venv failed; its own words are above")


def _importable(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _venv_works() -> bool:
    """Whether `.venv` runs, has pip and the Python version it was made with (not a torso)."""
    if not PYTHON.is_file():
        return False
    question = "import sys, pip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [str(PYTHON), "-c", question], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and tuple(map(int, done.stdout.split())) >= OLDEST


def _with_included(requirements: Path) -> list[Path]:
    """The file and, in depth, the files it takes in by `-r`."""
    found = [requirements]
    for line in requirements.read_text("utf-8").splitlines():
        if line.startswith("-r "):
            found += _with_included(requirements.parent / line[3:].strip())
    return found


def _fingerprint(requirements: str) -> str:
    digest = hashlib.sha256()
    for file in _with_included(HERE / requirements):
        # Line by line: Git on Windows may have changed the line ends, which changes nothing.
        digest.update("\n".join(file.read_text("utf-8").splitlines()).encode())
    return digest.hexdigest()


def _stamp_file() -> Path:
    return VENV / "ens-installed.txt"


def _stamps() -> list[str]:
    return _stamp_file().read_text("utf-8").split() if _stamp_file().is_file() else []


_interrupted: list[int] = []


def _inside(*words: str, environment: dict[str, str] | None = None) -> int:
    """Run Python of the virtual environment and return its exit code.

    Ctrl-C reaches the child as well as us (one console, one process group); it decides how to
    end, we wait for it. A SIGTERM reaches us alone and is handed on.
    """
    child = subprocess.Popen([str(PYTHON), *words], cwd=HERE, env=environment)

    def note(number: int, frame: object) -> None:
        _interrupted.append(number)

    def hand_on(number: int, frame: object) -> None:
        _interrupted.append(number)
        child.terminate()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, note),
        signal.SIGTERM: signal.signal(signal.SIGTERM, hand_on),
    }
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
