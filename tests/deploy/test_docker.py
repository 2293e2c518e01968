"""deploy/docker without Docker: the files fit together, and what they start does start."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.lab.ca import LabCa
from apps.operations.install import env_file
from ens_project.env import BASE_DIR
from tests.e2e import units

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

HERE = BASE_DIR / "deploy" / "docker"
HOST = "ens.example.com"
SECRETS = "/run/secrets/"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as Compose reads it: merged, variables filled in."""
    text = re.sub(r"\$\{ENS_HOST[^}]*\}", HOST, (HERE / "compose.yaml").read_text("utf-8"))
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = compose["services"]
    return {name: one for name, one in services.items() if one["image"] == "ens"}


def dockerfile() -> str:
    return (HERE / "Dockerfile").read_text("utf-8").replace("\\\n", "")


def image_settings() -> dict[str, str]:
    """What the image itself sets of ENS."""
    return dict(re.findall(r"(ENS_[A-Z_]+)=(\S+)", dockerfile()))


def web_command() -> list[str]:
    (found,) = re.findall(r"^CMD (\[.*\])$", dockerfile(), re.M)
    command: list[str] = json.loads(found)
    return command


def test_everything_named_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {"web", "console", "worker", "beat", "relay", "database", "redis"} <= set(services)
    for name, one in services.items():
        assert set(one.get("secrets", [])) <= set(compose["secrets"]), name
        assert set(one["networks"]) <= set(compose["networks"]), name
        assert set(one.get("depends_on", [])) <= set(services), name
        for volume in one.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or source.startswith("./"), volume
            if source.endswith(".template"):
                assert (HERE / source).is_file()
        # Nothing but the front can be reached from outside.
        assert ("ports" in one) is (name == "front")
    for name, one in ours(compose).items():
        assert one["cap_drop"] == ["ALL"] and one["read_only"] and one["init"], name


def test_every_service_has_settings_that_ens_takes(compose: dict[str, Any]) -> None:
    for name, one in ours(compose).items():
        values = image_settings() | one["environment"]
        for secret in [key for key in values if key.endswith("_FILE") and SECRETS in values[key]]:
            assert values[secret].removeprefix(SECRETS) in one["secrets"], (name, secret)
        filled = values | {"ENS_SECRET_KEY": "x" * 32}
        assert env_file.problem(filled) == "", name
    roles = {name: one["environment"]["ENS_ROLES"] for name, one in ours(compose).items()}
    for component in ("web", "console", "relay"):
        assert roles[component] == env_file.component_roles(component)


def test_commands_are_those_of_the_units(compose: dict[str, Any]) -> None:
    """Which tests/e2e starts as they are written."""
    for name, unit in (("worker", "ens-worker@"), ("beat", "ens-beat")):
        file = BASE_DIR / "deploy" / "linux" / f"{unit}.service.in"
        (line,) = units.lines(file, "ExecStart")
        written = line.replace("@THREADS@", "4").partition(" -n ")[0].split()[1:]
        assert ours(compose)[name]["command"] == ["python", *written]
    (line,) = units.lines(BASE_DIR / "deploy/linux/ens-web.service.in", "ExecStart")
    for old, new in {
        "127.0.0.1": "0.0.0.0",
        "PORT": "8000",
        "PROCESSES": "1",
        "THREADS": "8",
    }.items():
        line = line.replace(f"@{old}@", new).replace("127.0.0.1", "0.0.0.0")
    assert web_command()[1:] == line.split()[1:]


def test_the_image_takes_what_an_installation_needs_and_no_more() -> None:
    lines = (HERE / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    taken = [line[1:] for line in lines if line.startswith("!")]
    assert {"manage.py", "apps", "ens_project", "requirements.txt", "LICENSE"} <= set(taken)
    assert all((BASE_DIR / name).exists() for name in taken)
    assert "*" in lines and "apps/lab" in lines and not {"tests", "ens.env", "var"} & set(taken)


def test_nginx_takes_the_front(tmp_path: Path) -> None:
    nginx = units.system_program("nginx")
    files = LabCa(tmp_path).issue("tls", [HOST])
    text = (HERE / "front.conf.template").read_text("utf-8").replace("${ENS_HOST}", HOST)
    text = re.sub(r"http://(web|relay|console):8000", "http://127.0.0.1:9", text)
    text = text.replace("/etc/nginx/tls/certificate.pem", str(files.certificate))
    text = text.replace("/etc/nginx/tls/key.pem", str(files.key)).replace(
        "/dev/stdout", "/dev/null"
    )
    text = re.sub(r"listen (\d+)", r"listen 127.0.0.1:2\1", text)
    (tmp_path / "front.conf").write_text(text)
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"pid {tmp_path}/pid; events {{}} http {{ include {tmp_path}/front.conf; }}")
    done = subprocess.run(
        [nginx, "-t", "-c", str(conf)], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0 and "[warn]" not in done.stderr, done.stderr
    assert "$request_uri" not in text and '"$request"' not in text and "$args" not in text


@pytest.mark.slow
def test_setup_then_web(compose: dict[str, Any], tmp_path: Path) -> None:
    """What the container `setup` runs, twice; then the web container's command and its check."""
    environment = _environment(compose, tmp_path)
    assert ours(compose)["setup"]["command"][:2] == ["sh", "-euc"]
    script = ours(compose)["setup"]["command"][2].replace("$$", "$")
    script = script.replace(SECRETS, f"{tmp_path}/secrets/")
    first = _run(["sh", "-euc", script], environment)
    assert '["group", "administrator", "token"' in first
    assert _run(["sh", "-euc", script], environment).strip() == "[]"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [word.replace("0.0.0.0", "127.0.0.1").replace("8000", port) for word in web_command()]
    check = [w.replace("8000", port) for w in ours(compose)["web"]["healthcheck"]["test"][1:]]
    roles = {"ENS_ROLES": ours(compose)["web"]["environment"]["ENS_ROLES"]}
    web = subprocess.Popen(
        command, cwd=BASE_DIR, env=environment | roles, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(check, env=environment, capture_output=True).returncode:
            assert web.poll() is None and time.monotonic() < deadline, "web does not answer"
            time.sleep(0.2)
    finally:
        os.killpg(web.pid, 15)
        web.wait(30)


def _environment(compose: dict[str, Any], home: Path) -> dict[str, str]:
    """A container's, with this test's paths, and SQLite and folders for the other containers."""
    (home / "secrets").mkdir()
    for name, text in {
        "database_url": f"sqlite:///{home}/ens.sqlite3",
        "secret_key": "s" * 40,
        "administrator": "correct horse battery 9",
    }.items():
        (home / "secrets" / name).write_text(text + "\n")
    values = image_settings() | ours(compose)["setup"]["environment"]
    values |= {"ENS_BROKER_URL": "filesystem://", "ENS_EVENT_LOG_URL": ""}
    for old, new in {SECRETS: "secrets/", "/etc/ens": "keys", "/var/lib/ens": "data"}.items():
        values = {name: value.replace(old, f"{home}/{new}") for name, value in values.items()}
    values["ENS_ENV_FILE"] = str(home / "none.env")
    values["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return values


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
