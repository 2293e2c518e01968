from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from apps.vault.master import MasterKeyInvalid, MasterKeys

KEY = b64encode(bytes(range(32))).decode()
OTHER = b64encode(bytes(range(1, 33))).decode()


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "master.key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_first_key_is_current_and_all_are_known(tmp_path: Path) -> None:
    keys = MasterKeys.load(write(tmp_path, f"# rotation\n\nnew:{OTHER}\r\n  old:{KEY}\n"))
    assert keys.current_id == "new"
    assert keys.keys == {"new": bytes(range(1, 33)), "old": bytes(range(32))}


def test_byte_order_mark_of_a_windows_editor_is_ignored(tmp_path: Path) -> None:
    assert MasterKeys.load(write(tmp_path, b"\xef\xbb\xbf" + f"a:{KEY}".encode())).current_id == "a"


def test_repr_holds_no_key(tmp_path: Path) -> None:
    text = repr(MasterKeys.load(write(tmp_path, f"a:{KEY}")))
    assert "x01" not in text and KEY not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no key"),
        ("# nothing but a comment\n", "holds no key"),
        (KEY, "expected <id>:<base64>"),
        (f"spaced id:{KEY}", "expected <id>:<base64>"),
        (f"{'x' * 33}:{KEY}", "expected <id>:<base64>"),
        ("a:not base64!", "not base64"),
        (f"a:{KEY[:-4]}", "bytes, expected 32"),
        (f"a:{KEY}\na:{OTHER}", "line 2: the key id 'a' stands there twice"),
        (b"a:\xff\xfe", "not UTF-8"),
        ("#" * 65537, "over 65536 bytes"),
    ],
)
def test_malformed_file_is_one_line_without_the_key(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(MasterKeyInvalid) as caught:
        MasterKeys.load(write(tmp_path, content))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_missing_or_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(
        MasterKeyInvalid, match=r"does not exist; `python manage\.py ens_master_key`"
    ):
        MasterKeys.load(tmp_path / "none.key")
    with pytest.raises(MasterKeyInvalid, match="can't be read"):
        MasterKeys.load(tmp_path)
