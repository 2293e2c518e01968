"""The other mail system: a second Exchange, whose users get mail all the time."""

from __future__ import annotations

import threading
import time
from itertools import count

import requests

from apps.lab.announced import Mail, first_arrivals
from apps.lab.phone.fleet import FleetPhone, PhoneFleet
from apps.lab.population import add_mailboxes, await_joined, deliver, session
from apps.lab.stand.lab import answers
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.stand import OG, Stand

USERS = 20
MAILS_A_SECOND = 4.0
JOIN_S = 60.0
_NAME = "exchange-2"


class Neighbours:
    """Sends mail evenly to its users from `start` to `stop`; whose phones belong to `fleet`."""

    def __init__(self, stand: Stand, fleet: PhoneFleet) -> None:
        self._stand, self._fleet = stand, fleet
        self._phones: list[FleetPhone] = []
        self._control = ""
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._send, name="neighbours", daemon=True)
        self.mails: list[Mail] = []
        self.not_sent = 0

    def start(self) -> None:
        """Start the second Exchange and let its users join; raises StartFailed, NotLetIn."""
        port, control_port = free_port(), free_port()
        self._control = f"http://{HOST}:{control_port}"
        directory = self._stand.home / _NAME
        directory.mkdir()
        words = ["--port", str(port), "--control-port", str(control_port)]
        words += ["--directory", str(directory), "--clock-scale", str(self._stand.clock_scale)]
        words += ["--clock-origin", str(self._stand.clock_origin)]
        module = "apps.lab.stand.exchange_server"
        self._stand.supervisor.start(self._stand.lab_program(_NAME, module, *words))
        self._stand.wait_for(_NAME, answers(f"{self._control}/lab/ca.pem"))
        ews_url = f"https://{HOST}:{port}/EWS/Exchange.asmx"
        self._stand.manage(
            [
                *("ens_mail_system", "add", "--og", OG, "--name", "Neighbours"),
                *("--host", f"{HOST}:{port}", "--default-ews-url", ews_url),
                *("--ca-file", str(directory / "ca.pem")),
            ]
        )
        accounts = add_mailboxes(self._control, ews_url, USERS)
        self._phones = self._fleet.add([(account, "neighbour") for account in accounts])
        await_joined(self._fleet, JOIN_S)
        self._thread.start()

    def stop(self) -> None:
        """Send no more; safe to call when it never started."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()

    def arrivals(self) -> dict[str, float]:
        """When each mail was announced, by subject."""
        found: dict[str, float] = {}
        for phone in self._phones:
            mails = [mail for mail in list(self.mails) if mail.user == phone.account.email]
            found |= first_arrivals(list(phone.pushes), mails)
        return found

    def _send(self) -> None:
        began = time.monotonic()
        with session() as http:
            for number in count():
                due = began + number / MAILS_A_SECOND
                if self._ends.wait(max(0.0, due - time.monotonic())):
                    return
                user = self._phones[number % len(self._phones)].account.email
                mail = Mail(user, f"Neighbour {number + 1}", time.time())
                try:
                    deliver(http, self._control, mail.user, mail.subject)
                    self.mails.append(mail)
                except requests.RequestException:
                    self.not_sent += 1
