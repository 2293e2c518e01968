"""What IIS's tools are told: recorded, with paths that have blanks and letters beyond ASCII."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import PureWindowsPath
from typing import Any

import pytest

from apps.operations.install import iis
from apps.operations.install.iis import Site
from apps.operations.install.runner import Completed
from apps.operations.install.steps import StepFailed
from apps.operations.install.wanted import Commands, Wanted, missing, there
from tests.operations.install.recorder import Recorder
from tests.operations.install.test_web_config import WINDOWS

SITE = Site(name="ENS Büro", thumbprint="0123456789abcdef0123456789abcdef01234567")
A = r"C:\Windows\System32\inetsrv\appcmd.exe"
APP = "ENS Büro/MailNotificationService"


def lines(wanted: Sequence[Wanted]) -> list[str]:
    """The commands as CreateProcess gets them."""
    return [subprocess.list2cmdline(one.command) for one in wanted]


def test_role_services_are_enabled_by_dism() -> None:
    first, *rest = lines(iis.role_services())
    assert first == (
        r"C:\Windows\System32\dism.exe /Online /Enable-Feature "
        "/FeatureName:IIS-WebServerRole /All /NoRestart"
    )
    assert [line.split("FeatureName:")[1].split()[0] for line in rest] == [
        "IIS-WebServer",
        "IIS-CGI",
        "IIS-RequestFiltering",
        "IIS-ApplicationInit",
        "IIS-HttpLogging",
        "IIS-HttpErrors",
        "IIS-ManagementConsole",
    ]


def test_the_pool_always_runs() -> None:
    assert lines(iis.pool(SITE)) == [
        f'{A} add apppool "/name:ENS Büro"',
        f'{A} set apppool "ENS Büro" /autoStart:true',
        f'{A} set apppool "ENS Büro" /startMode:AlwaysRunning',
        f'{A} set apppool "ENS Büro" /managedRuntimeVersion:',
        f'{A} set apppool "ENS Büro" /enable32BitAppOnWin64:false',
        f'{A} set apppool "ENS Büro" /processModel.idleTimeout:00:00:00',
        f'{A} set apppool "ENS Büro" /recycling.periodicRestart.time:00:00:00',
        f'{A} set apppool "ENS Büro" /recycling.periodicRestart.requests:0',
        f'{A} set apppool "ENS Büro" /recycling.disallowOverlappingRotation:false',
        f'{A} set apppool "ENS Büro" /failure.rapidFailProtection:false',
        f'{A} set apppool "ENS Büro" /processModel.identityType:ApplicationPoolIdentity',
    ]


def test_a_group_managed_account_has_no_password_to_type() -> None:
    managed = dataclasses.replace(SITE, account="EXAMPLE\\svc-ens$")
    assert lines(iis.pool(managed))[-2:] == [
        f'{A} set apppool "ENS Büro" /processModel.identityType:SpecificUser',
        f'{A} set apppool "ENS Büro" /processModel.userName:EXAMPLE\\svc-ens$',
    ]


def test_the_application_is_in_a_directory_with_nothing_else() -> None:
    directory = r"D:\IIS of ENS\web"
    anonymous = "/section:anonymousAuthentication /enabled:true /userName: /commit:apphost"
    assert lines(iis.application(SITE, WINDOWS)) == [
        f'{A} add site "/name:ENS Büro" "/physicalPath:D:\\IIS of ENS\\site"',
        f'{A} set app "ENS Büro/" "/applicationPool:ENS Büro"',
        f'{A} add app "/site.name:ENS Büro" /path:/MailNotificationService '
        f'"/physicalPath:{directory}" "/applicationPool:ENS Büro"',
        f'{A} set vdir "{APP}/" "/physicalPath:{directory}"',
        f'{A} set app "{APP}" "/applicationPool:ENS Büro"',
        f'{A} set app "{APP}" /preloadEnabled:true',
        f'{A} set config "{APP}" {anonymous}',
        f'{A} unlock config "{APP}" /section:handlers /commit:apphost',
    ]


def test_the_certificate_is_bound() -> None:
    assert lines(iis.binding(SITE)) == [
        f'{A} set site "ENS Büro" '
        "/+bindings.[protocol='https',bindingInformation='*:443:',sslFlags='0']",
        r"C:\Windows\System32\netsh.exe http add sslcert ipport=0.0.0.0:443 "
        f"certhash={SITE.thumbprint} appid={{8e1f3c52-5f0b-4c53-9a54-2f7b1b0e6d07}} "
        "certstorename=MY",
    ]
    by_name = dataclasses.replace(SITE, host="ens.example.com", port=8443)
    site, certificate = iis.binding(by_name)
    assert "bindingInformation='*:8443:ens.example.com',sslFlags='1'" in site.command[-1]
    assert "hostnameport=ens.example.com:8443" in certificate.command
    assert certificate.first[-1] == "hostnameport=ens.example.com:8443"


def test_fastcgi_is_told_of_the_module_with_quotes_around_its_path() -> None:
    (one,) = iis.fastcgi(WINDOWS, 8)
    root = r"C:\Program Files\ENS für Ümläute & Co\.venv"
    module = rf'"{root}\Lib\site-packages\wfastcgi.py"'
    named = rf"fullPath='{root}\Scripts\python.exe',arguments='{module}'"
    rest = (
        "maxInstances='8',instanceMaxRequests='1000000',idleTimeout='2592000',"
        "activityTimeout='120',requestTimeout='120',signalBeforeTerminateSeconds='30',"
        "stderrMode='ReturnGeneric500'"
    )
    section = "/section:system.webServer/fastCgi"
    assert one.command == (A, "set", "config", section, f"/+[{named},{rest}]", "/commit:apphost")
    assert one.first == (A, "set", "config", section, f"/-[{named}]", "/commit:apphost")
    assert r"arguments='\"C:\Program Files" in subprocess.list2cmdline(one.command)


def test_what_appcmd_shows_of_fastcgi_is_understood() -> None:
    (one,) = iis.fastcgi(WINDOWS, 8)
    shown = """<system.webServer>
  <fastCgi>
    <application fullPath="C:\\PHP\\php-cgi.exe" />
    <application fullPath="C:\\Program Files\\ENS für Ümläute &amp; Co\\.venv\\Scripts\\python.exe"
      arguments="&quot;C:\\Program Files\\ENS für Ümläute &amp; Co\\.venv\\Lib\\site-packages\\wfastcgi.py&quot;"
      maxInstances="8" idleTimeout="2592000" activityTimeout="120" requestTimeout="120"
      instanceMaxRequests="1000000" signalBeforeTerminateSeconds="30" stderrMode="ReturnGeneric500">
      <environmentVariables />
    </application>
  </fastCgi>
</system.webServer>
"""  # noqa: E501 - as appcmd writes it
    assert one.is_so(Completed(0, shown))
    assert not one.is_so(Completed(0, shown.replace("ReturnGeneric500", "ReturnStdErrIn500")))
    assert not one.is_so(Completed(0, shown.replace("python.exe", "other.exe")))
    assert not one.is_so(Completed(0, "nonsense <"))


def test_no_log_has_the_query() -> None:
    form, fields, traces = iis.quiet_logs(SITE)
    httperr = iis.httperr()
    assert (
        subprocess.list2cmdline(form.command) == f'{A} set site "ENS Büro" /logFile.logFormat:W3C'
    )
    assert fields.command[-1] == (
        "/logFile.logExtFileFlags:Date, Time, ClientIP, UserName, ServerIP, Method, UriStem, "
        "HttpStatus, Win32Status, TimeTaken, ServerPort, UserAgent, HttpSubStatus"
    )
    shown = "Time, Date, ClientIP, UserName, ServerIP, Method, UriStem, TimeTaken, HttpStatus, "
    shown += "Win32Status, ServerPort, UserAgent, HttpSubStatus"
    assert fields.is_so(Completed(0, f"{shown}\r\n"))
    assert not fields.is_so(Completed(0, f"{shown}, UriQuery\r\n"))
    assert traces.command[-1] == "/traceFailedRequestsLogging.enabled:false"
    parameters = r"HKLM\SYSTEM\CurrentControlSet\Services\HTTP\Parameters"
    assert subprocess.list2cmdline(httperr.command) == (
        rf"C:\Windows\System32\reg.exe add {parameters} "
        "/v ErrorLoggingFields /t REG_DWORD /d 0x74884c7 /f"
    )
    assert httperr.is_so(Completed(0, "\r\n    ErrorLoggingFields    REG_DWORD    0x74884c7\r\n"))
    assert not httperr.is_so(Completed(0, "    ErrorLoggingFields    REG_DWORD    0x7c884c7"))


def test_what_is_added_is_taken_away() -> None:
    assert lines(iis.removed(SITE)) == [
        f'{A} delete app "{APP}"',
        f'{A} delete site "ENS Büro"',
        f'{A} delete apppool "ENS Büro"',
        r"C:\Windows\System32\netsh.exe http delete sslcert ipport=0.0.0.0:443",
        r"C:\Windows\System32\reg.exe delete "
        r"HKLM\SYSTEM\CurrentControlSet\Services\HTTP\Parameters /v ErrorLoggingFields /f",
    ]
    (fastcgi,) = iis.fastcgi_removed(WINDOWS)
    assert fastcgi.command[-2].startswith("/-[fullPath='C:")
    assert fastcgi.is_so(Completed(0, "<system.webServer><fastCgi /></system.webServer>"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 'a"b'},
        {"name": "a]b"},
        {"name": "a'b"},
        {"name": "%TEMP%"},
        {"name": ""},
        {"prefix": ""},
        {"prefix": "/a b"},
        {"host": "a;b"},
        {"thumbprint": ""},
        {"thumbprint": "x" * 40},
    ],
)
def test_what_the_tools_would_misread_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"site|application|host|certificate"):
        dataclasses.replace(SITE, **wrong)


@pytest.mark.parametrize("path", [r"C:\it's", r"C:\%TEMP%", 'C:\\a"b'])
def test_paths_the_tools_would_misread_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="IIS can't take it"):
        iis.application(SITE, dataclasses.replace(WINDOWS, iis=PureWindowsPath(path)))


class TestCommands:
    def step(self, recorder: Recorder) -> Commands:
        wanted = [Wanted(("see", name), there, ("make", name), ("clear", name)) for name in "ab"]
        return Commands("Make a and b", wanted, recorder, "not_made", "a or b failed")

    def test_only_what_is_not_so_is_made(self) -> None:
        recorder = Recorder(lambda argv: Completed(0, "a") if argv == ("see", "a") else None)
        step = self.step(recorder)
        assert step.needed()
        assert step.describe() == "clear b\nmake b"
        recorder.commands.clear()
        step.apply()
        assert recorder.commands == [["see", "a"], ["see", "b"], ["clear", "b"], ["make", "b"]]

    def test_what_is_so_is_left_alone(self) -> None:
        recorder = Recorder(lambda _argv: Completed(0, "it is there"))
        assert not self.step(recorder).needed()
        assert missing(Completed(0, " \r\n"))

    def test_a_command_that_fails_says_so(self) -> None:
        step = self.step(Recorder(lambda _argv: Completed(5, "", "Zugriff verweigert")))
        with pytest.raises(StepFailed, match=r"a or b failed: Zugriff verweigert \(not_made\)"):
            step.apply()

    def test_done_but_for_a_restart_is_done(self) -> None:
        self.step(Recorder(lambda argv: Completed(3010 if argv[0] == "make" else 1))).apply()
