"""`python -m apps.lab.chaos`: what `make chaos` starts inside the virtual environment."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from apps.lab.chaos import run as chaos
from apps.lab.chaos.outcome import Outcome
from apps.lab.population import NotLetIn
from apps.lab.stand import signals
from apps.lab.stand.commands import CommandFailed
from apps.lab.stand.lab import StartFailed
from apps.lab.stand.postgres import PostgresMissing
from apps.lab.stand.redis_servers import RedisMissing
from apps.lab.stand.stand import Stand

TROUBLED = ("web", "web-2", "worker", "worker-2", "relay", "beat")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    signals.raise_on_stop()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    size = chaos.Size(options.mailboxes, options.devices, options.mails, options.seconds)
    print(f"Seed {seed}; SEED={seed} repeats this run.", flush=True)
    try:
        outcome = _run(seed, size)
    except (StartFailed, CommandFailed, PostgresMissing, RedisMissing, NotLetIn) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    except signals.Stopped:
        return 130
    print(f"\nExchange's clock ran {chaos.CLOCK_SCALE:g} times as fast as real time.\n")
    print(outcome.table(), flush=True)
    if options.json:
        print(json.dumps(outcome.as_json()), flush=True)
    return 0 if outcome.kept else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    size = chaos.Size()
    parser = argparse.ArgumentParser(prog="python -m apps.lab.chaos")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    parser.add_argument("--mails", type=int, default=size.mails)
    parser.add_argument("--seconds", type=float, default=size.seconds, help="for sending them")
    parser.add_argument("--mailboxes", type=int, default=size.mailboxes)
    parser.add_argument("--devices", type=int, default=size.devices)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(arguments)


def _run(seed: int, size: chaos.Size) -> Outcome:
    scratch = tempfile.TemporaryDirectory(prefix="ens-chaos-", ignore_cleanup_errors=True)
    with scratch as directory:
        _say("Starting ENS on PostgreSQL and Redis, and its lab ...")
        home = Path(directory) / "stand"
        stand = Stand(home, layout=chaos.LAYOUT, clock_scale=chaos.CLOCK_SCALE)
        with stand:
            outcome = chaos.run(stand, seed, size, _say)
        if not outcome.kept:
            for name in TROUBLED:
                _say(f"--- {name}\n{stand.last_words(name)}")
            for mail in outcome.lost_mails[:20]:
                _say(f"lost: {mail.subject} of {mail.user}")
    return outcome


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
