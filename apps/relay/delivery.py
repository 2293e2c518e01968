"""From a verified call to its answer: what may be sent, out to APNs, back with outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from logging import INFO, WARNING, getLogger
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from apps.relay.batch import Item
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Notification, Outcome
from apps.relay.providers.apns.provider import ApnsProvider, Job
from apps.relay.providers.apns.token import SigningKey
from apps.relay.push_apps import shared_apns_apps, signing_key
from apps.vault.wrapping import UnwrapFailed
from apps.wire import background

logger = getLogger(__name__)

# The provider's own deadline ends every notification; this ends a loop that has died.
_TIMEOUT_S = 15.0


@cache
def apns_provider() -> ApnsProvider:
    """This process' way to APNs."""
    ca_file: Path | None = settings.ENS.relay_apns_ca_file
    ca_pem = ca_file.read_text("utf-8") if ca_file is not None else ""
    return ApnsProvider(settings.ENS.relay_apns_url, ca_pem)


def deliver(deployment: Deployment, items: Sequence[Item]) -> list[Outcome]:
    """Send what may be sent, all of it side by side; an outcome for each item, in order."""
    apps = shared_apns_apps(
        deployment, (i.asked.app for i in items if isinstance(i.asked, Notification))
    )
    keys = _open_keys(apps.values())
    outcomes: dict[str, Outcome] = {}
    jobs: list[Job] = []
    for item in items:
        if isinstance(item.asked, Outcome):
            outcomes[item.id] = item.asked
        elif item.asked.app not in apps:
            # The same word for an app nobody has and for one of another deployment.
            outcomes[item.id] = Outcome("failed", "app_not_allowed")
        elif item.asked.app not in keys:
            outcomes[item.id] = Outcome("failed", "provider_key_unusable")
        else:
            jobs.append(Job(item.asked, keys[item.asked.app], apps[item.asked.app].sandbox))
    sent = background.run(apns_provider().send(jobs), timeout=_TIMEOUT_S) if jobs else []
    answered = {job.notification.id: outcome for job, outcome in zip(jobs, sent, strict=True)}
    outcomes |= _doubt_unproven(apps, jobs, answered)
    _log(deployment, outcomes.values())
    return [outcomes[item.id] for item in items]


def _open_keys(apps: Iterable[PushApp]) -> dict[str, SigningKey]:
    found: dict[str, SigningKey] = {}
    for app in apps:
        try:
            found[app.app] = signing_key(app)
        except UnwrapFailed:
            logger.error("the provider key of %s doesn't open under the master key", app)
    return found


def _doubt_unproven(
    apps: Mapping[str, PushApp], jobs: Sequence[Job], answered: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    """Don't call a device token dead before this key and environment have worked once.

    With production and sandbox mixed up APNs answers BadDeviceToken to every push, and a whole
    fleet would be retired for one wrong switch.
    """
    accepted = {
        j.notification.app for j in jobs if answered[j.notification.id].status == "accepted"
    }
    fresh = [apps[name].pk for name in accepted if apps[name].proven_at is None]
    if fresh:
        PushApp.objects.filter(pk__in=fresh).update(proven_at=timezone.now())
    judged = dict(answered)
    for job in jobs:
        app, outcome = job.notification.app, answered[job.notification.id]
        unproven = apps[app].proven_at is None and app not in accepted
        if unproven and outcome.reason == "BadDeviceToken":
            judged[job.notification.id] = replace(outcome, status="failed")
    return judged


def _log(deployment: Deployment, outcomes: Iterable[Outcome]) -> None:
    """Count what was not accepted: reasons only, no token, no content."""
    counted = Counter((o.status, o.reason) for o in outcomes if o.status != "accepted")
    for (status, reason), times in counted.items():
        level = WARNING if status == "failed" else INFO
        logger.log(level, "%s: %d %s (%s)", deployment, times, status, reason)
