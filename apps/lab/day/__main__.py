"""`python -m apps.lab.day`: what `make simulate-day` starts inside the virtual environment."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from apps.lab.day.outcome import Outcome
from apps.lab.day.run import LAYOUT, Day, Size
from apps.lab.population import NotLetIn
from apps.lab.stand import signals
from apps.lab.stand.commands import CommandFailed
from apps.lab.stand.lab import StartFailed
from apps.lab.stand.postgres import PostgresMissing
from apps.lab.stand.redis_servers import RedisMissing
from apps.lab.stand.stand import Stand


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    signals.raise_on_stop()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    size = Size(options.subscriptions, options.share, options.hours, options.clock_scale)
    print(f"Seed {seed}; SEED={seed} repeats this run.", flush=True)
    try:
        outcome = _run(seed, size)
    except (StartFailed, CommandFailed, PostgresMissing, RedisMissing, NotLetIn) as error:
        print(f"simulate-day: {error}", file=sys.stderr)
        return 1
    except signals.Stopped:
        return 130
    print(f"\nThe clock ran {size.clock_scale:g} times as fast as real time.\n")
    print(outcome.table(), flush=True)
    if options.json:
        print(json.dumps(outcome.as_json()), flush=True)
    return 0 if outcome.kept else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    size = Size()
    parser = argparse.ArgumentParser(prog="python -m apps.lab.day")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    parser.add_argument("--subscriptions", type=int, default=size.subscriptions)
    parser.add_argument("--share", type=float, default=size.share, help="that is dropped, 0 to 1")
    parser.add_argument("--hours", type=float, default=size.hours, help="of simulated time")
    parser.add_argument("--clock-scale", type=float, default=size.clock_scale)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(arguments)


def _run(seed: int, size: Size) -> Outcome:
    scratch = tempfile.TemporaryDirectory(prefix="ens-day-", ignore_cleanup_errors=True)
    with scratch as directory:
        _say("Starting ENS on PostgreSQL and Redis, and its lab ...")
        home = Path(directory) / "stand"
        with Stand(home, layout=LAYOUT, clock_scale=size.clock_scale) as stand:
            outcome = Day(stand, seed, size, _say).run()
        if not outcome.kept:
            for name in ("web", "worker", "beat", "relay"):
                _say(f"--- {name}\n{stand.last_words(name)}")
    return outcome


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
