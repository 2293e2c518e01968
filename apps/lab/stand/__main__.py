"""`python -m apps.lab.stand run|demo|lab`: what `dev.py` starts inside the virtual environment."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

from apps.lab import demo
from apps.lab.stand import signals
from apps.lab.stand.commands import CommandFailed
from apps.lab.stand.home import HomeTaken, take
from apps.lab.stand.lab import Lab, StartFailed
from apps.lab.stand.side import ROOT
from apps.lab.stand.stand import ADMINISTRATOR, OWN, Stand

PAGE_PORT = 8765


def main() -> int:
    options = _options()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    signals.raise_on_stop()
    try:
        if options.command == "demo":
            return _demo(options.mails, as_json=options.json)
        home = take(options.home or ROOT / "var" / options.command)
        return _run(home) if options.command == "run" else _lab(home)
    except (StartFailed, CommandFailed, demo.DemoFailed, HomeTaken) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    except signals.Stopped:
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m apps.lab.stand")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "ENS with the lab and the live page, until Ctrl-C"),
        ("lab", "the lab's servers alone, until Ctrl-C"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--home", type=Path, help=f"working directory; default: var/{name}")
    the_demo = commands.add_parser("demo", help="the main job once, then end")
    the_demo.add_argument("--mails", type=_count, default=20)
    the_demo.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError("1 to 10000")
    return number


def _run(home: Path) -> int:
    say("Starting ENS and its lab; this takes some seconds ...")
    with Stand(home) as stand:
        page = stand.open_page(PAGE_PORT)
        say("\nENS is running, with a pretend Exchange, APNs and FCM, and two phones.\n")
        say(f"  Live page        {page}")
        say(f"  Console          {stand.console_url}")
        say(f"    to sign in     {ADMINISTRATOR}, {stand.console_password}")
        say(f"  Device API       {stand.link_address}")
        say(f"    to try it      {stand.link_address}/docs")
        say(f"  API token        {stand.facts.api_token}")
        _say_lab(stand)
        _until_stopped()
    return 0


def _lab(home: Path) -> int:
    with Lab(home) as lab:
        say("\nThe lab's servers are running.\n")
        _say_lab(lab)
        key = lab.provider_key
        say(f"  APNs key         {key.p8_file}, key id {key.key_id}, team {key.team_id}")
        say(f"  FCM account      {lab.service_account.file}")
        _until_stopped()
    return 0


def _say_lab(lab: Lab) -> None:
    say(f"  Exchange (EWS)   {lab.ews_url}")
    say(f"    its CA         {lab.exchange_ca}")
    say(f"    its control    {lab.exchange_control}/lab/")
    say(f"  APNs             {lab.apns_url}")
    say(f"    its CA         {lab.apns_ca}")
    say(f"    its control    {lab.apns_control}/")
    say(f"  FCM              {lab.fcm_url}")
    say(f"    its CA         {lab.fcm_ca}")
    say(f"    its control    {lab.fcm_control}/")
    say("  Demo accounts    address, user name, password")
    for user in lab.users:
        say(f"    {user.address:<20} {user.username:<16} {user.password}")
    say(f"  Logs             {lab.logs}")


def _until_stopped() -> None:
    say("\nCtrl-C stops it.")
    try:
        while True:
            time.sleep(0.2)
    except signals.Stopped:
        say("\nStopping ...")


def _demo(mails: int, *, as_json: bool) -> int:
    scratch = tempfile.TemporaryDirectory(prefix="ens-demo-", ignore_cleanup_errors=True)
    with scratch as directory:
        print("Starting ENS and its lab ...", file=sys.stderr)
        with Stand(Path(directory) / "stand") as stand:
            print(f"Sending {mails} mails ...", file=sys.stderr)
            outcome = demo.run(stand, mails)
            if outcome.lost:
                for name in OWN:
                    print(f"--- {name}\n{stand.last_words(name)}", file=sys.stderr)
    figures = outcome.as_json()
    print(json.dumps(figures) if as_json else _table(figures), flush=True)
    return 1 if outcome.lost else 0


def _table(figures: dict[str, object]) -> str:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{name + ' ' + inner:<24} {number:>8}" for inner, number in value.items()]
        else:
            lines.append(f"{name:<24} {value:>8}")
    return "\n".join(lines)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
