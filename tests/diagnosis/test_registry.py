"""The register of checks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.diagnosis import registry
from apps.diagnosis.registry import Context, Step


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_checks", {})


def test_checks_run_in_order_and_one_that_fails_itself_stops_nobody() -> None:
    @registry.check("a.one", title="One", area="a")
    def one(context: Context) -> Iterator[Step]:
        yield Step("first", "ok")
        raise RuntimeError("canary-4711")

    @registry.check("b.two", title="Two", area="b")
    def two(context: Context) -> list[Step]:
        return [Step("only", "warning", "late", "Set the clock.")]

    findings = registry.run()
    assert [one.check.name for one in findings] == ["a.one", "b.two"]
    assert [step.status for step in findings[0].steps] == ["ok", "failed"]
    assert "canary-4711" not in findings[0].steps[1].detail
    assert registry.worst(findings) == "failed"
    assert registry.worst(registry.run("b")) == "warning"
    assert registry.areas() == ["a", "b"]


def test_who_sees_a_part_only_does_not_look_at_the_deployment() -> None:
    registry.check("a.all", title="All", area="a")(lambda context: [Step("x", "ok")])
    registry.check("a.part", title="Part", area="a", deployment_wide=False)(
        lambda context: [Step("x", "ok", str(context.og_paths))]
    )
    assert len(registry.run()) == 2
    (finding,) = registry.run(context=Context(og_paths=("0001",)))
    assert finding.check.name == "a.part"


def test_a_name_is_taken_once() -> None:
    def one(context: Context) -> list[Step]:
        return []

    registry.check("a.one", title="One", area="a")(one)
    registry.check("a.one", title="One", area="a")(one)  # a second set-up of the same room
    with pytest.raises(ValueError, match=r"a\.one"):
        registry.check("a.one", title="Other", area="a")(lambda context: [])


def test_a_context_shows_no_credentials() -> None:
    shown = repr(Context(address="canary@example.com", username="canary", password="canary"))
    assert "canary" not in shown
