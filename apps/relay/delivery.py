"""From a verified call to its answer: what may be sent, out to the push services, outcomes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from logging import INFO, WARNING, getLogger

from django.utils import timezone

from apps.relay.batch import Item
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Notification, OpenApp, Outcome, Provider
from apps.relay.providers.ways import way
from apps.relay.push_apps import opened, shared_apps
from apps.vault.redact import where
from apps.vault.wrapping import UnwrapFailed
from apps.wire import background

logger = getLogger(__name__)

# The providers' own deadlines end every notification; this ends a loop that has died.
_TIMEOUT_S = 15.0
_RETRY_S = 5.0
_DOUBTFUL = frozenset(["BadDeviceToken", "SENDER_ID_MISMATCH"])

Answer = tuple[str, Outcome]
_Jobs = list[tuple[Provider, OpenApp, list[Notification]]]


def deliver(deployment: Deployment, platform: str, items: Sequence[Item]) -> Iterator[list[Answer]]:
    """Send what may be sent, all of it side by side; ids with outcomes, as they become known.

    Each item gets exactly one outcome; those that become known in the same moment come together.
    Everything has been looked up when this returns: what goes wrong before that is raised here,
    not in the middle of an answer. Reading is what sends; whoever stops reading ends it.
    """
    asked = [item.asked for item in items if isinstance(item.asked, Notification)]
    apps = shared_apps(deployment, platform, (each.app for each in asked))
    usable = _open(apps.values())
    answered: list[Answer] = []
    wanted: dict[str, list[Notification]] = {}
    for item in items:
        if isinstance(item.asked, Outcome):
            answered.append((item.id, item.asked))
        elif item.asked.app not in apps:
            # The same word for an app nobody has and for one of another deployment.
            answered.append((item.id, Outcome("failed", "app_not_allowed")))
        elif item.asked.app not in usable:
            answered.append((item.id, Outcome("failed", "provider_key_unusable")))
        else:
            wanted.setdefault(item.asked.app, []).append(item.asked)
    sending = None
    if wanted:
        jobs = [(way(apps[name].provider), usable[name], some) for name, some in wanted.items()]
        sending = _Sending(jobs, {name for name in wanted if apps[name].proven_at is None})
    return _answers(deployment, apps, answered, sending)


def _open(apps: Iterable[PushApp]) -> dict[str, OpenApp]:
    found: dict[str, OpenApp] = {}
    for app in apps:
        try:
            found[app.app] = opened(app)
        except UnwrapFailed:
            logger.error("the credentials of %s don't open under the master key", app)
    return found


def _answers(
    deployment: Deployment,
    apps: Mapping[str, PushApp],
    refused: list[Answer],
    sending: _Sending | None,
) -> Iterator[list[Answer]]:
    counted: Counter[tuple[str, str]] = Counter()
    try:
        for some in chain([refused], sending.answers() if sending else ()):
            for _, outcome in some:
                if outcome.status != "accepted":
                    counted[outcome.status, outcome.reason] += 1
            if some:
                yield some
    finally:
        if sending:
            _remember(apps, sending)
        _log(deployment, counted)


class _Sending:
    """One call's notifications under way: sent in the loop's thread, read in the caller's."""

    _hand_out: Callable[[Answer], None]

    def __init__(self, jobs: _Jobs, unproven: set[str]) -> None:
        self.accepted: set[str] = set()
        self.troubles: dict[str, str] = {}
        self._jobs = jobs
        self._unproven = unproven
        self._open = {each.id for _, _, some in jobs for each in some}
        self._doubtful: dict[str, list[Answer]] = {}

    def answers(self) -> Iterator[list[Answer]]:
        """Blocks for each lot; ends when every notification has its outcome."""
        unanswered = set(self._open)
        try:
            for some in background.stream(self._send, _TIMEOUT_S):
                unanswered.difference_update(each for each, _ in some)
                yield some
        except TimeoutError:
            late = Outcome("retry", "relay_timeout", retry_after_s=_RETRY_S)
            yield [(each, late) for each in unanswered]

    async def _send(self, hand_out: Callable[[Answer], None]) -> None:
        self._hand_out = hand_out
        await asyncio.gather(*(self._send_app(*job) for job in self._jobs))
        for doubtful in self._doubtful.values():
            self._answer(*((each, replace(o, status="failed")) for each, o in doubtful))

    async def _send_app(self, provider: Provider, app: OpenApp, some: list[Notification]) -> None:
        try:
            await provider.send(app, some, self._done)
        except Exception as error:  # noqa: BLE001 - one app's fault must not cost the others
            logger.error("%s can't be sent to: %s", app.app, where(error))
        for each in some:
            if each.id in self._open:
                self._done(each, Outcome("retry", "provider_failed", retry_after_s=_RETRY_S))

    def _done(self, notification: Notification, outcome: Outcome) -> None:
        if notification.id not in self._open:
            return
        self._open.discard(notification.id)
        app = notification.app
        if outcome.status == "accepted" and app not in self.accepted:
            self.accepted.add(app)
            self._answer(*self._doubtful.pop(app, ()))
        elif outcome.ours_to_fix:
            self.troubles[app] = outcome.reason
        if self._is_doubtful(app, outcome):
            self._doubtful.setdefault(app, []).append((notification.id, outcome))
        else:
            self._answer((notification.id, outcome))

    def _is_doubtful(self, app: str, outcome: Outcome) -> bool:
        """Don't call a device token dead before these credentials and environment worked once.

        With production and sandbox mixed up APNs answers BadDeviceToken to every push, and FCM
        SENDER_ID_MISMATCH with another project's account: a whole fleet would be retired for one
        wrong switch or file.
        """
        unproven = app in self._unproven and app not in self.accepted
        return unproven and outcome.reason in _DOUBTFUL

    def _answer(self, *answers: Answer) -> None:
        for each in answers:
            self._hand_out(each)


def _remember(apps: Mapping[str, PushApp], sending: _Sending) -> None:
    """Which apps' credentials worked and which did not, where that is news."""
    now = timezone.now()
    for name, app in apps.items():
        news: dict[str, object] = {}
        trouble = sending.troubles.get(name, "")
        if name in sending.accepted and app.proven_at is None:
            news["proven_at"] = now
        if trouble != app.trouble and (trouble or name in sending.accepted):
            news |= {"trouble": trouble, "trouble_at": now if trouble else None}
        if news:
            # Not of credentials that have been replaced meanwhile.
            PushApp.objects.filter(pk=app.pk, revision=app.revision).update(**news)
            for member, value in news.items():
                setattr(app, member, value)
        if trouble and "trouble" in news:
            logger.error("%s: the push service objects to its set-up: %s", app, trouble)


def _log(deployment: Deployment, counted: Counter[tuple[str, str]]) -> None:
    """Count what was not accepted: reasons only, no token, no content."""
    for (status, reason), times in counted.items():
        level = WARNING if status == "failed" else INFO
        logger.log(level, "%s: %d %s (%s)", deployment, times, status, reason)
