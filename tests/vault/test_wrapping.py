from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

PLACE = {"table": "t", "row": "1", "purpose": "p"}
text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.binary(), text, text, text)
def test_what_was_wrapped_unwraps_in_its_place(
    secret: bytes, table: str, row: str, purpose: str
) -> None:
    blob = wrap(secret, table=table, row=row, purpose=purpose)
    assert unwrap(blob, table=table, row=row, purpose=purpose) == secret
    assert unwrap(memoryview(blob), table=table, row=row, purpose=purpose) == secret


@given(text, text, text, text, text, text)
def test_a_blob_does_not_open_elsewhere(a: str, b: str, c: str, d: str, e: str, f: str) -> None:
    blob = wrap(b"secret", table=a, row=b, purpose=c)
    if (a, b, c) != (d, e, f):
        with pytest.raises(UnwrapFailed):
            unwrap(blob, table=d, row=e, purpose=f)


def test_moving_a_border_between_names_is_noticed() -> None:
    blob = wrap(b"secret", table="ab", row="c", purpose="p")
    with pytest.raises(UnwrapFailed):
        unwrap(blob, table="a", row="bc", purpose="p")


def test_every_changed_bit_is_noticed() -> None:
    blob = wrap(b"secret", **PLACE)
    for position in range(len(blob)):
        for bit in range(8):
            changed = bytearray(blob)
            changed[position] ^= 1 << bit
            with pytest.raises(UnwrapFailed):
                unwrap(bytes(changed), **PLACE)


@given(st.binary(max_size=80))
def test_garbage_only_fails(garbage: bytes) -> None:
    with pytest.raises(UnwrapFailed):
        unwrap(garbage, **PLACE)
    with pytest.raises(UnwrapFailed):
        unwrap(b"\x01\x04test" + garbage, **PLACE)


def test_every_truncation_fails() -> None:
    blob = wrap(b"secret", **PLACE)
    for length in range(len(blob)):
        with pytest.raises(UnwrapFailed):
            unwrap(blob[:length], **PLACE)


def test_the_same_secret_never_looks_the_same() -> None:
    assert wrap(b"secret", **PLACE) != wrap(b"secret", **PLACE)


def test_rotation_wraps_under_the_first_and_unwraps_under_any(
    use_master_keys: Callable[..., None],
) -> None:
    use_master_keys(old=b"o" * 32)
    old = wrap(b"secret", **PLACE)
    use_master_keys(new=b"n" * 32, old=b"o" * 32)
    new = wrap(b"secret", **PLACE)
    assert unwrap(old, **PLACE) == unwrap(new, **PLACE) == b"secret"
    use_master_keys(new=b"n" * 32)
    assert unwrap(new, **PLACE) == b"secret"
    with pytest.raises(UnwrapFailed, match="no key 'old'"):
        unwrap(old, **PLACE)


def test_a_key_id_does_not_stand_for_another_key(use_master_keys: Callable[..., None]) -> None:
    use_master_keys(a=b"1" * 32)
    blob = wrap(b"secret", **PLACE)
    use_master_keys(a=b"2" * 32)
    with pytest.raises(UnwrapFailed):
        unwrap(blob, **PLACE)
