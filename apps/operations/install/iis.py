"""IIS, driven through its own tools: what shall be so, and the exact command for each.

https://learn.microsoft.com/iis/get-started/getting-started-with-iis/getting-started-with-appcmdexe
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from apps.operations.install.wanted import (
    Argv,
    Wanted,
    consists_of,
    lists,
    missing,
    says,
    shows,
    tells_of,
    there,
)
from apps.operations.install.web_config import Place, fastcgi_arguments

# Full paths: a program of the same name elsewhere on the PATH is not what an administrator runs.
SYSTEM32: Final = r"C:\Windows\System32"
APPCMD: Final = SYSTEM32 + r"\inetsrv\appcmd.exe"
DISM: Final = SYSTEM32 + r"\dism.exe"
NETSH: Final = SYSTEM32 + r"\netsh.exe"
REG: Final = SYSTEM32 + r"\reg.exe"

# Role services by DISM's names: the web server, FastCGI, request filtering, starting before the
# first request, logs, error pages (whose section web.config sets), and IIS Manager for people.
ROLE_SERVICES: Final = (
    "IIS-WebServerRole",
    "IIS-WebServer",
    "IIS-CGI",
    "IIS-RequestFiltering",
    "IIS-ApplicationInit",
    "IIS-HttpLogging",
    "IIS-HttpErrors",
    "IIS-ManagementConsole",
)
# All that IIS logs by default, without UriQuery (the webhook's holds sealed credentials) and
# without Referer (a URL, too).
LOG_FIELDS: Final = (
    "Date, Time, ClientIP, UserName, ServerIP, Method, UriStem, HttpStatus, Win32Status, "
    "TimeTaken, ServerPort, UserAgent, HttpSubStatus"
)
# The default fields of HTTPERR without URI (0x00800000), which there holds the query too.
# https://learn.microsoft.com/windows/win32/http/error-logging-in-windows-server-2003-sp1
HTTPERR_FIELDS: Final = 0x07C884C7 & ~0x00800000
HTTP_PARAMETERS: Final = r"HKLM\SYSTEM\CurrentControlSet\Services\HTTP\Parameters"
# Whose TLS binding it is, for `netsh http show sslcert`; any GUID that stays the same.
APPLICATION_ID: Final = "{8e1f3c52-5f0b-4c53-9a54-2f7b1b0e6d07}"

_NAME: Final = re.compile(r"[^\\/?;:@&=+$,|\"<>'\[\]%\x00-\x1f]{1,64}")
_PATH: Final = re.compile(r"[^'\"%\x00-\x1f]{3,200}")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{0,253}")
_THUMBPRINT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Site:
    """The web site. Raises ValueError for what IIS's tools can't be told."""

    name: str = "ENS"
    pool: str = ""
    """Name of the application pool; empty: that of the site."""
    prefix: str = "/MailNotificationService"
    """Where the application is mounted: `ENS_URL_PREFIX`."""
    port: int = 443
    host: str = ""
    """Answer to this host name only (SNI); empty: to every name on the port."""
    thumbprint: str = ""
    """SHA-1 of the certificate in the computer's store `MY`, as 40 hex digits."""
    account: str = ""
    """A group-managed service account, `EXAMPLE\\svc-ens$`; empty: the pool's own account."""

    def __post_init__(self) -> None:
        if not (_NAME.fullmatch(self.name) and _NAME.fullmatch(self.pool_name)):
            raise ValueError("the site's name has a letter that IIS doesn't take")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.prefix):
            raise ValueError("the application needs a path, like /MailNotificationService")
        if not _HOST.fullmatch(self.host):
            raise ValueError("the host name is malformed")
        if not _THUMBPRINT.fullmatch(self.thumbprint):
            raise ValueError("the certificate's thumbprint is not 40 hex digits")

    @property
    def pool_name(self) -> str:
        """Of the application pool."""
        return self.pool or self.name

    @property
    def application(self) -> str:
        """As appcmd names it: `ENS/MailNotificationService`."""
        return self.name + self.prefix

    @property
    def identity(self) -> str:
        """The account under which IIS runs ENS, as icacls names it."""
        return self.account or rf"IIS AppPool\{self.pool_name}"

    @property
    def binding(self) -> str:
        """The binding as IIS writes it: `*:443:`."""
        return f"*:{self.port}:{self.host}"


def role_services() -> list[Wanted]:
    """The role services, each enabled with what it needs. Takes effect without a restart."""
    return [
        Wanted(
            (DISM, "/English", "/Online", "/Get-FeatureInfo", f"/FeatureName:{name}"),
            tells_of("State : Enabled"),
            (DISM, "/Online", "/Enable-Feature", f"/FeatureName:{name}", "/All", "/NoRestart"),
        )
        for name in ROLE_SERVICES
    ]


def handler_installed() -> tuple[Argv, str]:
    """How to see whether HttpPlatformHandler, which comes apart from Windows, is there.

    Returns the command, and what its output has in it then.
    """
    return (APPCMD, "list", "module", "httpPlatformHandler"), "httpPlatformHandler"


def pool(site: Site) -> list[Wanted]:
    """The application pool: without .NET, always running, never recycled by the clock."""
    settings = {
        "autoStart": "true",
        "startMode": "AlwaysRunning",
        "managedRuntimeVersion": "",
        "enable32BitAppOnWin64": "false",
        "processModel.idleTimeout": "00:00:00",
        "recycling.periodicRestart.time": "00:00:00",
        "recycling.periodicRestart.requests": "0",
        "recycling.disallowOverlappingRotation": "false",
        "failure.rapidFailProtection": "false",
    }
    if site.account:
        settings["processModel.identityType"] = "SpecificUser"
        # Windows knows the password of a group-managed account; none is typed in anywhere.
        settings["processModel.userName"] = site.account
    else:
        settings["processModel.identityType"] = "ApplicationPoolIdentity"
    show = (APPCMD, "list", "apppool", site.pool_name)
    return [
        Wanted(show, there, (APPCMD, "add", "apppool", f"/name:{site.pool_name}")),
        *(
            Wanted(
                (*show, f"/text:{name}"),
                says(value),
                (APPCMD, "set", "apppool", site.pool_name, f"/{name}:{value}"),
            )
            for name, value in settings.items()
        ),
    ]


def application(site: Site, place: Place) -> list[Wanted]:
    """Site and application, started before the first request; handlers may be set by web.config."""
    path = checked_path(place.application)
    app = site.application
    show_app = (APPCMD, "list", "app", app)
    return [
        Wanted(
            (APPCMD, "list", "site", site.name),
            there,
            # Its binding comes later, with what `add site` has no word for.
            (
                *(APPCMD, "add", "site", f"/name:{site.name}"),
                f"/physicalPath:{checked_path(place.site)}",
            ),
        ),
        Wanted(
            (APPCMD, "list", "app", f"{site.name}/", "/text:applicationPool"),
            says(site.pool_name),
            (APPCMD, "set", "app", f"{site.name}/", f"/applicationPool:{site.pool_name}"),
        ),
        Wanted(
            show_app,
            there,
            (
                *(APPCMD, "add", "app", f"/site.name:{site.name}", f"/path:{site.prefix}"),
                *(f"/physicalPath:{path}", f"/applicationPool:{site.pool_name}"),
            ),
        ),
        Wanted(
            (APPCMD, "list", "vdir", f"{app}/", "/text:physicalPath"),
            says(path),
            (APPCMD, "set", "vdir", f"{app}/", f"/physicalPath:{path}"),
        ),
        *(
            Wanted(
                (*show_app, f"/text:{name}"),
                says(value),
                (APPCMD, "set", "app", app, f"/{name}:{value}"),
            )
            for name, value in {"applicationPool": site.pool_name, "preloadEnabled": "true"}.items()
        ),
        # Requests are not logged in: the pool's account, not IUSR, opens web.config.
        Wanted(
            (APPCMD, "list", "config", app, "/section:anonymousAuthentication"),
            shows("anonymousAuthentication", {"userName": ""}),
            (
                *(APPCMD, "set", "config", app, "/section:anonymousAuthentication"),
                *("/enabled:true", "/userName:", "/commit:apphost"),
            ),
        ),
        # Locked on a new server; opened for this application only.
        Wanted(
            (APPCMD, "list", "config", app, "/section:handlers", "/xml"),
            shows("CONFIG", {"locked": "false"}),
            (APPCMD, "unlock", "config", app, "/section:handlers", "/commit:apphost"),
        ),
    ]


def fastcgi(place: Place, instances: int) -> list[Wanted]:
    """The FastCGI processes of wfastcgi, for servers without HttpPlatformHandler.

    Errors' texts must not reach the caller (ReturnGeneric500), and processes live long: a new one
    takes seconds to start.
    """
    application = {
        "fullPath": checked_path(place.python),
        "arguments": fastcgi_arguments(place),
        "maxInstances": str(instances),
        "instanceMaxRequests": "1000000",
        "idleTimeout": "2592000",
        "activityTimeout": "120",
        "requestTimeout": "120",
        "signalBeforeTerminateSeconds": "30",
        "stderrMode": "ReturnGeneric500",
    }
    section = ("set", "config", "/section:system.webServer/fastCgi")
    new = ",".join(f"{name}='{value}'" for name, value in application.items())
    return [
        Wanted(
            (APPCMD, "list", "config", "/section:system.webServer/fastCgi"),
            shows("application", application),
            (APPCMD, *section, f"/+[{new}]", "/commit:apphost"),
            first=_without_fastcgi(place),
        )
    ]


def _without_fastcgi(place: Place) -> Argv:
    named = f"fullPath='{checked_path(place.python)}',arguments='{fastcgi_arguments(place)}'"
    section = "/section:system.webServer/fastCgi"
    return (APPCMD, "set", "config", section, f"/-[{named}]", "/commit:apphost")


def binding(site: Site) -> list[Wanted]:
    """The site's binding, and the certificate that http.sys shows on it.

    Without a host name the certificate is that of the port, for callers without SNI too.
    """
    flags, where = "1" if site.host else "0", _where(site)
    new = f"protocol='https',bindingInformation='{site.binding}'"
    return [
        Wanted(
            (APPCMD, "list", "site", site.name, "/text:bindings"),
            lists(f"https/{site.binding}"),
            (APPCMD, "set", "site", site.name, f"/+bindings.[{new},sslFlags='{flags}']"),
        ),
        Wanted(
            (NETSH, "http", "show", "sslcert", where),
            tells_of(site.thumbprint),
            (
                *(NETSH, "http", "add", "sslcert", where, f"certhash={site.thumbprint}"),
                *(f"appid={APPLICATION_ID}", "certstorename=MY"),
            ),
            first=(NETSH, "http", "delete", "sslcert", where),
        ),
    ]


def quiet_logs(site: Site) -> list[Wanted]:
    """No query string in the site's logs and in failed-request traces."""
    settings = {
        # NCSA's and IIS's own formats have fixed fields, the query among them.
        "logFile.logFormat": "W3C",
        "logFile.logExtFileFlags": LOG_FIELDS,
        "traceFailedRequestsLogging.enabled": "false",
    }
    return [
        Wanted(
            (APPCMD, "list", "site", site.name, f"/text:{name}"),
            consists_of(value),
            (APPCMD, "set", "site", site.name, f"/{name}:{value}"),
        )
        for name, value in settings.items()
    ]


def httperr() -> Wanted:
    """No URL in HTTPERR, for all sites; from the next start of the HTTP service, with Windows."""
    return Wanted(
        (REG, "query", HTTP_PARAMETERS, "/v", "ErrorLoggingFields"),
        tells_of(f"REG_DWORD    0x{HTTPERR_FIELDS:x}"),
        (
            *(REG, "add", HTTP_PARAMETERS, "/v", "ErrorLoggingFields"),
            *("/t", "REG_DWORD", "/d", f"0x{HTTPERR_FIELDS:x}", "/f"),
        ),
    )


def removed(site: Site) -> list[Wanted]:
    """Application, site, pool, certificate's binding and our fields of HTTPERR are gone."""
    where = _where(site)
    fields = (HTTP_PARAMETERS, "/v", "ErrorLoggingFields")
    commands: dict[Argv, Argv] = {
        (APPCMD, "list", "app", site.application): (APPCMD, "delete", "app", site.application),
        (APPCMD, "list", "site", site.name): (APPCMD, "delete", "site", site.name),
        (APPCMD, "list", "apppool", site.pool_name): (APPCMD, "delete", "apppool", site.pool_name),
        (NETSH, "http", "show", "sslcert", where): (NETSH, "http", "delete", "sslcert", where),
        (REG, "query", *fields): (REG, "delete", *fields, "/f"),
    }
    return [Wanted(probe, missing, command) for probe, command in commands.items()]


def fastcgi_removed(place: Place) -> list[Wanted]:
    """IIS knows the FastCGI processes of wfastcgi no more."""
    application = {"fullPath": str(place.python), "arguments": fastcgi_arguments(place)}
    known = shows("application", application)
    return [
        Wanted(
            (APPCMD, "list", "config", "/section:system.webServer/fastCgi"),
            lambda done: not known(done),
            _without_fastcgi(place),
        )
    ]


def _where(site: Site) -> str:
    if site.host:
        return f"hostnameport={site.host}:{site.port}"
    return f"ipport=0.0.0.0:{site.port}"


def checked_path(path: PurePath) -> str:
    """The path, if IIS's tools can be told of it.

    Raises:
        ValueError: it has a quote or a percent sign, which appcmd and IIS would read as their own.
    """
    text = str(path)
    if not _PATH.fullmatch(text):
        raise ValueError("a path has a quote or a percent sign, or is too long: IIS can't take it")
    return text
