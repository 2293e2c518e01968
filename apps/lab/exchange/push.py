"""Push subscriptions, delivered as Exchange really does.

Ordered, one call in flight for each subscription; a call that isn't answered is made again after
30 s, 1, 2, 4 … minutes while that is below StatusFrequency, then the subscription is dead and
nobody is told; an answer `Unsubscribe` ends it; a StatusEvent goes out when there was nothing else
for StatusFrequency minutes.
https://learn.microsoft.com/exchange/client-developer/web-service-reference/pushsubscriptionrequest
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from . import ids
from .clock import Clock
from .errors import EwsError
from .journal import Journal
from .model import Mailbox
from .notification import error_message, events_message
from .store import Event
from .webhook import WebhookFailed, Webhooks, is_callable

FIRST_RETRY_S = 30.0
MAX_EVENTS = 50
_HOST = "lab.example"


@dataclass(slots=True, eq=False)
class Subscription:
    """One push subscription, from the moment it is asked for."""

    owner: Mailbox = field(repr=False)
    mailbox: Mailbox = field(repr=False)
    folders: frozenset[str] = field(repr=False)
    kinds: frozenset[str]
    url: str = field(repr=False)
    status_frequency_minutes: int
    schema_version: str
    id: str = ""
    first_watermark: str = ""
    watermark: str = ""
    queue: deque[Event] = field(default_factory=deque, repr=False)
    error: str = ""
    error_is_bare: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    status_timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    delivered: int = 0
    failures: int = 0
    made_at: datetime | None = None

    def __post_init__(self) -> None:
        self.id = ids.subscription_id(_HOST, self.mailbox.guid)
        self.watermark = ids.watermark(self.mailbox.guid, self.mailbox.events)
        self.first_watermark = self.watermark

    def wants(self, event: Event) -> bool:
        """True for an event of a kind and folder that was subscribed to."""
        if event.kind not in self.kinds:
            return False
        old = event.old_folder
        return event.folder.id in self.folders or (old is not None and old.id in self.folders)


class PushHub:
    """All subscriptions of the server."""

    def __init__(self, clock: Clock, journal: Journal, max_subscriptions: int) -> None:
        self._clock = clock
        self._journal = journal
        self._webhooks: Webhooks | None = None
        self.max_subscriptions = max_subscriptions
        self._by_id: dict[str, Subscription] = {}
        self._by_folder: dict[str, list[Subscription]] = {}
        self._held: Counter[str] = Counter()
        # While the network is down no webhook is reached.
        self.cut_off = False
        self.ended: Counter[str] = Counter()

    def open(self, webhooks: Webhooks) -> None:
        """Hands over the client that calls webhooks; nothing can be subscribed before."""
        self._webhooks = webhooks

    async def close(self) -> None:
        """Ends all deliveries; what waits is lost, as when a server restarts."""
        tasks = [sub.task for sub in self._by_id.values() if sub.task is not None]
        for subscription in list(self._by_id.values()):
            self._end(subscription, "closed")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._webhooks is not None:
            await self._webhooks.close()

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._by_id.values()))

    def get(self, subscription_id: str) -> Subscription | None:
        """A living subscription."""
        return self._by_id.get(subscription_id)

    async def add(self, subscription: Subscription) -> None:
        """Calls the webhook once, then begins delivery.

        Raises `EwsError`: ErrorInvalidPushSubscriptionUrl when it isn't answered (or isn't on this
        machine), ErrorSubscriptionUnsubscribed when it was answered `Unsubscribe`,
        ErrorExceededSubscriptionCount when the owner holds too many.
        """
        if not is_callable(subscription.url):
            raise EwsError("ErrorInvalidPushSubscriptionUrl")
        if self._held[subscription.owner.address] >= self.max_subscriptions:
            raise EwsError("ErrorExceededSubscriptionCount")
        subscription.made_at = self._clock.now()
        # Registered first: what happens while the webhook answers is delivered afterwards.
        self._by_id[subscription.id] = subscription
        self._held[subscription.owner.address] += 1
        for folder in subscription.folders:
            self._by_folder.setdefault(folder, []).append(subscription)
        status = await self._post(subscription, self._compose(subscription, ()))
        if status != "OK":
            self._end(subscription, "refused")
            unsubscribed = status == "Unsubscribe"
            raise EwsError(
                "ErrorSubscriptionUnsubscribed"
                if unsubscribed
                else "ErrorInvalidPushSubscriptionUrl"
            )
        self._rest(subscription)

    def publish(self, events: Sequence[Event]) -> None:
        """Queues what happened for all who subscribed to it."""
        touched: dict[int, Subscription] = {}
        for event in events:
            for subscription in self._concerned(event):
                if subscription.wants(event):
                    subscription.queue.append(event)
                    touched[id(subscription)] = subscription
        for subscription in touched.values():
            self._wake(subscription)

    def fail(self, subscription: Subscription, code: str, *, bare: bool) -> None:
        """Tells the webhook that its subscription is gone, and ends it whatever the answer."""
        subscription.error = code
        subscription.error_is_bare = bare
        if subscription.task is not None and subscription.failures:
            # It sleeps until a retry that will never come.
            subscription.task.cancel()
            subscription.task = None
        self._wake(subscription)

    def drop(self, subscription: Subscription, reason: str = "dropped") -> None:
        """Forgets a subscription at once; its webhook is never told."""
        if subscription.task is not None:
            subscription.task.cancel()
        self._end(subscription, reason)

    def _concerned(self, event: Event) -> Iterable[Subscription]:
        yield from self._by_folder.get(event.folder.id, ())
        old = event.old_folder
        if old is not None and old is not event.folder:
            here = self._by_folder.get(event.folder.id, ())
            yield from (s for s in self._by_folder.get(old.id, ()) if s not in here)

    def _wake(self, subscription: Subscription) -> None:
        # Without a timer its first call is still under way; `add` looks at the queue afterwards.
        if subscription.task is None and subscription.status_timer is not None:
            subscription.task = asyncio.get_running_loop().create_task(self._run(subscription))

    def _rest(self, subscription: Subscription) -> None:
        """Nothing is under way: wait for events or for the time of a StatusEvent."""
        subscription.task = None
        if self._by_id.get(subscription.id) is not subscription:
            return
        if subscription.status_timer is not None:
            subscription.status_timer.cancel()
        subscription.status_timer = self._clock.call_later(
            subscription.status_frequency_minutes * 60.0, lambda: self._wake(subscription)
        )
        if subscription.queue or subscription.error:
            self._wake(subscription)

    async def _run(self, subscription: Subscription) -> None:
        """Delivers until the queue is empty; begins with a StatusEvent when it is already."""
        while True:
            if subscription.error:
                await self._post(subscription, self._compose_error(subscription))
                self._end(subscription, "failed")
                return
            batch = list(islice(subscription.queue, MAX_EVENTS))
            status = await self._post(subscription, self._compose(subscription, batch))
            if status == "Unsubscribe":
                self._end(subscription, "unsubscribed")
                return
            if status == "OK":
                self._delivered(subscription, batch)
            elif not await self._wait_for_retry(subscription):
                self._end(subscription, "dead")
                return
            if not subscription.queue and status == "OK" and not subscription.error:
                break
        self._rest(subscription)

    def _delivered(self, subscription: Subscription, batch: Sequence[Event]) -> None:
        subscription.failures = 0
        subscription.delivered += 1
        for event in batch:
            subscription.queue.popleft()
            subscription.watermark = event.watermark

    async def _wait_for_retry(self, subscription: Subscription) -> bool:
        delay = FIRST_RETRY_S * 2**subscription.failures
        if delay >= subscription.status_frequency_minutes * 60:
            return False
        subscription.failures += 1
        await self._clock.sleep(delay)
        return True

    def _compose(self, subscription: Subscription, batch: Sequence[Event]) -> bytes:
        return events_message(
            subscription.id,
            subscription.watermark,
            batch,
            subscription.schema_version,
            more_events=len(subscription.queue) > len(batch) > 0,
        )

    def _compose_error(self, subscription: Subscription) -> bytes:
        return error_message(
            subscription.id,
            subscription.watermark,
            subscription.error,
            subscription.schema_version,
            bare=subscription.error_is_bare,
        )

    async def _post(self, subscription: Subscription, body: bytes) -> str:
        """`OK`, `Unsubscribe`, or nothing when there was no proper answer."""
        if self._webhooks is None:
            raise RuntimeError("the lab has not started")
        self._journal.message("notification", body)
        try:
            if self.cut_off:
                raise WebhookFailed
            status, reply = await self._webhooks.post(subscription.url, body)
        except WebhookFailed:
            self._journal.notifications["unanswered"] += 1
            return ""
        self._journal.message("result", reply)
        self._journal.notifications[status] += 1
        return status

    def _end(self, subscription: Subscription, reason: str) -> None:
        if self._by_id.pop(subscription.id, None) is None:
            return
        self.ended[reason] += 1
        self._held[subscription.owner.address] -= 1
        for folder in subscription.folders:
            self._by_folder[folder].remove(subscription)
        if subscription.status_timer is not None:
            subscription.status_timer.cancel()
        subscription.queue.clear()
