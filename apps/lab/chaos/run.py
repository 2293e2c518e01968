"""One chaos run: join the phones, send mail at a steady rate, let things break, wait, judge."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apps.lab.announced import Mail
from apps.lab.chaos.faults import Faults
from apps.lab.chaos.outcome import Outcome, completed, judge
from apps.lab.chaos.plan import plan
from apps.lab.phone.fleet import FleetPhone, PhoneFleet
from apps.lab.population import add_mailboxes, await_joined, deliver, session
from apps.lab.stand.stand import Layout, Stand

LAYOUT = Layout(postgres=True, redis=True, webs=2, workers=2, exchange_line=True)
# Exchange comes again 30 seconds after a notification that wasn't answered. With its clock (and
# that of ENS's subscriptions) this much faster, a run of a minute sees several such rounds.
CLOCK_SCALE = 10.0
# On a machine with other work, too.
JOIN_S = 180.0
SETTLE_S = 90.0
AFTERMATH_S = 3.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much: `mails` are sent evenly over `seconds` real seconds."""

    mailboxes: int = 200
    devices: int = 300
    mails: int = 3000
    seconds: float = 60.0


def run(stand: Stand, seed: int, size: Size, say: Callable[[str], None]) -> Outcome:
    """Run on a stand that has started; it goes on running afterwards.

    Raises:
        NotLetIn: the phones were not let in.
    """
    fleet = PhoneFleet(
        stand.link_address,
        stand.facts.api_token,
        stand.apns_control,
        app_id=stand.facts.app_id,
        clock_scale=stand.clock_scale,
    )
    fleet.start()
    faults = Faults(stand, plan(seed, size.seconds))
    try:
        say(f"{size.devices} phones join {size.mailboxes} mailboxes ...")
        phones = _join(stand, fleet, size)
        say(f"{size.mails} mails in {size.seconds:g} seconds, and things break ...")
        faults.start()
        mails = _send(stand, seed, size, list(phones))
        faults.join()
        say("Waiting for what is still on its way ...")
        _settle(mails, phones)
    finally:
        faults.stop()
        fleet.stop()
    return judge(seed, mails, _pushes(phones), faults.happened)


def _join(stand: Stand, fleet: PhoneFleet, size: Size) -> dict[str, list[FleetPhone]]:
    accounts = add_mailboxes(stand.exchange_control, stand.ews_url, size.mailboxes)
    owners = [accounts[number % len(accounts)] for number in range(size.devices)]
    fleet.add([(account, f"phone {number}") for number, account in enumerate(owners)])
    await_joined(fleet, JOIN_S)
    phones: dict[str, list[FleetPhone]] = {}
    for phone in fleet.phones:
        phones.setdefault(phone.account.email, []).append(phone)
    return phones


def _send(stand: Stand, seed: int, size: Size, users: Sequence[str]) -> list[Mail]:
    dice = random.Random(seed)
    sent = []
    began = time.monotonic()
    with session() as http:
        for number in range(size.mails):
            due = began + number * size.seconds / size.mails
            time.sleep(max(0.0, due - time.monotonic()))
            mail = Mail(dice.choice(users), f"Chaos {number + 1}", time.time())
            deliver(http, stand.exchange_control, mail.user, mail.subject)
            sent.append(mail)
    return sent


def _settle(mails: Sequence[Mail], phones: dict[str, list[FleetPhone]]) -> None:
    """Wait until everything was announced, or too long; then a little for repeats."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline and len(completed(mails, _pushes(phones))) < len(mails):
        time.sleep(0.5)
    time.sleep(AFTERMATH_S)


def _pushes(phones: dict[str, list[FleetPhone]]) -> dict[str, list[list]]:
    return {user: [list(phone.pushes) for phone in owned] for user, owned in phones.items()}
