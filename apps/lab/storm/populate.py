"""Thousands of devices with a subscription each, without thousands of joins.

`python -m apps.lab.storm.populate`, run with ENS's settings: makes what a join leaves behind in the
database, by ENS's own functions, but asks no Exchange. That has forgotten them all when the storm
begins, so nothing differs from then on.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_AT_ONCE = 500


def main() -> None:
    """Reads `{og, app_id, ews_url, status_frequency_minutes, phones: [[address, token], …]}` from
    standard input; prints `[[device id, secret], …]`.
    """
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ens_project.settings")
    django.setup()
    print(json.dumps(_populate(json.load(sys.stdin))))


def _populate(asked: dict[str, Any]) -> list[tuple[str, str]]:
    # Not before Django is set up.
    from django.db import transaction

    from apps.eventlog.factory import get_log
    from apps.subscriptions.webhook_url import name_of
    from apps.tenants.groups import find_group
    from apps.tenants.mail_systems import mail_system_for

    og = find_group(asked["og"])
    system, ews_url = mail_system_for(og, asked["ews_url"], "")
    phones, devices, names = asked["phones"], [], []
    for first in range(0, len(phones), _AT_ONCE):
        with transaction.atomic():
            for address, token in phones[first : first + _AT_ONCE]:
                device_id, secret, subscription_id = _join(
                    og, system, address, token, asked | {"ews_url": ews_url}
                )
                devices.append((device_id, secret))
                names.append(name_of(subscription_id))
    event_log = get_log()
    for name in names:
        event_log.sign_of_life(name)
    return devices


def _join(og: Any, system: Any, address: str, token: str, asked: dict[str, Any]) -> Any:
    from apps.devices import registry
    from apps.subscriptions import current
    from apps.subscriptions.models import Subscription, SubscriptionState

    mailbox = registry.mailbox_for(system, address)
    said = registry.Description(
        platform="ios", app_id=asked["app_id"], push_token=token, ews_url=asked["ews_url"]
    )
    enrolled = registry.enrol(og, mailbox, said)
    if enrolled is None:
        raise SystemExit("a device is blocked")
    device, secret = enrolled
    registry.proved(device.id)
    subscription = Subscription.objects.create(
        mailbox=mailbox,
        owner=device,
        state=SubscriptionState.ACTIVE,
        ews_url=asked["ews_url"],
        status_frequency_minutes=asked["status_frequency_minutes"],
    )
    current.swap(mailbox.pk, None, subscription.id)
    return str(device.id), secret, subscription.id


if __name__ == "__main__":
    main()
