"""The storm as a picture: calls and wake-ups by the second, and how many are repaired."""

from __future__ import annotations

from collections.abc import Sequence

from apps.lab.storm.outcome import Outcome

_WIDTH, _HEIGHT = 800, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 750, 60, 310
_CALLS, _WAKE_UPS, _REPAIRED = "#2b6cb0", "#c05621", "#718096"
_STYLE = "font-family:sans-serif;font-size:12px"


def svg(outcome: Outcome) -> str:
    """An SVG document that needs nothing else."""
    seconds = outcome.seconds
    calls = [outcome.calls.get(second, 0) for second in seconds]
    wake_ups = [outcome.wake_ups.get(second, 0) for second in seconds]
    repaired = [sum(at < second + 1 for at in outcome.repaired_at) for second in seconds]
    most = max(*calls, *wake_ups, 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'style="{_STYLE}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, f"{outcome.subscriptions} subscriptions forgotten at second 0"),
        _text(_LEFT, 42, "calls to Exchange per second", _CALLS),
        _text(_LEFT + 210, 42, "wake-ups per second", _WAKE_UPS),
        _text(_LEFT + 380, 42, "repaired (right axis)", _REPAIRED),
        f'<path d="M{_LEFT},{_TOP}V{_BOTTOM}H{_RIGHT}V{_TOP}" fill="none" stroke="#a0aec0"/>',
        _text(_LEFT - 8, _TOP + 4, str(most), anchor="end"),
        _text(_LEFT - 8, _BOTTOM + 4, "0", anchor="end"),
        _text(_RIGHT + 8, _TOP + 4, str(outcome.subscriptions), _REPAIRED),
        *_marks(len(seconds)),
        _line(repaired, max(outcome.subscriptions, 1), _REPAIRED),
        _line(calls, most, _CALLS),
        _line(wake_ups, most, _WAKE_UPS),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _marks(length: int) -> list[str]:
    marks = range(0, length, max(1, length // 5))
    return [
        _text(_x(at, length), _BOTTOM + 20, f"{at} s" if at else "0", anchor="middle")
        for at in marks
    ]


def _line(values: Sequence[int], most: int, colour: str) -> str:
    points = " ".join(
        f"{_x(at, len(values)):.1f},{_BOTTOM - value / most * (_BOTTOM - _TOP):.1f}"
        for at, value in enumerate(values)
    )
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _x(at: int, length: int) -> float:
    return _LEFT + at / max(1, length - 1) * (_RIGHT - _LEFT)


def _text(x: float, y: float, words: str, colour: str = "#1a202c", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y}" fill="{colour}" text-anchor="{anchor}">{words}</text>'
