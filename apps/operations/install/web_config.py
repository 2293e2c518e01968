"""`web.config` for IIS, from the templates in `deploy/iis`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Literal
from xml.sax.saxutils import escape

from ens_project.env import BASE_DIR

Gateway = Literal["httpplatform", "wfastcgi"]
TEMPLATES: Final = BASE_DIR / "deploy" / "iis"
_NAME: Final = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True, slots=True)
class Place:
    """Where ENS stands on a Windows server; all paths are absolute."""

    root: PurePath
    """The programs: where `manage.py` is."""
    python: PurePath
    """The interpreter with ENS's libraries: `<venv>\\Scripts\\python.exe`."""
    base_python: PurePath
    """The interpreter that the virtual environment was made from."""
    data: PurePath
    """What ENS writes: `ENS_DATA_DIR`."""
    env_file: PurePath
    logs: PurePath
    iis: PurePath
    """What IIS opens: the directories of sites and applications."""
    component: str = "web"
    """What the application serves: `web`, `console` or `relay`."""

    @property
    def site(self) -> PurePath:
        """The web site's directory, empty: nothing of ENS may be served as a file."""
        return self.iis / "site"

    @property
    def application(self) -> PurePath:
        """The application's directory, with `web.config` alone."""
        return self.iis / self.component

    @property
    def wfastcgi(self) -> PurePath:
        """The module that pip put beside ENS's libraries."""
        return self.python.parent.parent / "Lib" / "site-packages" / "wfastcgi.py"


def fastcgi_arguments(place: Place) -> str:
    """The FastCGI process's arguments; the server's section and `web.config` must agree on them."""
    return f'"{place.wfastcgi}"'


@dataclass(frozen=True, slots=True)
class Served:
    """What one application serves, and by how much."""

    roles: str
    """`ENS_ROLES`."""
    ready: str = "/api/ens/ready"
    """What IIS asks for first, below the application's own path."""
    processes: int = 1
    """With wfastcgi as many as `fastCgi` says."""
    threads: int = 8
    """With wfastcgi always one."""
    settings: str = ""
    """What changes when ens.env or ENS itself does."""


def web_config(gateway: Gateway, place: Place, served: Served) -> str:
    """The text of `web.config`.

    Raises:
        ValueError: wfastcgi would not find the application's directory: it reads its name as
            Latin-1, whatever IIS wrote it in.
    """
    if gateway == "wfastcgi" and not str(place.application).isascii():
        raise ValueError("with wfastcgi, IIS's directory needs a name of ASCII letters")
    template = (TEMPLATES / f"{gateway}.web.config").read_text("utf-8")
    return _filled(
        template,
        {
            "PYTHON": str(place.python),
            "WFASTCGI": fastcgi_arguments(place),
            "ROLES": served.roles,
            "READY": served.ready,
            "PROCESSES": str(served.processes),
            "THREADS": str(served.threads),
            "SETTINGS": served.settings,
            "ROOT": str(place.root),
            "ENV_FILE": str(place.env_file),
            "LOGS": str(place.logs),
            "IIS_LOG": str(place.logs / "iis"),
        },
    )


def _filled(template: str, values: Mapping[str, str]) -> str:
    """`@NAME@` in the template, filled in as the value of an attribute of XML."""
    return _NAME.sub(lambda found: escape(values[found[1]], {'"': "&quot;"}), template)
