"""Parsers of what comes from outside answer or refuse, whatever comes; and soon."""

from __future__ import annotations

import base64
import importlib.util
import random
import sys
import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.exchange.errors import MAX_BACK_OFF_S
from apps.exchange.ews import soap
from apps.exchange.transport import _retry_after_s
from tests.fuzz import __main__ as runner
from tests.fuzz.mutate import mutate
from tests.fuzz.seeds import WORDS, seeds
from tests.fuzz.targets import TARGETS, read_answer, read_autodiscover, read_notification

XML = ("notification", "answer", "autodiscover")


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """A seed after some changes."""
    data = draw(st.sampled_from(seeds(target)))
    chance = random.Random(draw(st.integers(0, 2**64)))
    for _ in range(draw(st.integers(1, 4))):
        data = mutate(data, chance)
    return data


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
def test_every_prefix_of_a_seed(target: str) -> None:
    for seed in seeds(target)[:3]:
        for end in range(0, len(seed), 7):
            TARGETS[target](seed[:end])


@given(changed("notification"))
def test_changed_notifications(data: bytes) -> None:
    read_notification(data)


@given(changed("answer"))
def test_changed_answers(data: bytes) -> None:
    read_answer(data)


@given(changed("autodiscover"))
def test_changed_autodiscover_answers(data: bytes) -> None:
    read_autodiscover(data)


@given(st.binary(max_size=300))
def test_a_jwe_of_anything(data: bytes) -> None:
    TARGETS["jwe"](data)


@given(
    st.sampled_from([b"\x01", b"\x02"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.sampled_from(WORDS),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    ),
    st.dictionaries(
        st.sampled_from(["iat", "jti", "alg", "enc", "kid", "zip", "crit", "email"]),
        st.integers() | st.text(max_size=200) | st.none(),
    ),
)
def test_a_jwe_of_json(kind: bytes, more: object, named: dict[str, object]) -> None:
    import json

    content = json.dumps({**named, "more": more}, ensure_ascii=False)
    TARGETS["jwe"](kind + content.encode("utf-8", "surrogatepass"))


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,4} [A-Z][a-z]{2} \d+ [\d:]+ .*"))
@example("Sat, 01 Jan 0000 00:00:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Sat, 01 Jan 2000 00:00:00 +99999999999999")
@example("9" * 400)
@example("²")
def test_any_retry_after(value: str) -> None:
    assert 0 <= _retry_after_s(value, 5.0) <= MAX_BACK_OFF_S


BOMBS = {
    "nested": b"<a>" * 100_000,
    "nested in the envelope": seeds("answer")[0].replace(
        b"<m:Watermark>", b"<m:Watermark>" + b"<a>" * 60_000
    ),
    "attributes": b"<a " + b" ".join(b'a%d=""' % number for number in range(30_000)) + b"/>",
    "namespaces": b"<a " + b" ".join(b'xmlns:a%d="x"' % n for n in range(15_000)) + b"/>",
    "references": b"<a>" + b"&#1;" * 60_000 + b"</a>",
    "laughs": b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'">]><a>' + b"&b;" * 50_000 + b"</a>",
    "laughs in utf-16": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "x">]><a/>'
    "".encode("utf-16"),
    "laughs in utf-7": b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a><a/>',
    "one name": b"<" + b"a" * 250_000 + b"/>",
    "one comment": b"<!--" + b"-" * 250_000,
    "siblings": b"<a>" + b"<b/>" * 60_000 + b"</a>",
    "code": seeds("answer")[-1].replace(b"ErrorServerBusy", b"E" * 200_000),
    "digits": seeds("answer")[-2].replace(b"1500", b"9" * 200_000),
    "version": b'<s ServerVersionInfo MajorVersion="' + b"1" * 200_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("target", XML)
def test_no_input_costs_more_than_its_size(target: str, bomb: str) -> None:
    data = BOMBS[bomb]
    TARGETS[target](data)
    began = time.process_time()
    TARGETS[target](data)
    assert time.process_time() - began < 2.0
    tracemalloc.start()
    try:
        TARGETS[target](data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(data) + 2**20


@pytest.mark.parametrize("length", [10_000, 16_384, 1_000_000])
@pytest.mark.parametrize("kind", range(4))
def test_no_jwe_costs_more_than_its_size(kind: int, length: int) -> None:
    for filling in (b"a", b"[", b'{"a":', b"."):
        data = bytes([kind]) + filling * (length // len(filling))
        began = time.process_time()
        TARGETS["jwe"](data)
        assert time.process_time() - began < 2.0


def test_a_target_at_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr(soap, "body_of", careless)
    for target in XML:
        with pytest.raises(IndexError):
            for seed in seeds(target):
                TARGETS[target](seed)
    # A JWE that is none, of a fuzzer's first byte.
    with pytest.raises(TypeError):
        TARGETS["jwe"]("text")  # type: ignore[arg-type]


def test_changes_reach_the_inside() -> None:
    """Most changed documents are well-formed still, or little behind the XML parser is tried."""
    chance = random.Random(1)
    whole = 0
    for _ in range(300):
        try:
            soap.parse(mutate(seeds("answer")[5], chance))
        except soap.XmlRefused:
            continue
        whole += 1
    assert whole > 150


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_coverage_guided_fuzzer_starts(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    if sys.platform != "linux" or importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not for this platform")
    monkeypatch.setattr(runner, "KEPT", tmp_path)
    executions, broken = runner.fuzz(target, 1)
    assert not broken, broken[-3000:]
    assert executions > len(seeds(target))


def test_what_is_kept_can_be_read_as_a_seed() -> None:
    """Names of targets are the same everywhere; a dictionary's words are printable."""
    assert set(runner.NAMES) == set(TARGETS)
    for word in WORDS:
        escaped = runner._escaped(word)
        assert escaped.isascii() and escaped.isprintable()
    assert base64.b64encode(seeds("jwe")[0])
