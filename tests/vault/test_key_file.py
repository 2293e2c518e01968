from __future__ import annotations

import os
import re
from base64 import b64encode
from pathlib import Path

import pytest
from django.conf import settings

from apps.vault import key_file, master
from apps.vault.master import MasterKeyInvalid, master_keys
from apps.vault.wrapping import UnwrapFailed, key_id_of, unwrap, wrap

PLACE = {"table": "t", "row": "1", "purpose": "p"}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    it = tmp_path / "master.key"
    it.write_text(f"# ours\nfirst:{b64encode(b'1' * 32).decode()}\n")
    it.chmod(0o640)
    ens = settings.ENS.model_copy(update={"master_key_file": it})
    monkeypatch.setattr(settings, "ENS", ens)
    monkeypatch.setattr(master, "_watched", master._Watched())
    return it


def test_a_key_is_added_used_and_left_alone(path: Path) -> None:
    blob = wrap(b"secret", **PLACE)
    second, third = key_file.add_key(), key_file.add_key()
    assert list(master_keys().keys) == ["first", second, third]
    assert master_keys().current_id == "first"
    key_file.put_first(third)
    assert key_id_of(wrap(b"x", **PLACE)) == third
    assert unwrap(blob, **PLACE) == b"secret"
    assert key_file.drop_others() == ["first", second]
    with pytest.raises(UnwrapFailed, match="no key 'first'"):
        unwrap(blob, **PLACE)
    assert [it.name for it in path.parent.iterdir()] == ["master.key"]


def test_who_could_read_it_still_can(path: Path) -> None:
    key_file.add_key()
    if os.name == "posix":  # on Windows ReplaceFile keeps the access list
        assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_changed_is_left_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(key_file, "_replace", full)
    with pytest.raises(MasterKeyInvalid, match="can't be changed"):
        key_file.add_key()
    assert path.read_bytes() == before
    assert [it.name for it in path.parent.iterdir()] == ["master.key"]
    with pytest.raises(MasterKeyInvalid, match="no key 'other'"):
        key_file.put_first("other")


def test_a_running_process_sees_a_new_key_soon_and_survives_a_bad_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blob = wrap(b"secret", **PLACE)
    whole = path.read_text()
    path.write_text(f"second:{b64encode(b'2' * 32).decode()}\n{whole}")
    assert master_keys().current_id == "first", "it is not read at every call"
    monkeypatch.setattr(master, "LOOK_AGAIN_S", 0.0)
    assert master_keys().current_id == "second"
    path.write_text("half a")
    assert unwrap(blob, **PLACE) == b"secret"
    path.unlink()
    assert unwrap(blob, **PLACE) == b"secret"
    assert "stay as they were" in caplog.text


def test_a_fingerprint_is_not_the_key(path: Path) -> None:
    key = master_keys().keys["first"]
    mark = master.fingerprint(key)
    assert re.fullmatch("[0-9a-f]{16}", mark) and mark not in key.hex()
    assert mark != master.fingerprint(b"2" * 32)
