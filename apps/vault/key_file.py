"""Changing the master key file: never half written, and readable by the same accounts as before."""

from __future__ import annotations

import os
import secrets
import sys
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from apps.vault import master
from apps.vault.master import KEY_BYTES, MasterKeyInvalid, MasterKeys

_HEAD = "# Master keys of ENS, the current one first. Keep a copy in a safe place.\n"


def add_key() -> str:
    """Put a new key at the end of the file; its id. It wraps nothing before `put_first`.

    Raises:
        MasterKeyInvalid: there is no usable file, or it can't be changed.
    """
    known = MasterKeys.load(settings.ENS.master_key_file)
    day = timezone.now().strftime("k%Y%m%d")
    names = [day, *(f"{day}-{count}" for count in range(2, 100))]
    key_id = next(name for name in names if name not in known.keys)
    keys = {**known.keys, key_id: secrets.token_bytes(KEY_BYTES)}
    _write([(name, keys[name]) for name in keys])
    return key_id


def put_first(key_id: str) -> None:
    """Let a key of the file wrap from now on.

    Raises:
        MasterKeyInvalid: there is no such key, no usable file, or it can't be changed.
    """
    known = MasterKeys.load(settings.ENS.master_key_file).keys
    if key_id not in known:
        raise MasterKeyInvalid(f"the master key file has no key {key_id!r}")
    rest = [(name, key) for name, key in known.items() if name != key_id]
    _write([(key_id, known[key_id]), *rest])


def drop_others() -> list[str]:
    """Leave nothing but the first key in the file; the ids of those that are gone.

    Raises:
        MasterKeyInvalid: there is no usable file, or it can't be changed.
    """
    known = MasterKeys.load(settings.ENS.master_key_file)
    _write([(known.current_id, known.keys[known.current_id])])
    return [name for name in known.keys if name != known.current_id]


def _write(keys: Sequence[tuple[str, bytes]]) -> None:
    path: Path = settings.ENS.master_key_file
    lines = [f"{name}:{b64encode(key).decode('ascii')}\n" for name, key in keys]
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write((_HEAD + "".join(lines)).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        _replace(path, fresh)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise MasterKeyInvalid(
            f"master key file {path} can't be changed ({type(error).__name__})"
        ) from None
    master.forget()


def _replace(path: Path, fresh: Path) -> None:
    """Put one file in the other's place, with the other's owner and access list."""
    if sys.platform == "win32":
        import ctypes

        # ReplaceFile keeps the replaced file's access list, which os.replace would not.
        # https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-replacefilew
        if not ctypes.windll.kernel32.ReplaceFileW(str(path), str(fresh), None, 0, None, None):
            raise ctypes.WinError()
        return
    before = path.stat()
    fresh.chmod(before.st_mode & 0o777)
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(fresh, before.st_uid, before.st_gid)
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
