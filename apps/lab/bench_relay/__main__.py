"""`python -m apps.lab.bench_relay`: what `make bench-relay` starts in the virtual environment."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from apps.lab.bench_relay.contestants import CONTENDERS
from apps.lab.bench_relay.processes import Failed
from apps.lab.bench_relay.run import Bench, Size
from apps.lab.stand import signals
from apps.lab.stand.commands import CommandFailed
from apps.lab.stand.waiting import TookTooLong


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    signals.raise_on_stop()
    contenders = [each for each in CONTENDERS if each.name in (options.only or [each.name])]
    size = Size(options.pushes, options.repeats)
    scratch = tempfile.TemporaryDirectory(prefix="ens-bench-", ignore_cleanup_errors=True)
    try:
        with scratch as directory, Bench(Path(directory), size, _say, contenders) as bench:
            outcome = bench.run()
    except (Failed, CommandFailed, TookTooLong) as error:
        print(f"bench-relay: {error}", file=sys.stderr)
        return 1
    except signals.Stopped:
        return 130
    print(f"\n{outcome.table()}", flush=True)
    if options.raw is not None:
        options.raw.write_text(json.dumps(outcome.raw(), indent=1) + "\n", "utf-8")
        print(f"\nevery run: {options.raw}", flush=True)
    if options.json:
        print(json.dumps(outcome.as_json()), flush=True)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    size = Size()
    names = [each.name for each in CONTENDERS]
    parser = argparse.ArgumentParser(prog="python -m apps.lab.bench_relay")
    parser.add_argument("--pushes", type=_count, default=size.pushes, help="a contender and round")
    parser.add_argument("--repeats", type=_count, default=size.repeats, help="rounds")
    parser.add_argument("--only", nargs="+", choices=names, help="these alone")
    parser.add_argument("--raw", type=Path, help="JSON file to write with every run")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError("1 to 100000")
    return number


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
