"""Files as an installer writes them: wholly or not at all, with exactly the rights asked for."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from apps.operations.install.steps import StepFailed

# What is no part of an installed ENS, wherever in the tree it stands.
_LEFT_OUT: Final = ("__pycache__", ".git", ".ci", "tests", "var", "venv", "lab", "node_modules")
_PARTS: Final = ("manage.py", "LICENSE", "requirements.txt", "CHANGELOG.md", "README.md")
_TREES: Final = ("apps", "ens_project", "deploy", "docs", "templates", "static")


@dataclass(frozen=True, slots=True)
class Rights:
    """Mode and owner of a file on Linux; no owner: whoever runs the installer.

    On Windows it changes nothing: access lists are the platform's own steps.
    """

    mode: int
    user: str = ""
    group: str = ""

    def hold(self, path: Path) -> bool:
        """Whether the path has them; False where it isn't there."""
        if not path.exists():
            return False
        if sys.platform == "win32":
            return True
        found = path.stat()
        return stat.S_IMODE(found.st_mode) == self.mode and all(
            not wanted or actual == wanted
            for wanted, actual in ((self.user, _user(found)), (self.group, _group(found)))
        )

    def give(self, path: Path | int) -> None:
        """Make them so; raises OSError or LookupError (no such account)."""
        if sys.platform == "win32":
            return
        if self.user:
            shutil.chown(path, self.user)
        if self.group:
            shutil.chown(path, group=self.group)
        os.chmod(path, self.mode)  # noqa: PTH101 - it may be a descriptor

    def __str__(self) -> str:
        owner = f", {self.user or '-'}:{self.group or '-'}" if self.user or self.group else ""
        return f"{self.mode:04o}{owner}"


def _user(found: os.stat_result) -> str:
    import pwd

    try:
        return pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return str(found.st_uid)


def _group(found: os.stat_result) -> str:
    import grp

    try:
        return grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return str(found.st_gid)


def write(path: Path, content: bytes, rights: Rights) -> None:
    """Replace a file in one go: nobody ever sees half of it, or it with other rights.

    Raises:
        StepFailed: `file_not_written`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            rights.give(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, LookupError) as error:
        raise _not_written(path, error) from None


def read_own(path: Path) -> bytes:
    """A file among what the service account owns: a link there could lead root anywhere.

    Raises:
        OSError: it can't be read, or is a link.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _not_written(path: Path, error: Exception) -> StepFailed:
    reason = type(error).__name__
    return StepFailed("file_not_written", f"{path} can't be written ({reason})")


@dataclass(frozen=True)
class Directory:
    """A directory with its rights."""

    path: Path
    rights: Rights
    title: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", f"Directory {self.path}")

    def needed(self) -> bool:
        """See Step."""
        return not self.rights.hold(self.path)

    def describe(self) -> str:
        """See Step."""
        return f"make {self.path} ({self.rights})"

    def apply(self) -> None:
        """See Step."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.rights.give(self.path)
        except (OSError, LookupError) as error:
            raise _not_written(self.path, error) from None


@dataclass(frozen=True)
class File:
    """A file with its content and rights. `content` is asked for when it is needed, not before.

    `keep`: an existing one stays as it is, but for its rights.
    """

    title: str
    path: Path
    content: Callable[[], bytes] = field(repr=False)
    rights: Rights
    keep: bool = False

    def needed(self) -> bool:
        """See Step."""
        if not self.rights.hold(self.path):
            return True
        return not self.keep and _read(self.path) != self.content()

    def describe(self) -> str:
        """See Step."""
        return f"write {self.path} ({self.rights})"

    def apply(self) -> None:
        """See Step."""
        content = _read(self.path) if self.keep else None
        write(self.path, self.content() if content is None else content, self.rights)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = type(error).__name__
        raise StepFailed("file_not_read", f"{path} can't be read ({reason})") from None


@dataclass(frozen=True)
class Gone:
    """Files and directories that are not there any more."""

    title: str
    paths: Sequence[Path]

    def needed(self) -> bool:
        """See Step."""
        return any(path.exists() or path.is_symlink() for path in self.paths)

    def describe(self) -> str:
        """See Step."""
        there = (path for path in self.paths if path.exists() or path.is_symlink())
        return "\n".join(f"remove {path}" for path in there)

    def apply(self) -> None:
        """See Step."""
        for path in self.paths:
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise _not_written(path, error) from None


def release_files(source: Path) -> list[Path]:
    """The files that make an installed ENS, relative to `source`: no tests, no lab."""
    found = [source / part for part in _PARTS]
    for tree in _TREES:
        found += (source / tree).rglob("*")
    relative = [path.relative_to(source) for path in found if path.is_file()]
    return [path for path in relative if not set(path.parts) & set(_LEFT_OUT)]


@dataclass(frozen=True)
class Programs:
    """ENS itself at its location, copied from where this command runs."""

    source: Path
    location: Path
    title: str = "Programs"

    def needed(self) -> bool:
        """See Step."""
        if self.location.resolve() == self.source.resolve():
            return False
        return any(
            _read(self.location / file) != _read(self.source / file)
            for file in release_files(self.source)
        )

    def describe(self) -> str:
        """See Step."""
        return f"copy {self.source} to {self.location}"

    def apply(self) -> None:
        """See Step. What a former release had more stays: nothing imports it."""
        for file in release_files(self.source):
            content = _read(self.source / file)
            if content is not None and content != _read(self.location / file):
                write(self.location / file, content, Rights(0o644))
        # Whatever the umask was: the service account must find its way.
        for directory in {parent for path in release_files(self.source) for parent in path.parents}:
            Rights(0o755).give(self.location / directory)
