"""ENS and the lab together: the whole road, each part a real process.

    with Stand(directory) as stand:
        phone = stand.phone(stand.users[0])
        phone.join()

Usable from tests; `stand.kill("worker")` is a `kill -9` after which the worker is started again.
A `Layout` puts it on PostgreSQL and Redis, with several web and worker processes.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from apps.lab.phone import Account, Apns, EnsClient, Fcm, Phone, Push, Refused
from apps.lab.stand.child import Program
from apps.lab.stand.facts import APP_ID, PROJECT_ID, DemoUser, Facts
from apps.lab.stand.lab import Lab, StartFailed, answers
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.postgres import Postgres
from apps.lab.stand.redis_servers import SENTINEL, RedisServers
from apps.lab.stand.side import Side
from apps.lab.stand.tcp_proxy import TcpProxy

PATH = "/MailNotificationService/api/ens"
OG = "Lab"
DEPLOYMENT = "lab"
ADMINISTRATOR = "admin"
# What costs CPU time in life: ENS's own processes, not the lab's.
OWN = ("web", "worker", "relay", "beat")
KEYS_S = 60.0
# What a request of a phone's or Exchange's takes at most, nothing hanging.
DRAINED_S = 0.5


@dataclass(frozen=True, slots=True)
class Layout:
    """What ENS stands on; the default is the embedded one.

    `empty`: one administrator and nothing else is set up, and the relay is beside ENS, in the same
    process and database, as in a trial; the rest is done in the console.

    `redis` brings a master, a replica and a Sentinel, as Celery's broker and as the event log.
    Several `webs` stand behind one address; programs are called `web`, `web-2`, … With
    `exchange_line` ENS reaches Exchange over a line that can be cut (`stand.exchange_line`).
    """

    postgres: bool = False
    redis: bool = False
    webs: int = 1
    workers: int = 1
    exchange_line: bool = False
    empty: bool = False

    def names(self, what: str) -> list[str]:
        """The programs of one kind, `web` or `worker`."""
        number = self.webs if what == "web" else self.workers
        return [what, *(f"{what}-{count}" for count in range(2, number + 1))]


class Stand(Lab):
    """ENS, its relay and the lab's servers in `home`, an empty or missing directory.

    `settings` are further lines of ENS's `ens.env`, by names without `ENS_`; `record` as in Lab,
    and `clock_scale` too, which then goes for ENS as well. `facts` is complete once the stand has
    started.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, str] | None = None,
        record: bool = False,
        clock_scale: float = 1.0,
        layout: Layout | None = None,
    ) -> None:
        super().__init__(home, record=record, clock_scale=clock_scale)
        self.layout = layout or Layout()
        front_port, relay_port = free_port(), free_port()
        self.ens_url = f"http://{HOST}:{front_port}"
        self.link_address = f"{self.ens_url}{PATH}"
        self.console_url = f"{self.ens_url}/MailNotificationService/console/"
        # For `ADMINISTRATOR`; nobody else's password is like it.
        self.console_password = secrets.token_urlsafe(12)
        self.relay_url = f"http://{HOST}:{relay_port}"
        if self.layout.empty:
            self.relay_url = self.ens_url
        self._relay_port = relay_port
        self._settings = dict(settings or {})
        self._web_ports = [front_port]
        self._front: TcpProxy | None = None
        if self.layout.webs > 1:
            self._web_ports = [free_port() for _ in range(self.layout.webs)]
            self._front = TcpProxy(front_port, self._web_ports)
        self.exchange_line: TcpProxy | None = None
        if self.layout.exchange_line:
            self.exchange_line = self._lay_exchange_line()
        self.postgres = Postgres(self.logs) if self.layout.postgres else None
        self.redis = RedisServers(home / "redis", self.logs) if self.layout.redis else None
        self.facts = Facts(
            ews_url=self.ews_url,
            exchange_control=self.exchange_control,
            apns_url=self.apns_url,
            apns_control=self.apns_control,
            fcm_control=self.fcm_control,
            exchange_ca_file=str(self.exchange_ca),
            link_address=self.link_address,
            users=self.users,
        )

    def start(self) -> None:
        """Set up and start everything and wait until phones can subscribe; raises StartFailed."""
        super().start()
        self._start_servers()
        for proxy in (self._front, self.exchange_line):
            if proxy is not None:
                proxy.start()
        self._ens = ens = self._ens_side()
        if self.layout.empty:
            self._begin(ens)
        else:
            token = self._set_up_ens(ens)
            self._relay = relay = self._relay_side()
            self._set_up_relay(relay, ens.directory / "cns.pem")
            self.facts = replace(self.facts, api_token=token)
            self.supervisor.start(self.program("relay"))
        for name in (*self.layout.names("web"), *self.layout.names("worker"), "beat"):
            self.supervisor.start(self.program(name))
        self.make_keys()
        self.wait_for("web", answers(f"{self.link_address}/alive"))
        if self.layout.empty:
            return
        self.wait_for("relay", answers(f"{self.relay_url}/nws/notify/apns", status=405))
        self.wait_for("worker", self._has_keys, KEYS_S)

    def program(self, name: str) -> Program:
        """What runs under this name: `relay`, `beat`, `web`, `web-2`, …, `worker`, …"""
        if name == "relay":
            return self._relay.web(name, self._relay_port)
        if name in self.layout.names("web"):
            port = self._web_ports[self.layout.names("web").index(name)]
            return self._ens.web(name, port)
        level = self._settings.get("LOG_LEVEL", "WARNING")
        if name == "beat":
            # No pid file: beat would refuse to start beside the one that a kill left behind.
            return self._ens.celery(name, "beat", "--pidfile=", "-l", level)
        words = ["-P", "threads", "-c", "4", "-Q", "drain,join,housekeeping", "-l", level]
        if self.layout.workers > 1:
            words += ["-n", f"{name}@%h"]
        return self._ens.celery(name, "worker", *words)

    def stop(self) -> None:
        """Stop everything: what makes work first, the lab last."""
        order = [["live", "beat"], self.layout.names("worker")]
        self.supervisor.end([*order, [*self.layout.names("web"), "relay"]])
        for proxy in (self._front, self.exchange_line):
            if proxy is not None:
                proxy.stop()
        if self.postgres is not None:
            self.postgres.close()

    def open_page(self, preferred_port: int | None = None) -> str:
        """Start the live page with the first user's phones; returns its address."""
        port = free_port(preferred_port)
        facts_file = self.home / "facts.json"
        self.facts.save(facts_file)
        words = ("--facts", str(facts_file), "--port", str(port))
        self.supervisor.start(self.lab_program("live", "apps.lab.live", *words))
        address = f"http://{HOST}:{port}/"
        self.wait_for("live", answers(address))
        return address

    def kill(self, name: str) -> None:
        """`kill -9` a program (`web`, `worker`, `relay`, `beat`, …) and all its processes.

        It is started again at once, as a service manager would do.
        """
        self.supervisor.kill(name)

    def move_to(self, root: Path) -> None:
        """Let programs that start from now on, and commands, be those of the release in `root`."""
        self._ens.root = self._relay.root = root

    def restart(self, name: str) -> None:
        """End a program in good order and start it anew, as one server's turn in an upgrade.

        A web server among several gets no new connections meanwhile. Raises StartFailed.
        """
        if name not in self.layout.names("web"):
            self.supervisor.replace(self.program(name))
            return
        port = self._web_ports[self.layout.names("web").index(name)]
        if self._front is not None:
            self._front.take_out(port)
            time.sleep(DRAINED_S)
        self.supervisor.replace(self.program(name))
        self.wait_for(name, answers(f"http://{HOST}:{port}{PATH}/alive"))
        if self._front is not None:
            self._front.put_back(port)

    def manage(self, *lines: Sequence[str]) -> list[str]:
        """Run management commands of ENS, as its operator would; the stand must have started.

        Returns what each printed; raises CommandFailed.
        """
        return self._ens.manage(*lines)

    def manage_relay(self, *lines: Sequence[str]) -> list[str]:
        """The same for the relay."""
        return self._relay.manage(*lines)

    def make_keys(self) -> None:
        """Have key pairs made for every group now, not within a minute."""
        _call(self._ens, "keypairs.rotate")

    def run_inside(self, module: str, text: str) -> str:
        """Run a module of the lab with ENS's settings; see `manage` and `commands.run_module`."""
        return self._ens.run(module, text)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds ENS's own programs have used so far, by name."""
        used = self.supervisor.cpu_seconds()
        return {
            own: sum(spent for name, spent in used.items() if name.partition("-")[0] == own)
            for own in OWN
        }

    def account(self, user: DemoUser) -> Account:
        """What this user would type into a mail app."""
        return Account(user.address, user.username, user.password, self.ews_url)

    def phone(
        self,
        account: Account,
        name: str = "phone",
        *,
        on_push: Callable[[Push], None] | None = None,
        checkin_seconds: float | None = None,
        android: bool = False,
        **options: Any,
    ) -> Phone:
        """A new phone with this account; it has not subscribed yet. `options`: see Phone."""
        return Phone(
            account,
            EnsClient(self.link_address, self.facts.api_token),
            Fcm(self.fcm_control, PROJECT_ID) if android else Apns(self.apns_control),
            app_id=APP_ID,
            name=name,
            clock_scale=self.clock_scale,
            on_push=on_push,
            checkin_seconds=checkin_seconds,
            **options,
        )

    def _lay_exchange_line(self) -> TcpProxy:
        """A line before Exchange's own port; ENS and the phones know only its near end."""
        port, server = free_port(), self._exchange_ports[0]
        self.exchange_hosts = [f"{host}:{port}" for host in (HOST, "localhost")]
        self.ews_url = self.ews_url.replace(f":{server}/", f":{port}/")
        return TcpProxy(port, [server])

    def _start_servers(self) -> None:
        if self.postgres is not None:
            self.supervisor.start(self.postgres.set_up())
            self.wait_for("postgres", self.postgres.answers)
            self.postgres.create_database()
        if self.redis is not None:
            *nodes, sentinel = self.redis.set_up()
            for program in nodes:
                self.supervisor.start(program)
            self.wait_for(nodes[-1].name, self.redis.following)
            self.supervisor.start(sentinel)
            self.wait_for(SENTINEL, self.redis.answers)

    def _server_settings(self) -> dict[str, str]:
        values = {}
        if self.clock_scale != 1.0:
            values["LAB_CLOCK_SCALE"] = str(self.clock_scale)
            values["LAB_CLOCK_ORIGIN"] = str(self.clock_origin)
        if self.postgres is not None:
            values["DATABASE_URL"] = self.postgres.url
        if self.redis is not None:
            values["BROKER_URL"] = self.redis.broker_url
            values["EVENT_LOG_URL"] = self.redis.log_url
            values["EVENT_LOG_WAIT_REPLICAS"] = "1"
        return values

    def _ens_side(self) -> Side:
        directory = self.home / "ens"
        values = {
            "LINK_ADDRESS": self.link_address,
            "ROLES": "device-api,notify,console,admin-api",
            "CNS_URL": self.relay_url,
            "GUARD_EXCEPTIONS": "127.0.0.0/8",
        }
        if self.layout.empty:
            values |= {"ROLES": f"{values['ROLES']},relay"} | self._relay_settings()
        else:
            values["CNS_KEY_FILE"] = (directory / "cns.pem").as_posix()
        return Side(directory, self.logs, values | self._server_settings() | self._settings)

    def _relay_side(self) -> Side:
        values = {
            "LINK_ADDRESS": self.link_address,
            "ROLES": "relay",
            "GUARD_EXCEPTIONS": "127.0.0.0/8",
        } | self._relay_settings()
        if "LOG_LEVEL" in self._settings:
            values["LOG_LEVEL"] = self._settings["LOG_LEVEL"]
        return Side(self.home / "relay", self.logs, values)

    def _relay_settings(self) -> dict[str, str]:
        return {
            "RELAY_AUDIENCE": self.relay_url,
            "RELAY_APNS_URL": self.apns_url,
            "RELAY_APNS_CA_FILE": self.apns_ca.as_posix(),
            "RELAY_FCM_URL": self.fcm_url,
            "RELAY_FCM_TOKEN_URL": f"{self.fcm_url}/token",
            "RELAY_FCM_CA_FILE": self.fcm_ca.as_posix(),
            # Nobody is there: nothing in the lab asks Amazon.
            "RELAY_SNS_URL": f"http://{HOST}:9",
        }

    def _begin(self, side: Side, *more: Sequence[str]) -> list[str]:
        """What needs a command line: keys, tables, an administrator; then `more` commands."""
        password_file = side.directory / "administrator.txt"
        password_file.write_text(self.console_password + "\n", "utf-8")
        password_file.chmod(0o600)
        return side.manage(
            ["ens_master_key"],
            ["migrate", "--verbosity", "0"],
            ["ens_administrator", "create", ADMINISTRATOR, "--password-file", str(password_file)],
            *more,
        )

    def _set_up_ens(self, side: Side) -> str:
        """Everything an operator does once; returns the API token."""
        hosts = [word for host in self.exchange_hosts for word in ("--host", host)]
        printed = self._begin(
            side,
            ["cns_certificate", "--name", DEPLOYMENT],
            ["ens_og", "create", OG],
            [
                *("ens_mail_system", "add", "--og", OG, "--name", "Lab Exchange", *hosts),
                *("--default-ews-url", self.ews_url, "--ca-file", str(self.exchange_ca)),
            ],
            ["ens_token", "create", "--og", OG, "--label", "lab"],
        )
        return printed[-1]

    def _set_up_relay(self, side: Side, certificate: Path) -> None:
        key = self.provider_key
        side.manage(
            ["ens_master_key"],
            ["migrate", "--verbosity", "0"],
            ["relay_deployment", "add", "--name", DEPLOYMENT, "--certificate", str(certificate)],
            [
                *("relay_push_app", "add", "--app", APP_ID, "--key-file", str(key.p8_file)),
                *("--key-id", key.key_id, "--team-id", key.team_id, "--share", DEPLOYMENT),
            ],
            [
                *("relay_push_app", "add", "--app", APP_ID, "--share", DEPLOYMENT),
                *("--service-account", str(self.service_account.file)),
            ],
        )

    def _has_keys(self) -> bool:
        with suppress(Refused, requests.RequestException):
            EnsClient(self.link_address, self.facts.api_token).public_key()
            return True
        return False


def _call(side: Side, task: str) -> None:
    """Ask the workers for a task now that beat would ask for in a minute."""
    program = side.celery("call", "call", task)
    done = subprocess.run(
        list(program.command),
        cwd=program.directory,
        env=dict(program.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartFailed(f"celery call {task}: {done.stderr.strip()[-500:]}")
