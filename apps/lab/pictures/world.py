"""What a console in use has to show: people and phones, mail, a blocked phone, a wrong password."""

from __future__ import annotations

import time
from dataclasses import replace

import requests

from apps.lab.phone import Phone
from apps.lab.pictures import walk
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.stand import Stand

# What each user's phones are: model, and whether it is an Android.
PHONES = (
    (("iPhone 17 Pro", False), ("Pixel 10", True)),
    (("iPhone 16", False), ("iPad Air", False)),
    (("Galaxy S26", True),),
)
MAILS_EACH = 4
# Until the last mail has been announced and has its line in the phones' stories.
ANNOUNCED_S = 6.0


def people(stand: Stand, token: str) -> DemoUser:
    """Phones join and ring, one with a wrong password; returns whose phone is to be blocked."""
    stand.facts = replace(stand.facts, api_token=token)
    stand.make_keys()
    stand.manage(
        ["ens_og", "create", "Sales", "--parent", walk.OG],
        ["ens_og", "create", "Production", "--parent", walk.OG],
    )
    users = stand.users
    for user, owned in zip(users, PHONES, strict=False):
        for model, android in owned:
            stand.phone(stand.account(user), model, android=android).join()
    _wrong_password(stand, users[-1]).join()
    for number in range(MAILS_EACH):
        for user in users[: len(PHONES)]:
            _deliver(stand, user, f"Figures {number + 1}")
    time.sleep(ANNOUNCED_S)
    return users[2]  # who has one phone


def _wrong_password(stand: Stand, user: DemoUser) -> Phone:
    account = replace(stand.account(user), password="yesterday's")
    return stand.phone(account, "iPhone 15")


def _deliver(stand: Stand, user: DemoUser, subject: str) -> None:
    body = {"to": user.address, "subject": subject, "from_name": "Ben Carter"}
    body["from_address"] = "ben.carter@partner.example"
    with requests.Session() as http:
        http.trust_env = False
        url = f"{stand.exchange_control}/lab/deliver"
        http.post(url, json=body, timeout=20).raise_for_status()
