"""Devices, what is done with them, and what is held about a person."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.admin import schemas
from apps.api.admin.base import AdminView, Problem, checked
from apps.api.admin.openapi import operation
from apps.devices import blocks
from apps.devices.models import Device as Row
from apps.devices.registry import user_hmac
from apps.history import stories
from apps.operations import device_actions, persons
from apps.operations.device_actions import Outcome
from apps.subscriptions.models import Subscription
from apps.tenants.models import OrganizationGroup


class Devices(AdminView):
    """All devices that the token sees, by id."""

    permissions = {"GET": "console.read"}

    @operation("devices_list", schemas.paged(schemas.Device), pages=True)
    def get(self, request: Request) -> Response:
        return self.page(_rows(self), _device)


class DeviceSearch(AdminView):
    """Devices by state, platform, group, mail system, address, UEM id or EAS id."""

    permissions = {"POST": "console.read"}

    @operation(
        "devices_search", schemas.paged(schemas.Device), asks=schemas.DeviceSearch, pages=True
    )
    def post(self, request: Request) -> Response:
        asked, rows = checked(schemas.DeviceSearch, request.data), _rows(self)
        if "group" in asked:
            rows = rows.filter(og__path__startswith=self.group(asked["group"]).path)
        if "address" in asked:
            rows = rows.filter(mailbox__user_hmac=user_hmac(asked["address"]))
        if "mail_system" in asked:
            rows = rows.filter(mailbox__mail_system=asked["mail_system"])
        kinds: tuple[device_actions.Named, ...] = ("uem", "eas")
        for kind in kinds:
            if f"{kind}_id" in asked:
                known = [hmac for _, hmac in blocks.names(kind, asked[f"{kind}_id"])]
                rows = rows.filter(**{f"{kind}_hmac__in": known})
        for name in ("state", "platform"):
            if name in asked:
                rows = rows.filter(**{name: asked[name]})
        return self.page(rows, _device)


class Device(AdminView):
    """One device with its story; or forget it."""

    permissions = {"GET": "console.read", "DELETE": "devices.act"}

    @operation("devices_read", schemas.DeviceDetail)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        device = self.one(_rows(self), pk=pk)
        current = device.mailbox.current_subscription
        row = Subscription.objects.filter(id=current).first() if current else None
        more = {
            "subscription": row
            and {
                "id": row.id,
                "state": row.state,
                "reason": row.reason,
                "state_at": row.state_at,
                "own": row.owner_id == device.id,
            },
            "blocks": [
                {"kind": block.kind, "reason": block.reason, "created_at": block.created_at}
                for block in device_actions.blocks_of(device)
            ],
            "story": [
                {"at": entry.at, "kind": entry.kind, "facts": entry.facts}
                for entry in stories.story(device.id)
            ],
        }
        return Response(_device(device) | more)

    @operation("devices_remove", None, status=204)
    def delete(self, request: Request, pk: uuid.UUID) -> Response:
        device_actions.remove(self.one(_rows(self), pk=pk), self.by())
        return Response(status=204)


class DeviceBlock(AdminView):
    """Blocks the phone of a device, or frees it."""

    permissions = {"POST": "devices.act", "DELETE": "devices.act"}

    @operation("devices_block", schemas.Changed, asks=schemas.BlockRequest)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        asked = checked(schemas.BlockRequest, request.data)
        device = self.one(_rows(self), pk=pk)
        return _changed(device_actions.block(device, self.by(), **asked))

    @operation("devices_unblock", schemas.Changed)
    def delete(self, request: Request, pk: uuid.UUID) -> Response:
        return _changed(device_actions.unblock(self.one(_rows(self), pk=pk), self.by()))


class DevicePush(AdminView):
    """Sends a device a test notification, or asks it to check in; `what` says which."""

    permissions = {"POST": "devices.act"}
    what: Literal["test_notification", "request_checkin"] = "test_notification"

    def send(self, pk: uuid.UUID) -> Response:
        """Send it and tell what the push service said."""
        device = self.one(_rows(self), pk=pk)
        send = getattr(device_actions, self.what)
        outcomes: Sequence[Outcome] = send([device], self.by())
        return Response({"done": outcomes[0].done, "code": outcomes[0].code})


class TestNotification(DevicePush):
    """Sends a push that the user sees."""

    @operation("devices_test_notification", schemas.Sent)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        return self.send(pk)


class RequestCheckin(DevicePush):
    """Sends the silent push that asks for a check-in."""

    what = "request_checkin"

    @operation("devices_request_checkin", schemas.Sent)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        return self.send(pk)


class Blocks(AdminView):
    """Blocks or frees a phone by its UEM or EAS id, whether it has joined or not."""

    permissions = {"POST": "devices.act", "DELETE": "devices.act"}

    @operation("blocks_create", schemas.Changed, asks=schemas.NamedBlock)
    def post(self, request: Request) -> Response:
        asked = checked(schemas.NamedBlock, request.data)
        og, (kind, value) = self._group(asked), _named(asked)
        changed = device_actions.block_named(
            og, kind, value, self.by(), shred_now=asked["shred_now"], reason=asked["reason"]
        )
        return _changed(changed)

    @operation("blocks_lift", schemas.Changed, asks=schemas.NamedPhone)
    def delete(self, request: Request) -> Response:
        asked = checked(schemas.NamedPhone, request.data)
        kind, value = _named(asked)
        return _changed(device_actions.unblock_named(self._group(asked), kind, value, self.by()))

    def _group(self, asked: dict[str, Any]) -> OrganizationGroup:
        """The named group, or the only one that can be meant."""
        if "group" in asked:
            return self.group(asked["group"])
        rows: QuerySet[OrganizationGroup] = OrganizationGroup.objects.order_by("path")
        groups = self.within(rows, "path")
        first = groups.first()
        if first is None:
            raise Problem("not_found")
        if groups.exclude(path__startswith=first.path).exists():
            raise Problem("malformed", "group: required, for the token sees several trees")
        return first


class PersonExport(AdminView):
    """What is held about a person."""

    permissions = {"POST": "devices.export"}

    @operation("persons_export", dict, asks=schemas.Person)
    def post(self, request: Request) -> Response:
        return Response(persons.held(checked(schemas.Person, request.data)["address"], self.by()))


class PersonForget(AdminView):
    """Forgets a person."""

    permissions = {"POST": "groups.manage"}

    @operation("persons_forget", schemas.Forgotten, asks=schemas.Person)
    def post(self, request: Request) -> Response:
        return Response(persons.forget(checked(schemas.Person, request.data)["address"], self.by()))


def _rows(view: AdminView) -> QuerySet[Row]:
    return view.within(Row.objects.select_related("og", "mailbox"))


def _named(asked: dict[str, Any]) -> tuple[device_actions.Named, str]:
    return ("uem", asked["uem_id"]) if "uem_id" in asked else ("eas", asked["eas_id"])


def _changed(ids: list[uuid.UUID]) -> Response:
    return Response({"devices": ids})


def _device(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "group": row.og.guid,
        "mail_system": row.mailbox.mail_system_id,
        "state": row.state,
        "reason": row.reason,
        "state_at": row.state_at,
        "platform": row.platform,
        "app_id": row.app_id,
        "model": row.model_name,
        "os_version": row.os_version,
        "app_version": row.app_version,
        "last_checkin_at": row.last_checkin_at,
        "proved_at": row.proved_at,
        "created_at": row.created_at,
    }
