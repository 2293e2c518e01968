"""`python -m apps.lab.storm`: what `make storm` starts inside the virtual environment."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from apps.lab.population import NotLetIn
from apps.lab.stand import signals
from apps.lab.stand.commands import CommandFailed
from apps.lab.stand.lab import StartFailed
from apps.lab.stand.postgres import PostgresMissing
from apps.lab.stand.redis_servers import RedisMissing
from apps.lab.stand.stand import Stand
from apps.lab.storm.chart import svg
from apps.lab.storm.outcome import Outcome
from apps.lab.storm.run import LAYOUT, Size, Storm


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    signals.raise_on_stop()
    size = Size(options.subscriptions, options.seconds, options.wakeups)
    try:
        outcome = _run(size)
    except (StartFailed, CommandFailed, PostgresMissing, RedisMissing, NotLetIn) as error:
        print(f"storm: {error}", file=sys.stderr)
        return 1
    except signals.Stopped:
        return 130
    print(f"\n{size.subscriptions} subscriptions of one mail system were forgotten.")
    print(f"ENS_WAKEUPS_A_SECOND was {size.wake_ups_a_second} (default in life: 10).")
    print("Rates and minutes are real ones. The clock of subscriptions and check-ins ran")
    print(f"{size.clock_scale:g} times as fast, and two of its minutes of silence told the loss.\n")
    print(outcome.table(), flush=True)
    if options.chart is not None:
        options.chart.write_text(svg(outcome), "utf-8")
        print(f"\nchart: {options.chart}", flush=True)
    if options.json:
        print(json.dumps(outcome.as_json()), flush=True)
    return 0 if outcome.kept else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    size = Size()
    parser = argparse.ArgumentParser(prog="python -m apps.lab.storm")
    parser.add_argument("--subscriptions", type=_count, default=size.subscriptions)
    parser.add_argument("--seconds", type=float, default=size.seconds, help="of quiet before")
    parser.add_argument("--wakeups", type=_count, default=size.wake_ups_a_second, help="a second")
    parser.add_argument("--chart", type=Path, help="SVG file to write")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError("1 to 100000")
    return number


def _run(size: Size) -> Outcome:
    scratch = tempfile.TemporaryDirectory(prefix="ens-storm-", ignore_cleanup_errors=True)
    with scratch as directory:
        _say("Starting ENS on PostgreSQL and Redis, and its lab ...")
        home = Path(directory) / "stand"
        stand = Stand(home, layout=LAYOUT, clock_scale=size.clock_scale, settings=size.settings)
        with stand:
            outcome = Storm(stand, size, _say).run()
        if not outcome.kept:
            for name in ("web", "worker", "beat", "relay"):
                _say(f"--- {name}\n{stand.last_words(name)}")
    return outcome


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
