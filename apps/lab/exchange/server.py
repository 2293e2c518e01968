"""The pretend Exchange as one object: start it, use it, stop it.

    lab = LabExchange()
    lab.add_demo_accounts()
    await lab.start()
    lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")
    await lab.stop()

or `async with LabExchange() as lab:`, or from code without a loop `with in_thread(LabExchange()):`.
The methods that change or ask something may be called from any thread.
"""

from __future__ import annotations

import asyncio
import math
import random
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from ..ca import LOOPBACK_NAMES, LabCa, ServerFiles
from . import control as control_api
from .accounts import DOMAIN, demo_mailboxes
from .auth import Doorman, Method
from .autodiscover import POX_PATH, SOAP_PATH, Autodiscover, redirector
from .clock import Clock
from .endpoint import PATH, Endpoint
from .errors import EwsError
from .faults import Faults
from .journal import Journal, MessageHook
from .lockout import LockOut
from .model import Address, Draft, Item, Kind, Mailbox
from .push import PushHub
from .soap import ServerVersion
from .store import Store
from .tokens import Tokens
from .webhook import Webhooks

T = TypeVar("T")
_MAX_REQUEST = 4 * 1024 * 1024


class LabExchange:
    """A pretend Exchange server.

    `ca` signs its certificate (a new one in a temporary directory without), `max_subscriptions` is
    EWSMaxSubscriptions and `max_concurrency` EWSMaxConcurrency, `on_message` and `record_dir` see
    every SOAP message (`journal.py`), `webhook_timeout_s` (real seconds) is how long a webhook may
    take. `version` is what it claims to be and how much it understands, or several: a farm whose
    members take turns. With `strict_aliases` a mailbox goes by its primary address only, and its
    aliases are answered ErrorNonPrimarySmtpAddress. Its certificate is for loopback and `names`.
    `auth` is how callers may log in, `extended_protection` and `login_each_request` say how
    strictly (`auth.py`).
    """

    def __init__(
        self,
        *,
        ca: LabCa | None = None,
        clock: Clock | None = None,
        max_subscriptions: int = 5000,
        max_concurrency: int = 27,
        version: ServerVersion | Sequence[ServerVersion] | None = None,
        strict_aliases: bool = False,
        on_message: MessageHook | None = None,
        record_dir: Path | None = None,
        webhook_timeout_s: float = 30.0,
        names: Sequence[str] = (),
        auth: Iterable[Method] = ("basic",),
        extended_protection: bool = False,
        login_each_request: bool = False,
    ) -> None:
        self._names = (*LOOPBACK_NAMES, *names)
        self._directory = tempfile.TemporaryDirectory(
            prefix="ens-lab-exchange-", ignore_cleanup_errors=True
        )
        self._ca = ca or LabCa(Path(self._directory.name))
        self.clock = clock or Clock()
        self._journal = Journal(on_message, record_dir)
        self._hub = PushHub(self.clock, self._journal, max_subscriptions)
        self._store = Store(self.clock, self._hub.publish)
        self.faults = Faults(self.clock)
        self.tokens = Tokens()
        self._auth = frozenset(auth)
        self._doorman = Doorman(
            self._store,
            self._journal,
            LockOut(self.clock, self._journal),
            self.tokens,
            self._auth,
            Path(self._directory.name),
            extended_protection=extended_protection,
            each_request=login_each_request,
        )
        self._endpoint = Endpoint(
            self._store,
            self._hub,
            self.clock,
            self._journal,
            self.faults,
            [version or ServerVersion()]
            if version is None or isinstance(version, ServerVersion)
            else version,
            self._doorman,
            max_concurrency=max_concurrency,
            strict_aliases=strict_aliases,
        )
        self.autodiscover = Autodiscover(self._store, self._doorman.admit)
        self._webhook_timeout_s = webhook_timeout_s
        self._runners: list[web.AppRunner] = []
        self._ews: tuple[web.AppRunner, str, int, Any] | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""
        self.control = ""

    @property
    def ca_pem(self) -> str:
        """The CA certificate that clients must trust, PEM."""
        return self._ca.pem

    @property
    def ca_file(self) -> Path:
        """The same as a file."""
        return self._ca.pem_file

    async def start(self, host: str = "127.0.0.1", port: int = 0, control_port: int = 0) -> None:
        """Listens for EWS on `host:port` (HTTPS) and for control on loopback; port 0 is any.

        Afterwards `url` is that of Exchange.asmx and `control` the base URL of the control API.
        """
        self._loop = asyncio.get_running_loop()
        self._hub.open(Webhooks(self._ca.pem, self._webhook_timeout_s))
        ews = web.Application(client_max_size=_MAX_REQUEST)
        ews.router.add_post(PATH, self._endpoint.handle)
        ews.router.add_post(SOAP_PATH, self.autodiscover.soap)
        ews.router.add_post(POX_PATH, self.autodiscover.pox)
        files = self._ca.issue("exchange", self._names)
        self._doorman.show(files.certificate.read_bytes())
        context = files.server_context()
        if "certificate" in self._auth:
            context.load_verify_locations(self._ca.pem_file)
            context.verify_mode = ssl.CERT_OPTIONAL
        actual = await self._listen(ews, host, port, context)
        self._ews = (self._runners[-1], host, actual, context)
        self.url = f"https://{host}:{actual}{PATH}"
        actual = await self._listen(control_api.application(self), "127.0.0.1", control_port, None)
        self.control = f"http://127.0.0.1:{actual}"

    async def listen_plain(self, location: str) -> int:
        """Serve plain HTTP, too, on the port that is returned: Autodiscover's redirect there."""
        return await self._listen(redirector(location), "127.0.0.1", 0, None)

    async def _listen(self, app: web.Application, host: str, port: int, context: Any) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Closes everything; subscriptions and mail are forgotten with the object."""
        self.faults.clear()
        if self._reopening is not None:
            self._reopening.cancel()
        await self._hub.close()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self._loop = None
        self._directory.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def add_demo_accounts(self) -> list[Mailbox]:
        """Anna, Ben, Carla and Dora (see `accounts.py`); the mailboxes, with their passwords."""
        return [self._add(mailbox) for mailbox in demo_mailboxes()]

    def add_mailbox(
        self,
        address: str,
        name: str,
        password: str,
        *,
        username: str = "",
        domain: str = DOMAIN,
        aliases: Sequence[str] = (),
    ) -> Mailbox:
        """A new user. They log in as `DOMAIN\\user`, `user@DOMAIN` or with the address.

        Raises ValueError when an address or login is taken.
        """
        user = username or address.partition("@")[0]
        return self._add(Mailbox(address, name, user, domain, password, tuple(aliases)))

    def issue_certificate(self, address: str, lifetime_s: float = 86400.0) -> ServerFiles:
        """A client certificate of a mailbox's owner, with its key, by the lab's CA."""
        return self._ca.issue_client(address, lifetime_s)

    def _add(self, mailbox: Mailbox) -> Mailbox:
        self._in_loop(lambda: self._store.add(mailbox))
        return mailbox

    def grant(self, mailbox: str, user: str, folder: str = "") -> None:
        """Gives a user Reviewer on a folder, or without one FullAccess to the whole mailbox."""

        def change() -> None:
            owner, reader = self._store.mailbox(mailbox), self._store.mailbox(user)
            rights = owner.reviewers.setdefault(folder, set()) if folder else owner.full_access
            rights.add(reader.address.lower())

        self._in_loop(change)

    def set_password(self, address: str, password: str) -> None:
        """The old one is refused from now on; a locked-out account is let in again."""

        def change() -> None:
            mailbox = self._store.mailbox(address)
            mailbox.password = password
            mailbox.wrong_tries, mailbox.locked_until = 0, 0.0

        self._in_loop(change)

    def change_address(self, address: str, new: str, *, keep_old: bool = True) -> None:
        """Gives a mailbox another primary address; the old one stays as an alias, or goes.

        Raises ValueError when the new one is taken.
        """
        self._in_loop(
            lambda: self._store.rename(self._store.mailbox(address), new, keep_old=keep_old)
        )

    def deliver(
        self,
        to: str,
        from_name: str,
        from_address: str,
        subject: str,
        body: str = "",
        *,
        kind: Kind = "Message",
        is_read: bool = False,
        folder: str = "inbox",
        starts_at: datetime | None = None,
        age_s: float = 0.0,
    ) -> str:
        """Mail arrives; the new item's id. Raises `EwsError` for an unknown mailbox or folder.

        `is_read` is mail that a rule marked as read before anybody saw it; with `age_s` it was
        received so many lab seconds ago. Meeting messages start in a day unless `starts_at` says
        else.
        """
        sender = Address(from_name, from_address)

        def arrive() -> str:
            owner = self._store.own_address(self._store.mailbox(to))
            now = self.clock.now()
            draft = Draft(
                kind=kind,
                subject=subject,
                body=body,
                sender=sender,
                author=sender,
                to=(owner,),
                is_read=is_read,
                sent_at=now,
                starts_at=None if kind == "Message" else starts_at or now + timedelta(days=1),
                location="" if kind == "Message" else "Room 1",
            )
            return self._store.deliver(to, draft, folder, float(age_s)).id

        return self._in_loop(arrive)

    def mark_read(self, item_id: str, read: bool = True) -> None:
        """As if the user had read it elsewhere. Raises `EwsError` ErrorItemNotFound."""
        self._in_loop(lambda: self._store.mark_read(self._store.item(item_id), read))

    def move(self, item_id: str, folder: str) -> str:
        """Moves an item to a folder (distinguished name) of its mailbox; its new id."""

        def change() -> str:
            item = self._store.item(item_id)
            return self._store.move(item, self._store.folder(item.folder.mailbox, folder)).id

        return self._in_loop(change)

    def delete(self, item_id: str) -> None:
        """Removes an item for good. Raises `EwsError` ErrorItemNotFound."""
        self._in_loop(lambda: self._store.delete(self._store.item(item_id)))

    def unread_count(self, address: str) -> int:
        """Unread items in the inbox."""
        return self._in_loop(
            lambda: self._store.folder(self._store.mailbox(address), "inbox").unread
        )

    def items(self, address: str, folder: str = "inbox") -> list[dict[str, Any]]:
        """What lies in a folder, newest first, as the control API tells it."""

        def read() -> list[dict[str, Any]]:
            found = self._store.folder(self._store.mailbox(address), folder).items.values()
            return [_describe(item) for item in reversed(list(found))]

        return self._in_loop(read)

    def mailboxes(self) -> list[dict[str, Any]]:
        """All mailboxes, as the control API tells them."""

        def read() -> list[dict[str, Any]]:
            held = Counter(subscription.mailbox.address for subscription in self._hub)
            return [self._describe_mailbox(box, held) for box in self._store.mailboxes()]

        return self._in_loop(read)

    def _describe_mailbox(self, mailbox: Mailbox, held: Counter[str]) -> dict[str, Any]:
        # A mailbox nobody looked into is empty; looking into thousands would cost.
        inbox = self._store.folder(mailbox, "inbox") if mailbox.is_open else None
        return {
            "address": mailbox.address,
            "name": mailbox.name,
            "aliases": list(mailbox.aliases),
            "unread": inbox.unread if inbox else 0,
            "total": len(inbox.items) if inbox else 0,
            "subscriptions": held[mailbox.address],
        }

    def subscriptions(self) -> dict[str, Any]:
        """The subscriptions held, as the control API tells them; no URLs, they hold secrets."""

        def read() -> dict[str, Any]:
            found = [
                {
                    "id": subscription.id,
                    "mailbox": subscription.mailbox.address,
                    "owner": subscription.owner.address,
                    "delivered": subscription.delivered,
                    "waiting": len(subscription.queue),
                    "failures": subscription.failures,
                    "made_at": subscription.made_at and subscription.made_at.timestamp(),
                }
                for subscription in self._hub
            ]
            return {
                "total": len(found),
                "by_mailbox": dict(Counter(entry["mailbox"] for entry in found)),
                "subscriptions": found,
                "ended": dict(self._hub.ended),
            }

        return self._in_loop(read)

    def fail_subscription(
        self, subscription_id: str, code: str = "ErrorReadEventsFailed", *, bare: bool = False
    ) -> None:
        """Sends an error notification and forgets the subscription.

        `bare` sends it in the form real servers use, which their schema doesn't allow (see
        `notification.error_message`). Raises `EwsError` ErrorSubscriptionNotFound.
        """

        def change() -> None:
            subscription = self._hub.get(subscription_id)
            if subscription is None:
                raise EwsError("ErrorSubscriptionNotFound")
            self._hub.fail(subscription, code, bare=bare)

        self._in_loop(change)

    def lose_subscriptions(
        self, subscription_id: str = "", *, share: float = 0.0, seed: int = 0
    ) -> list[dict[str, str]]:
        """Forgets one subscription, or a random share (0 to 1) of all; nobody is told.

        Returns the id and mailbox of each that was lost. The same `seed` chooses the same places
        in the order of making. Raises `EwsError` ErrorSubscriptionNotFound.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError("share is from 0 to 1")

        def change() -> list[dict[str, str]]:
            lost = list(self._hub)
            if subscription_id:
                lost = [held for held in lost if held.id == subscription_id]
                if not lost:
                    raise EwsError("ErrorSubscriptionNotFound")
            else:
                lost = random.Random(seed).sample(lost, math.ceil(share * len(lost)))
            for subscription in lost:
                self._hub.drop(subscription)
            return [{"id": gone.id, "mailbox": gone.mailbox.address} for gone in lost]

        return self._in_loop(change)

    def move_mailbox(self, address: str, seconds: float) -> None:
        """Moves a mailbox to another database, which takes so many lab seconds.

        Its subscriptions die and nobody is told; its user's calls are answered
        ErrorMailboxMoveInProgress meanwhile. Raises `EwsError` ErrorNonExistentMailbox.
        """

        def change() -> None:
            mailbox = self._store.mailbox(address)
            for subscription in self._hub:
                if subscription.mailbox is mailbox:
                    self._hub.drop(subscription, "moved")
            self.faults.add("moving", seconds, address=mailbox.address)

        self._in_loop(change)

    def drop_network(self, seconds: float) -> None:
        """For so many lab seconds connections are refused, open ones reset, webhooks not reached.

        The control API stays. A second call before the end changes nothing.
        """
        self._in_loop(lambda: self._begin_outage(seconds))

    def restart(self, seconds: float = 1.0) -> None:
        """As `drop_network`, and every subscription is forgotten; mail is kept."""

        def change() -> None:
            for subscription in self._hub:
                self._hub.drop(subscription, "restarted")
            self._begin_outage(seconds)

        self._in_loop(change)

    def _begin_outage(self, seconds: float) -> None:
        if self._ews is None:
            raise RuntimeError("the lab has not started")
        if self._reopening is None or self._reopening.done():
            self._hub.cut_off = True
            self._reopening = asyncio.get_running_loop().create_task(self._outage(seconds))

    async def _outage(self, seconds: float) -> None:
        if self._ews is None:
            return
        runner, host, port, context = self._ews
        for site in list(runner.sites):
            await site.stop()
        for connection in runner.server.connections if runner.server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()
        await self.clock.sleep(seconds)
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        self._hub.cut_off = False

    def counters(self) -> dict[str, Any]:
        """What happened since the start, as the control API tells it."""
        return self._in_loop(
            lambda: {
                "calls": dict(self._journal.calls),
                "calls_per_second": dict(self._journal.per_second),
                "unauthorized": dict(self._journal.unauthorized),
                "lockouts": dict(self._journal.lockouts),
                "refused_while_locked": dict(self._journal.refused_while_locked),
                "notifications": dict(self._journal.notifications),
                "connections": {
                    "total": self._doorman.connections,
                    "open": self._doorman.open_connections,
                    "shared": self._doorman.shared,
                },
                "served": dict(self._doorman.served),
                "logins": dict(self._doorman.logins),
            }
        )

    def _in_loop(self, change: Callable[[], T]) -> T:
        """Runs it where all else runs, so that no two changes ever meet."""
        loop = self._loop
        if loop is None or loop.is_closed() or _running_loop() is loop:
            return change()

        async def run() -> T:
            return change()

        return asyncio.run_coroutine_threadsafe(run(), loop).result(timeout=30)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _describe(item: Item) -> dict[str, Any]:
    author = item.content.author
    return {
        "item_id": item.id,
        "kind": item.content.kind,
        "subject": item.content.subject,
        "from_name": author.name if author else "",
        "from_address": author.address if author else "",
        "is_read": item.content.is_read,
        "received_at": item.received_at.isoformat(),
    }


@contextmanager
def in_thread(
    lab: LabExchange, host: str = "127.0.0.1", port: int = 0, control_port: int = 0
) -> Iterator[LabExchange]:
    """Runs the lab in a thread with a loop of its own, for callers that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="lab-exchange", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(lab.start(host, port, control_port), loop).result(30)
        yield lab
    finally:
        asyncio.run_coroutine_threadsafe(lab.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
