"""What administrators do with devices, in the console, by the admin API and by command.

Each action is audited where it is done, so that no caller forgets it. Scope is the caller's to
check: whoever gets here may act on the device that is handed in.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.db import transaction

from apps.audit import service as audit
from apps.cns.answer import Result
from apps.cns.client import MAX_PUSHES, CnsClient, Push, Service
from apps.cns.configured import CnsNotConfigured, shared_client
from apps.cns.errors import CnsRefused, CnsUnavailable
from apps.devices import blocks, registry
from apps.devices.models import PUSH_SERVICES, Block, Device, DeviceState
from apps.history import stories
from apps.subscriptions import ending, wakeups
from apps.tenants.models import OrganizationGroup
from apps.vault.wrapping import UnwrapFailed
from apps.wire import background

Reason = Literal["administrator", "compliance", "gateway"]
REASONS: Final[tuple[Reason, ...]] = ("administrator", "compliance", "gateway")
Named = Literal["uem", "eas"]

_TEST_TITLE: Final = "Test notification"
_TEST_BODY: Final = "Email notifications reach this phone."
_TEST: Final[dict[Service, dict[str, Any]]] = {
    "apns": {
        "aps": {"alert": {"title": _TEST_TITLE, "body": _TEST_BODY}, "sound": "default"},
        "ens": {"v": 1, "kind": "test"},
    },
    "fcm": {
        "data": {
            "v": "1",
            "kind": "test",
            "title": _TEST_TITLE,
            "body": _TEST_BODY,
            "sound": "default",
        }
    },
}
# A test that comes an hour late would only confuse; whoever asked is watching the phone now.
_TEST_LIVES_S: Final = 300
_CHECKIN_LIVES_S: Final = 3600


class OutOfScope(Exception):
    """Who acts may not act on that organization group."""


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, for the audit log: a user name or a token's label, and the caller's IP address.

    `og_paths`: the tree paths of the organization groups they look after, with all below; None for
    all. What an action does beyond its device stays inside these.
    """

    actor: str
    address: str = ""
    og_paths: tuple[str, ...] | None = None

    def scope_over(self, og: OrganizationGroup) -> str:
        """The path of the topmost group that they look after and that holds this one.

        Raises:
            OutOfScope: there is none.
        """
        if self.og_paths is None:
            return og.line_paths()[0]
        above = [path for path in self.og_paths if path and og.path.startswith(path)]
        if not above:
            raise OutOfScope
        return min(above, key=len)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an action on one device: `done`, or why not, as a code."""

    device_id: uuid.UUID
    done: bool
    code: str = ""


def block(
    device: Device, by: By, *, shred_now: bool, reason: Reason = "administrator"
) -> list[uuid.UUID]:
    """Block the phone of a device: this row, and every other of the same phone in the scope.

    Push token and secret go at once. The block sticks to the phone's UEM id, EAS id and push token
    and outlives the rows. With `shred_now` the subscriptions that the device owns end now and its
    credentials are destroyed, and the mailbox's other phones are asked for theirs; without, these
    are served with them for up to a day.

    Returns the ids of the devices that were not blocked before.
    """
    return _block(device.og, blocks.names_of(device), by, shred_now, reason)


def block_named(
    og: OrganizationGroup,
    kind: Named,
    value: str,
    by: By,
    *,
    shred_now: bool,
    reason: Reason = "compliance",
) -> list[uuid.UUID]:
    """The same for whatever phone has this UEM or EAS id, also for one that joins later."""
    name, *older = blocks.names(kind, value)
    return _block(og, [name], by, shred_now, reason, older)


def _block(
    og: OrganizationGroup,
    names: list[blocks.Name],
    by: By,
    shred_now: bool,
    reason: Reason,
    older: Sequence[blocks.Name] = (),
) -> list[uuid.UUID]:
    scope = by.scope_over(og)
    after = {"state": "blocked", "reason": reason, "shredded_now": shred_now}
    blocked: list[uuid.UUID] = []
    with transaction.atomic():
        blocks.add(scope, names, reason=reason)
        meant = blocks.devices_named(scope, [*names, *older])
        for device in list(meant.select_related("og")):
            # By all its own names: of a phone known by its UEM id the push token is barred, too.
            blocks.add(scope, blocks.names_of(device), reason=reason, device=device.id)
            if registry.move(device.id, DeviceState.BLOCKED, reason):
                registry.disarm(device.id)
                blocked.append(device.id)
                _audit(by, "device.block", device, {"state": str(device.state)}, after)
        if not blocked:
            _audit_names(by, "device.block", og, names, None, after)
    # After the commit: whoever reads what follows must find a device that is blocked.
    for device_id in blocked:
        _give_up(device_id, shred_now)
    return blocked


def _give_up(device_id: uuid.UUID, shred_now: bool) -> None:
    """End what a blocked device owns: at once, or as if it had left."""
    device = Device.objects.select_related("mailbox").filter(id=device_id).first()
    if device is None:
        return
    if shred_now:
        ending.shred(device, "owner_blocked")
        device.mailbox.refresh_from_db()
    ending.hand_over(device)
    wakeups.answered(device.id)


def unblock(device: Device, by: By) -> list[uuid.UUID]:
    """Let the phone of a device subscribe again; returns the ids of the devices that were freed.

    None is where the phone is also blocked for a group further up, which others look after, or
    where it is the gateway that blocks it: that ends when the gateway lets it through.
    """
    return _unblock(device.og, blocks.names_of(device), by)


def unblock_named(og: OrganizationGroup, kind: Named, value: str, by: By) -> list[uuid.UUID]:
    """The same for whatever phone has this UEM or EAS id; the id itself is free again as well."""
    return _unblock(og, blocks.names(kind, value), by)


def _unblock(og: OrganizationGroup, names: list[blocks.Name], by: By) -> list[uuid.UUID]:
    scope = by.scope_over(og)
    freed: list[uuid.UUID] = []
    with transaction.atomic():
        known = blocks.devices_named(scope, names).filter(state=DeviceState.BLOCKED)
        devices = list(known.select_related("og"))
        # What was blocked together is freed together, whichever row one began with.
        together = {*names, *(name for device in devices for name in blocks.names_of(device))}
        lifted = blocks.lift(scope, together)
        for device in devices:
            still = blocks.listed(device.og, blocks.names_of(device))
            if not still and registry.unblock(device.id):
                freed.append(device.id)
                _audit(by, "device.unblock", device, {"state": "blocked"}, {"state": "retired"})
        if lifted and not freed:
            _audit_names(by, "device.unblock", og, names, {"blocked": lifted}, {"blocked": 0})
    return freed


def remove(device: Device, by: By) -> None:
    """Forget a device as if it had unsubscribed; a block of its phone stays."""
    with transaction.atomic():
        _audit(by, "device.remove", device, {"state": str(device.state)}, None)
        ending.leave(device)


def request_checkin(devices: Sequence[Device], by: By) -> list[Outcome]:
    """Send each device the silent push that asks it to check in, now.

    Its `done` says that the push service took the push; Apple delivers two or three an hour.
    """
    return _send(devices, by, "device.request_checkin", "asked_to_check_in", _checkin_push)


def test_notification(devices: Sequence[Device], by: By) -> list[Outcome]:
    """Send each device a push that its user sees, with no content of any mail."""
    return _send(devices, by, "device.test_notification", "test_push", _test_push)


def blocks_of(device: Device) -> list[Block]:
    """The blocks that bar a device's phone, oldest first."""
    rows = blocks.of_group(device.og, blocks.names_of(device))
    return list(rows.order_by("created_at", "id"))


def _send(
    devices: Sequence[Device],
    by: By,
    action: str,
    kind: str,
    make: Callable[[Device, Service], Push],
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    calls: dict[Service, list[tuple[Device, Push]]] = {}
    for device in devices:
        service = PUSH_SERVICES[device.platform]
        if device.state == DeviceState.BLOCKED or not device.push_token_sealed:
            outcomes.append(Outcome(device.id, False, "no_push_token"))
            continue
        try:
            calls.setdefault(service, []).append((device, make(device, service)))
        except UnwrapFailed:
            outcomes.append(Outcome(device.id, False, "push_token_not_opened"))
    for service, pushes in calls.items():
        for first in range(0, len(pushes), MAX_PUSHES):
            outcomes += _call(service, pushes[first : first + MAX_PUSHES], kind)
    by_id = {device.id: device for device in devices}
    for outcome in outcomes:
        _audit(by, action, by_id[outcome.device_id], None, {"result": outcome.code or "accepted"})
    return outcomes


def _call(service: Service, pushes: Sequence[tuple[Device, Push]], kind: str) -> list[Outcome]:
    try:
        client: CnsClient = shared_client()
        results = background.run(client.send(service, [push for _, push in pushes]))
    except CnsNotConfigured:
        return [Outcome(device.id, False, "relay_not_configured") for device, _ in pushes]
    except (CnsUnavailable, CnsRefused) as error:
        return [Outcome(device.id, False, error.code) for device, _ in pushes]
    return [
        _settle(device, push, result, kind)
        for (device, push), result in zip(pushes, results, strict=True)
    ]


def _settle(device: Device, push: Push, result: Result, kind: str) -> Outcome:
    stories.record(device.id, kind, result=result.status, reason=result.reason)
    if result.status == "dead":
        registry.retire_dead_token(device.id, push.token, result.dead_since)
    if result.status == "accepted":
        return Outcome(device.id, True)
    return Outcome(device.id, False, result.reason or result.status)


def _test_push(device: Device, service: Service) -> Push:
    return Push(
        id=str(uuid.uuid4()),
        app=device.app_id,
        token=registry.push_token(device),
        push_type="alert",
        priority=10,
        expiration=int(time.time()) + _TEST_LIVES_S,
        collapse_id="test",
        payload=_TEST[service],
    )


def _checkin_push(device: Device, service: Service) -> Push:
    return Push(
        id=str(uuid.uuid4()),
        app=device.app_id,
        token=registry.push_token(device),
        push_type="background",
        priority=5,
        expiration=int(time.time()) + _CHECKIN_LIVES_S,
        collapse_id="wakeup",
        payload=wakeups.SILENT[service],
    )


def _audit(
    by: By,
    action: str,
    device: Device,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    audit.record(
        actor=by.actor,
        action=action,
        target=f"device {device.id}",
        og_path=device.og.path,
        before=before,
        after=after,
        address=by.address,
    )


def _audit_names(
    by: By,
    action: str,
    og: OrganizationGroup,
    names: list[blocks.Name],
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    """For names that no device has: kinds only, for an id of a phone says whose it is."""
    kinds = ", ".join(sorted({kind for kind, _ in names}))
    audit.record(
        actor=by.actor,
        action=action,
        target=f"a phone by {kinds}",
        og_path=og.path,
        before=before,
        after=after,
        address=by.address,
    )
