"""Many users at once: their mailboxes in the lab's Exchange, and waiting for their phones."""

from __future__ import annotations

import secrets

import requests

from apps.lab.phone.client import Account
from apps.lab.phone.fleet import PhoneFleet
from apps.lab.stand import waiting

TIMEOUT_S = 30.0


class NotLetIn(Exception):
    """Not all phones became active in time; the message says how many are in which state."""


def add_mailboxes(exchange_control: str, ews_url: str, count: int) -> list[Account]:
    """Make `user-00000@example.com` and so on; returns what their users would type in."""
    found = []
    with session() as http:
        for number in range(count):
            name, password = f"user-{number:05}", secrets.token_hex(8)
            address = f"{name}@example.com"
            body = {"address": address, "name": name, "password": password}
            answer = http.post(f"{exchange_control}/lab/mailboxes", json=body, timeout=TIMEOUT_S)
            answer.raise_for_status()
            found.append(Account(address, f"EXAMPLE\\{name}", password, ews_url))
    return found


def deliver(http: requests.Session, exchange_control: str, to: str, subject: str) -> None:
    """Let a mail arrive; raises requests.RequestException."""
    body = {
        "to": to,
        "from_name": "Ben Carter",
        "from_address": "ben.carter@partner.example",
        "subject": subject,
    }
    answer = http.post(f"{exchange_control}/lab/deliver", json=body, timeout=TIMEOUT_S)
    answer.raise_for_status()


def await_joined(fleet: PhoneFleet, seconds: float) -> None:
    """Wait until all phones are active; raises NotLetIn when they are not."""
    wanted = len(fleet.phones)
    try:
        waiting.until("phones", lambda: fleet.states()["active"] == wanted, seconds)
    except waiting.TookTooLong:
        states = dict(fleet.states())
        raise NotLetIn(f"not all phones were let in within {seconds:g} s: {states}") from None


def session() -> requests.Session:
    """A connection to the lab's controls, without the environment's proxies."""
    http = requests.Session()
    http.trust_env = False
    return http
