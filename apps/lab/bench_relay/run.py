"""Brings up the server and the contenders and lets them send in turn, several times over."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apps.cns.channel import make_channel
from apps.lab.bench_relay import contestants, workload
from apps.lab.bench_relay.contestants import Absent, Contender
from apps.lab.bench_relay.outcome import Outcome, Run
from apps.lab.bench_relay.processes import Failed, Spoken
from apps.lab.stand import waiting
from apps.lab.stand.facts import APP_ID
from apps.lab.stand.lab import answers, make_provider_key
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.side import Side
from apps.lab.stand.supervisor import Supervisor

_DEPLOYMENT = "bench"
_READY_S = 60.0
# For just-in-time compilers, connections and caches.
_WARM_UP = 1000


@dataclass(frozen=True, slots=True)
class Size:
    """How many pushes each contender sends a time, how many times, how many are under way.

    No round begins after `seconds`, whatever `repeats` says; a slow machine gets fewer.
    """

    pushes: int = 10_000
    repeats: int = 5
    seconds: float = 120.0
    in_flight: int = 400

    def of(self, contender: Contender) -> int:
        """A contender's pushes a time: its share, in whole hundreds where there are so many."""
        return max(1, int(self.pushes * contender.share))


class Bench:
    """The pretend APNs, the relay and the contenders, in `home`, an existing directory."""

    def __init__(
        self,
        home: Path,
        size: Size,
        say: Callable[[str], None],
        contenders: Sequence[Contender] = contestants.CONTENDERS,
    ) -> None:
        self._home = home
        self._size = size
        self._say = say
        self._contenders = contenders
        self._open = ExitStack()
        self._processes: dict[str, Spoken] = {}
        self._supervisor: Supervisor | None = None
        self._ens: Side | None = None

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            self._start(starting)
            self._open = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def run(self) -> Outcome:
        """Let all send in turn, as often as the size says; raises Failed."""
        taking_part = [each for each in self._contenders if each.name in self._processes]
        for contender in taking_part:
            self._once(contender, 0, min(_WARM_UP, self._size.of(contender)))
        runs: dict[str, list[Run]] = {each.name: [] for each in taking_part}
        ends = time.monotonic() + self._size.seconds
        for repeat in range(self._size.repeats):
            if repeat and time.monotonic() > ends:
                self._say(f"{self._size.seconds:g} seconds are over")
                break
            self._say(f"round {repeat + 1} of {self._size.repeats} ...")
            for contender in taking_part:
                count = self._size.of(contender)
                runs[contender.name].append(self._once(contender, 0, count))
        return Outcome({each.name: each.what for each in taking_part}, runs)

    def _once(self, contender: Contender, start: int, count: int) -> Run:
        process = self._processes[contender.name]
        self._apns.ask("")
        server, before = self._apns.cpu_seconds(), self._cpu_seconds(contender)
        told = process.ask(f"{start} {count}")
        after = self._cpu_seconds(contender)
        server = self._apns.cpu_seconds() - server
        counted = self._apns.ask("")
        taken = (told["accepted"], counted["answered"], counted["different"])
        if taken != (count, count, count) or counted["refused"]:
            raise Failed(f"{contender.name}: of {count} sent, accepted, answered, unlike: {taken}")
        return Run(count, told["seconds"], after - before, server)

    def _cpu_seconds(self, contender: Contender) -> float:
        if not contender.relay:
            return self._processes[contender.name].cpu_seconds()
        assert self._supervisor is not None
        return self._supervisor.cpu_seconds()["relay"]

    # --- starting ---

    def _start(self, starting: ExitStack) -> None:
        directory = self._home / "apns"
        directory.mkdir()
        words = ["-m", "apps.lab.bench_relay.apns", "--directory", str(directory)]
        self._apns = starting.enter_context(
            Spoken([sys.executable, *words], self._home / "apns.log")
        )
        url = f"https://{HOST}:{int(self._apns.hear())}"
        file = self._home / "workload.jsonl"
        workload.write(file, max(self._size.of(each) for each in self._contenders))
        key = make_provider_key(self._home)
        setup: dict[str, Any] = {
            "url": url,
            "ca_file": str(directory / "ca.pem"),
            "key_file": str(key.p8_file),
            "key_id": key.key_id,
            "team_id": key.team_id,
            "topic": APP_ID,
            "in_flight": self._size.in_flight,
            "workload": str(file),
        }
        if any(each.relay for each in self._contenders):
            setup |= self._start_relay(setup, starting)
        for contender in self._contenders:
            try:
                self._start_contender(contender, setup, starting)
            except Absent as reason:
                self._say(f"{contender.what} takes no part: {reason}")

    def _start_contender(
        self, contender: Contender, setup: dict[str, Any], starting: ExitStack
    ) -> None:
        command = contestants.command(contender)
        if contender.program.endswith(".js"):
            setup = setup | {"node_modules": str(contestants.node_modules())}
        log = self._home / f"{contender.name}.log"
        environment = self._ens_environment() if contender.more.get("sealed") else None
        process = starting.enter_context(Spoken(command, log, environment))
        pushes = {"pushes": self._size.of(contender)}
        process.say(json.dumps(setup | dict(contender.more) | pushes))
        if process.hear() != "ready":
            raise Failed(f"{contender.name} is not ready")
        self._processes[contender.name] = process

    def _ens_environment(self) -> Mapping[str, str]:
        """Of a whole ENS: only that can seal."""
        if self._ens is None:
            values = {
                "LINK_ADDRESS": f"https://{HOST}/MailNotificationService/api/ens",
                "ROLES": "device-api,notify",
            }
            self._ens = Side(self._home / "ens", self._home, values)
            self._ens.manage(["ens_master_key"])
        return self._ens.program("sealing", []).environment

    def _start_relay(self, setup: dict[str, Any], starting: ExitStack) -> dict[str, Any]:
        port = free_port()
        relay_url = f"http://{HOST}:{port}"
        directory = self._home / "relay"
        channel = directory / "cns.pem"
        values = {
            "LINK_ADDRESS": relay_url,
            "ROLES": "relay",
            "RELAY_AUDIENCE": relay_url,
            "RELAY_APNS_URL": setup["url"],
            "RELAY_APNS_CA_FILE": setup["ca_file"],
            "GUARD_EXCEPTIONS": "127.0.0.0/8",
        }
        side = Side(directory, self._home, values)
        channel.write_bytes(b"".join(make_channel(_DEPLOYMENT)))
        side.manage(
            ["ens_master_key"],
            ["migrate", "--verbosity", "0"],
            ["relay_deployment", "add", "--name", _DEPLOYMENT, "--certificate", str(channel)],
            [
                *("relay_push_app", "add", "--app", APP_ID, "--key-file", setup["key_file"]),
                *("--key-id", setup["key_id"], "--team-id", setup["team_id"]),
                *("--share", _DEPLOYMENT),
            ],
        )
        self._supervisor = Supervisor(self._home)
        starting.callback(self._supervisor.end)
        self._supervisor.start(side.web("relay", port))
        ready = answers(f"{relay_url}/nws/notify/apns", status=405)
        waiting.until("the relay", ready, _READY_S)
        return {"relay_url": relay_url, "channel_file": str(channel)}
