"""The generated web.config, and what IIS would start by it, as real processes."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

import pytest
from lxml import etree

from apps.operations.install.web_config import Gateway, Place, Served, web_config
from apps.subscriptions.webhook_url import MAX_URL_LENGTH
from tests.announce.test_webhook import envelope
from tests.operations.install import fastcgi
from tests.operations.install.deployment import HOST, Deployment, clean

PREFIX = "/MailNotificationService/api/ens"
# Real module, but for what it asks of Windows' kernel to watch files.
WFASTCGI = """
import ctypes, runpy, types
class Nothing:
    def __call__(self, *_): return 0
class Kernel:
    def __getattr__(self, name):
        made = self.__dict__[name] = Nothing()
        return made
ctypes.windll = types.SimpleNamespace(kernel32=Kernel())
runpy.run_module("wfastcgi", run_name="__main__", alter_sys=True)
"""
WINDOWS = Place(
    root=PureWindowsPath(r"C:\Program Files\ENS für Ümläute & Co"),
    python=PureWindowsPath(r"C:\Program Files\ENS für Ümläute & Co\.venv\Scripts\python.exe"),
    base_python=PureWindowsPath(r"C:\Program Files\Python313\python.exe"),
    data=PureWindowsPath(r"D:\ENS Daten"),
    env_file=PureWindowsPath(r"D:\ENS Daten\ens.env"),
    logs=PureWindowsPath(r"D:\ENS Daten\logs"),
    iis=PureWindowsPath(r"D:\IIS of ENS"),
)
SERVED = Served(roles="device-api,notify,metrics", processes=2, threads=4, settings="1 2")
# What IIS's own schema (IIS_schema.xml of IIS 10) and HttpPlatformHandler's, of 1.2 and of
# 2.0, know of what we use. An attribute that one of them doesn't know would be a 500.19.
SCHEMA: Mapping[str, set[str]] = {
    "configuration": set(),
    "system.webServer": set(),
    "handlers": set(),
    "handlers/clear": set(),
    "handlers/add": {
        *("name", "path", "verb", "modules", "scriptProcessor", "resourceType", "requireAccess"),
        "responseBufferLimit",
    },
    "httpPlatform": {
        *("processPath", "arguments", "startupTimeLimit", "rapidFailsPerMinute", "requestTimeout"),
        *("stdoutLogEnabled", "stdoutLogFile", "processesPerApplication"),
    },
    "environmentVariables": set(),
    "environmentVariable": {"name", "value"},
    "security": set(),
    "requestFiltering": set(),
    "requestLimits": {"maxAllowedContentLength", "maxUrl", "maxQueryString"},
    "httpErrors": {"existingResponse"},
    "applicationInitialization": {"doAppInitAfterRestart"},
    "applicationInitialization/add": {"initializationPage"},
    "appSettings": set(),
    "appSettings/add": {"key", "value"},
}


def parsed(gateway: Gateway, place: Place) -> Any:
    return etree.fromstring(web_config(gateway, place, SERVED).encode())


@pytest.mark.parametrize("gateway", ["httpplatform", "wfastcgi"])
def test_everything_in_it_is_known_to_iis(gateway: Gateway) -> None:
    for element in parsed(gateway, WINDOWS).iter(etree.Element):
        parent = element.getparent()
        path = f"{parent.tag}/{element.tag}" if parent is not None else element.tag
        known = SCHEMA.get(path, SCHEMA.get(element.tag))
        assert known is not None, path
        assert set(element.attrib) <= known, path


@pytest.mark.parametrize("gateway", ["httpplatform", "wfastcgi"])
def test_the_longest_url_is_within_its_limits(gateway: Gateway) -> None:
    (limits,) = parsed(gateway, WINDOWS).iter("requestLimits")
    assert int(limits.get("maxUrl")) >= MAX_URL_LENGTH
    # IIS's default of 2,048 is too short where the link address is.
    assert int(limits.get("maxQueryString")) >= MAX_URL_LENGTH
    # The largest body that any view takes is a batch for the relay.
    assert int(limits.get("maxAllowedContentLength")) == 8 * 1024 * 1024


def test_paths_with_blanks_umlauts_and_ampersands_arrive_whole() -> None:
    (platform,) = parsed("httpplatform", WINDOWS).iter("httpPlatform")
    assert platform.get("processPath") == str(WINDOWS.python)
    assert platform.get("stdoutLogFile") == r"D:\ENS Daten\logs\iis"
    assert platform.get("processesPerApplication") == "2"
    names = {
        found.get("name"): found.get("value") for found in platform.iter("environmentVariable")
    }
    assert names["PYTHONPATH"] == str(WINDOWS.root)
    (handler,) = parsed("wfastcgi", WINDOWS).iterfind(".//handlers/add")
    module = r"C:\Program Files\ENS für Ümläute & Co\.venv\Lib\site-packages\wfastcgi.py"
    assert handler.get("scriptProcessor") == f'{WINDOWS.python}|"{module}"'


# --- what it starts --------------------------------------------------------------------------


def ask(port: int, method: str, target: str, headers: Mapping[str, str], body: str = "") -> Any:
    """What HttpPlatformHandler hands on: the target untouched, and who called."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    forwarded = {"X-Forwarded-For": "192.0.2.7:50123", "X-Forwarded-Proto": "https", "Host": HOST}
    connection.request(method, target, body.encode(), forwarded | dict(headers))
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@contextmanager
def started(deployment: Deployment) -> Iterator[int]:
    """The process of `httpPlatform`, started as IIS does; yields its port."""
    place = deployment.place
    Path(place.logs).mkdir(exist_ok=True)
    (platform,) = parsed("httpplatform", place).iter("httpPlatform")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {one.get("name"): one.get("value") for one in platform.iter("environmentVariable")}
    arguments = platform.get("arguments").replace("%HTTP_PLATFORM_PORT%", str(port))
    assert not re.search(r'["%]', arguments)  # so that blanks alone divide them
    process = subprocess.Popen(
        [platform.get("processPath"), *arguments.split()],
        cwd=place.data,
        env=clean() | own | {"HTTP_PLATFORM_PORT": str(port)},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + int(platform.get("startupTimeLimit"))
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        assert process.wait(30) is not None


@pytest.mark.slow
def test_the_command_of_http_platform_answers(deployment: Deployment) -> None:
    with started(deployment) as port:
        status, body = ask(port, "GET", f"{PREFIX}/alive", {})
        assert (status, json.loads(body)["status"]) == (200, "ok")
        bearer = {"Authorization": f"Bearer {deployment.token}", "Content-Type": "application/json"}
        status, body = ask(port, "POST", f"{PREFIX}/publickey", bearer, "{}")
        assert (status, json.loads(body)["jwk"]["kty"]) == (200, "RSA")
        assert len(deployment.url) == MAX_URL_LENGTH
        xml = {"Content-Type": "text/xml; charset=utf-8"}
        status, body = ask(port, "POST", deployment.request_target, xml, envelope())
        assert (status, b"<SubscriptionStatus>OK<" in body.replace(b"m:", b"")) == (200, True)
    # The log is in files, and holds neither the query nor what it carries.
    written = "".join(file.read_text() for file in Path(deployment.place.logs).glob("web-*.log"))
    assert "1 events" in written
    assert "cccc" not in written


@contextmanager
def wfastcgi(deployment: Deployment) -> Iterator[socket.socket]:
    """The real wfastcgi in the application's directory, with a socket where IIS has a pipe."""
    place = deployment.place
    Path(place.application).mkdir(parents=True, exist_ok=True)
    # Windows doesn't tell Web.config, as wfastcgi calls it, from web.config.
    (Path(place.application) / "Web.config").write_text(
        web_config("wfastcgi", place, SERVED), "utf-8"
    )
    iis, process_end = socket.socketpair()
    iis.settimeout(60)
    process = subprocess.Popen(
        [sys.executable, "-c", WFASTCGI],
        stdin=process_end,
        cwd=place.data,
        env=clean() | {"WSGI_LOG": os.devnull},
    )
    process_end.close()
    try:
        yield iis
    finally:
        iis.close()
        assert process.wait(30) == 0


def through_iis(
    pipe: socket.socket,
    deployment: Deployment,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: str = "",
) -> tuple[int, bytes]:
    """The variables that IIS makes of a request for a handler of every path."""
    url = urlsplit(target)
    params = {
        "APPL_PHYSICAL_PATH": f"{deployment.place.application}{os.sep}",
        "SCRIPT_NAME": url.path,
        "PATH_INFO": url.path,
        "QUERY_STRING": url.query,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body.encode())),
        "HTTPS": "on",
        "REMOTE_ADDR": "192.0.2.7",
        "SERVER_NAME": HOST,
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": HOST,
        "HTTP_AUTHORIZATION": headers.get("Authorization", ""),
    }
    status, _headers, answer = fastcgi.exchange(pipe, params, body.encode())
    return status, answer


def test_wfastcgi_needs_a_directory_that_it_finds() -> None:
    place = dataclasses.replace(WINDOWS, iis=PureWindowsPath(r"D:\Büro"))
    with pytest.raises(ValueError, match="ASCII"):
        web_config("wfastcgi", place, SERVED)
    assert "@" not in web_config("httpplatform", place, SERVED)


@pytest.mark.slow
def test_wfastcgi_answers_by_our_web_config(deployment: Deployment) -> None:
    with wfastcgi(deployment) as pipe:
        status, body = through_iis(pipe, deployment, "GET", f"{PREFIX}/alive", {})
        assert (status, json.loads(body)["status"]) == (200, "ok")
        bearer = {"Authorization": f"Bearer {deployment.token}", "Content-Type": "application/json"}
        status, body = through_iis(pipe, deployment, "POST", f"{PREFIX}/publickey", bearer, "{}")
        assert (status, json.loads(body)["jwk"]["kty"]) == (200, "RSA")
        xml = {"Content-Type": "text/xml; charset=utf-8"}
        status, body = through_iis(
            pipe, deployment, "POST", deployment.request_target, xml, envelope()
        )
        assert (status, b"<SubscriptionStatus>OK<" in body.replace(b"m:", b"")) == (200, True)
        status, body = through_iis(pipe, deployment, "POST", f"{PREFIX}/notify?id=x", xml, "x")
        assert status == 404
