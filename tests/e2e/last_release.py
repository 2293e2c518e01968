"""The release before this one, taken from the history, and a stand of it."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from apps.lab.stand.facts import APP_ID
from apps.lab.stand.side import ROOT, Side
from apps.lab.stand.stand import DEPLOYMENT, Stand

_GIT_S = 60


def commit() -> str | None:
    """The last commit of the release before this one; None where the history is not here.

    Tags may not travel with a clone, so it goes by the changelog: its top heading is a version,
    and that of the next change to it is another one.
    """
    changes = _git("log", "--first-parent", "--format=%H", "--", "CHANGELOG.md").split()
    ours = _heading("HEAD")
    for newer, older in pairwise(changes):
        heading = _heading(older)
        if heading not in (ours, "Unreleased", ""):
            return _git("rev-parse", "--verify", "-q", f"{newer}^1").strip() or None
    return None


def unpack(release: str, directory: Path) -> Path:
    """The tree of a commit, in `directory`."""
    archive = directory.with_suffix(".tar")
    _git("archive", "--format=tar", "-o", str(archive), release)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4, as on Debian 12
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(directory)
    archive.unlink()
    return directory


def _heading(commit: str) -> str:
    found = re.search(r"^## (\S+)", _git("show", f"{commit}:CHANGELOG.md"), re.MULTILINE)
    return found[1] if found else ""


def _git(*words: str) -> str:
    """What git says; nothing where it can't."""
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=_GIT_S,
        )
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


class StandOf010(Stand):
    """A stand that begins with release 0.1.0 in `root`: its settings, its commands."""

    root: Path

    def _ens_side(self) -> Side:
        directory = self.home / "ens"
        values = {
            "LINK_ADDRESS": self.link_address,
            "ROLES": "device-api,notify",
            "CNS_URL": self.relay_url,
            "CNS_KEY_FILE": (directory / "cns.pem").as_posix(),
            "GUARD_EXCEPTIONS": "127.0.0.0/8",
        }
        return Side(directory, self.logs, values | self._server_settings(), self.root)

    def _relay_side(self) -> Side:
        values = {
            "LINK_ADDRESS": self.link_address,
            "ROLES": "relay",
            "GUARD_EXCEPTIONS": "127.0.0.0/8",
            "RELAY_AUDIENCE": self.relay_url,
            "RELAY_APNS_URL": self.apns_url,
            "RELAY_APNS_CA_FILE": self.apns_ca.as_posix(),
        }
        return Side(self.home / "relay", self.logs, values, self.root)

    def _begin(self, side: Side, *more: Sequence[str]) -> list[str]:
        return side.manage(["ens_master_key"], ["migrate", "--verbosity", "0"], *more)

    def _set_up_relay(self, side: Side, certificate: Path) -> None:
        key = self.provider_key
        self._begin(
            side,
            ["relay_deployment", "add", "--name", DEPLOYMENT, "--certificate", str(certificate)],
            [
                *("relay_push_app", "add", "--app", APP_ID, "--key-file", str(key.p8_file)),
                *("--key-id", key.key_id, "--team-id", key.team_id, "--share", DEPLOYMENT),
            ],
        )
