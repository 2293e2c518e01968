"""From a verified call to its answer: what may be sent, out to APNs, back with outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from logging import INFO, WARNING, getLogger
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from apps.relay.batch import Item
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Notification, Outcome, Status
from apps.relay.providers.apns.provider import ApnsProvider, Job
from apps.relay.providers.apns.token import SigningKey
from apps.relay.push_apps import shared_apns_apps, signing_key
from apps.vault.wrapping import UnwrapFailed
from apps.wire import background

logger = getLogger(__name__)

# A notification's id with what became of it.
Answered = tuple[str, Outcome]

# The provider's own deadline ends every notification; this ends a loop that has died.
_TIMEOUT_S = 15.0


@cache
def apns_provider() -> ApnsProvider:
    """This process' way to APNs."""
    ca_file: Path | None = settings.ENS.relay_apns_ca_file
    ca_pem = ca_file.read_text("utf-8") if ca_file is not None else ""
    return ApnsProvider(settings.ENS.relay_apns_url, ca_pem)


def deliver(deployment: Deployment, items: Sequence[Item]) -> Iterator[list[Answered]]:
    """Send what may be sent, all of it side by side; yield outcomes as soon as they are known.

    One for each item, in any order; those that became known in the same moment come together.

    Raises:
        TimeoutError: some have no outcome after a time that no provider should take.
    """
    apps = shared_apns_apps(
        deployment, (i.asked.app for i in items if isinstance(i.asked, Notification))
    )
    jobs, refused = _jobs(apps, items)
    counted = Counter((outcome.status, outcome.reason) for _, outcome in refused)
    if refused:
        yield refused
    if jobs:
        doubts = _Doubts(apps)
        try:
            for batch in background.stream(partial(apns_provider().send, jobs), _TIMEOUT_S):
                judged = doubts.judge(batch)
                counted.update((outcome.status, outcome.reason) for _, outcome in judged)
                if judged:
                    yield judged
        finally:
            doubts.record()
        rest = doubts.rest()
        counted.update((outcome.status, outcome.reason) for _, outcome in rest)
        if rest:
            yield rest
    _log(deployment, counted)


def _jobs(apps: Mapping[str, PushApp], items: Sequence[Item]) -> tuple[list[Job], list[Answered]]:
    """What may be sent, and the outcomes of what may not."""
    keys = _open_keys(apps.values())
    refused: list[Answered] = []
    jobs: list[Job] = []
    for item in items:
        if isinstance(item.asked, Outcome):
            refused.append((item.id, item.asked))
        elif item.asked.app not in apps:
            # The same word for an app nobody has and for one of another deployment.
            refused.append((item.id, Outcome("failed", "app_not_allowed")))
        elif item.asked.app not in keys:
            refused.append((item.id, Outcome("failed", "provider_key_unusable")))
        else:
            jobs.append(Job(item.asked, keys[item.asked.app], apps[item.asked.app].sandbox))
    return jobs, refused


def _open_keys(apps: Iterable[PushApp]) -> dict[str, SigningKey]:
    found: dict[str, SigningKey] = {}
    for app in apps:
        try:
            found[app.app] = signing_key(app)
        except UnwrapFailed:
            logger.error("the provider key of %s doesn't open under the master key", app)
    return found


class _Doubts:
    """Don't call a device token dead before this key and environment have worked once.

    With production and sandbox mixed up APNs answers BadDeviceToken to every push, and a whole
    fleet would be retired for one wrong switch. So of an app that no push was ever accepted for,
    these answers wait for the end of the call.
    """

    def __init__(self, apps: Mapping[str, PushApp]) -> None:
        self._apps = apps
        self._accepted: set[str] = set()
        self._held: list[tuple[Notification, Outcome]] = []

    def judge(self, answered: Iterable[tuple[Notification, Outcome]]) -> list[Answered]:
        """Those that are beyond doubt."""
        found = []
        for sent, outcome in answered:
            unproven = self._apps[sent.app].proven_at is None
            if unproven and outcome.status == "accepted":
                self._accepted.add(sent.app)
            if unproven and outcome.reason == "BadDeviceToken":
                self._held.append((sent, outcome))
            else:
                found.append((sent.id, outcome))
        return found

    def rest(self) -> list[Answered]:
        """Those that were in doubt, now that all is known that will be."""
        return [
            (sent.id, outcome if sent.app in self._accepted else replace(outcome, status="failed"))
            for sent, outcome in self._held
        ]

    def record(self) -> None:
        """Remember which apps have proved their key and environment."""
        fresh = [self._apps[name].pk for name in self._accepted]
        if fresh:
            PushApp.objects.filter(pk__in=fresh).update(proven_at=timezone.now())


def _log(deployment: Deployment, counted: Counter[tuple[Status, str]]) -> None:
    """Count what was not accepted: reasons only, no token, no content."""
    for (status, reason), times in counted.items():
        if status != "accepted":
            level = WARNING if status == "failed" else INFO
            logger.log(level, "%s: %d %s (%s)", deployment, times, status, reason)
