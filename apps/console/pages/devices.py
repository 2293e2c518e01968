"""Devices: which phones there are, why one of them is silent, and what can be done about it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, TextFilter
from unfold.decorators import display

from apps.administrators.scope import may, may_somewhere, permitted_paths
from apps.announce.policy import ContentPolicy, Wishes, rules
from apps.client_address import client_address
from apps.console import tables, words
from apps.console.base import ConsoleAdmin, audit
from apps.console.chosen import administrator_of, chosen_og, user_of
from apps.console.site import refused, show, site
from apps.devices import blocks, registry
from apps.devices.labels import label_of
from apps.devices.models import Device, DeviceState
from apps.devices.registry import user_hmac
from apps.history import stories
from apps.operations import device_actions
from apps.operations.device_actions import By, Outcome
from apps.subscriptions.models import Subscription, WakeUp
from apps.tenants.inherited import settings_for

# So many devices a search names at most, and so many a bulk action takes on at once.
_FOUND_AT_MOST: Final = 50
_MOST_AT_ONCE: Final = 20_000
_CHUNK: Final = 25
_LIST: Final = "console:devices_device_changelist"
_PAGE: Final = "console:devices_device_change"


def by(request: HttpRequest) -> By:
    """Who acts, and how far: what is blocked or freed stays inside what they look after."""
    paths = permitted_paths(user_of(request), "devices.act")
    return By(
        administrator_of(request).username,
        str(client_address(request)),
        None if paths is None else tuple(paths),
    )


class _App(TextFilter):
    """By a part of the app's id."""

    title = "app"
    parameter_name = "app"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = (self.value() or "")[:155]
        return queryset.filter(app_id__icontains=value) if value else queryset


class _Platform(DropdownFilter):
    """By what runs on it."""

    title = "platform"
    parameter_name = "platform"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(words.PLATFORMS.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(platform=self.value()) if self.value() else queryset


class _Found(admin.SimpleListFilter):
    """What a search has found: ids of devices, since no address may stand in a URL."""

    title = "search"
    parameter_name = "found"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = request.GET.get(self.parameter_name, "")
        return [(value, "What was searched for")] if value else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if not value:
            return queryset
        try:
            return queryset.filter(pk__in=[uuid.UUID(one) for one in value.split(",")[:50]])
        except ValueError:
            return queryset.none()


@admin.register(Device, site=site)
class DeviceAdmin(ConsoleAdmin):
    """The devices of the chosen group and below."""

    add_permission = change_permission = delete_permission = None
    audit_name = "device"

    list_display = (
        "phone",
        "condition",
        "app",
        "mail_system",
        "group",
        "last_checkin",
        "joined",
    )
    list_filter: ClassVar = [
        _Found,
        ("state", ChoicesDropdownFilter),
        _Platform,
        tables.MailSystemFilter,
        _App,
    ]
    ordering = ("-last_checkin_at",)
    paginator = tables.NarrowPaginator
    list_before_template = "console/devices_search.html"
    actions: ClassVar = ["bulk_test", "bulk_checkin", "bulk_block", "bulk_unblock", "bulk_remove"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Without the columns that no table shows.

        Group and mail system are asked for a page's rows: a join would be made for every row before
        these are sorted.
        """
        rows = super().get_queryset(request).defer("push_token_sealed", "content_key", "accounts")
        return rows.prefetch_related("og", "mailbox__mail_system")

    @display(description="Phone", ordering="model_name")
    def phone(self, obj: Device) -> str:
        return _called(obj)

    @display(description="State", ordering="state", label=words.DEVICE_LOOKS)
    def condition(self, obj: Device) -> str:
        return str(DeviceState(obj.state).label)

    @display(description="App", ordering="app_id")
    def app(self, obj: Device) -> str:
        return words.plain(obj.app_id)

    @display(description="Mail system", ordering="mailbox__mail_system__name")
    def mail_system(self, obj: Device) -> str:
        return str(obj.mailbox.mail_system.name)

    @display(description="Group", ordering="og__name")
    def group(self, obj: Device) -> str:
        return str(obj.og.name)

    @display(description="Last check-in", ordering="last_checkin_at")
    def last_checkin(self, obj: Device) -> str:
        return words.clock(obj.last_checkin_at)

    @display(description="Joined", ordering="created_at")
    def joined(self, obj: Device) -> str:
        return words.clock(obj.created_at)

    def get_actions(self, request: HttpRequest) -> Any:
        """None for those who may only look."""
        if not may_somewhere(user_of(request), "devices.act"):
            return {}
        return super().get_actions(request)

    def get_urls(self) -> list[URLPattern]:
        """Search, export, what is done with one device, and with many."""
        wrap = self.admin_site.admin_view
        own = [
            path("find/", wrap(self.find_view), name="devices_device_find"),
            path("export/", wrap(self.export_view), name="devices_device_export"),
            path("bulk/", wrap(self.bulk_view), name="devices_device_bulk"),
        ]
        for verb in _VERBS:
            own.append(
                path(
                    f"<path:object_id>/{verb}/",
                    wrap(self.act_view),
                    {"verb": verb},
                    name=f"devices_device_{verb}",
                )
            )
        return own + list(super().get_urls())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The table, with the search and the export above it."""
        may_export = may_somewhere(user_of(request), "devices.export")
        more = {
            "export": f"{reverse('console:devices_device_export')}?{request.GET.urlencode()}"
            if may_export
            else ""
        }
        return super().changelist_view(request, more | (extra_context or {}))

    def find_view(self, request: HttpRequest) -> HttpResponse:
        """Search by what only HMACs are kept of. By POST: URLs stand in logs."""
        wanted = request.POST.get("wanted", "").strip()[:320]
        if request.method != "POST" or not wanted:
            return redirect(_LIST)
        found = list(self._named(request, wanted).values_list("pk", flat=True)[:_FOUND_AT_MOST])
        if not found:
            messages.warning(request, "No device goes by that in this organization group.")
            return redirect(_LIST)
        if len(found) == 1:
            return redirect(_PAGE, found[0])
        return redirect(f"{reverse(_LIST)}?found={','.join(map(str, found))}")

    def _named(self, request: HttpRequest, wanted: str) -> QuerySet[Any]:
        if "@" in wanted:
            meant = Q(mailbox__user_hmac=user_hmac(wanted))
        else:
            meant = Q(uem_hmac__in=_hmacs("uem", wanted)) | Q(eas_hmac__in=_hmacs("eas", wanted))
        with contextlib.suppress(ValueError):
            meant |= Q(pk=uuid.UUID(wanted))
        return self.get_queryset(request).filter(meant).order_by("-last_checkin_at")

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The filtered table as CSV."""
        og = chosen_og(request)
        if og is None or not may(user_of(request), "devices.export", og):
            return refused(request)
        rows = self.filtered(request)
        if rows is None:
            return redirect(_LIST)
        audit(request, "device.export", "devices", og, None, {"filters": sorted(request.GET)})
        values = rows.prefetch_related(None).values_list(*_COLUMNS.values())
        return tables.as_csv("devices", _COLUMNS, values.iterator(chunk_size=2000))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A device's page: how it is, why, and its story."""
        device = self._device(request, object_id)
        title = f"Phone {_called(device)}"  # the frame would write IPhone
        return show(request, "console/device.html", title, self._context(request, device))

    def _context(self, request: HttpRequest, device: Device) -> dict[str, Any]:
        current = device.mailbox.current_subscription
        subscription = Subscription.objects.filter(id=current).first() if current else None
        return {
            "object": device,  # for the way back
            "device": device,
            "state": DeviceState(device.state).label,
            "look": words.DEVICE_LOOKS[DeviceState(device.state).label],
            "words": words.of_device(device),
            "facts": list(_facts(device)),
            "subscription": subscription,
            "subscription_words": words.of_subscription(subscription) if subscription else None,
            "others": Device.objects.filter(mailbox=device.mailbox_id)
            .exclude(pk=device.pk)
            .count(),
            "wake_up": WakeUp.objects.filter(pk=device.pk).first(),
            "blocks": [
                (_BLOCKED_BY.get(block.kind, block.kind), words.reason(block.reason).meaning, block)
                for block in device_actions.blocks_of(device)
            ],
            "story": [words.line(entry) for entry in reversed(stories.story(device.pk))],
            "permitted": may(user_of(request), "devices.act", device.og),
        }

    def act_view(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        """Ask, and do one thing with one device."""
        device = self._device(request, object_id)
        if not may(user_of(request), "devices.act", device.og):
            raise PermissionDenied
        action = _VERBS[verb]
        if request.method == "POST":
            outcome = action.do([device], by(request), request.POST.get("shred") == "on")[0]
            if outcome.done:
                messages.success(request, action.done)
            else:
                why = words.reason(outcome.code)
                messages.error(request, f"Not possible. {why.meaning} {why.advice}")
            return redirect(_LIST) if device.pk is None else redirect(_PAGE, device.pk)
        context = {
            "action": action,
            "words": action.question,
            "back": reverse(_PAGE, args=[device.pk]),
        }
        return show(
            request, "console/device_act.html", f"{action.title}: {_called(device)}", context
        )

    def _device(self, request: HttpRequest, object_id: str) -> Device:
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404
        assert isinstance(found, Device)
        return found

    # --- many at once -------------------------------------------------------------------------

    @admin.action(description="Send a test notification …")
    def bulk_test(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
        return self._ask(request, rows, "test")

    @admin.action(description="Ask for a check-in …")
    def bulk_checkin(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
        return self._ask(request, rows, "checkin")

    @admin.action(description="Block …")
    def bulk_block(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
        return self._ask(request, rows, "block")

    @admin.action(description="Unblock …")
    def bulk_unblock(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
        return self._ask(request, rows, "unblock")

    @admin.action(description="Remove …")
    def bulk_remove(self, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
        return self._ask(request, rows, "remove")

    def _ask(self, request: HttpRequest, rows: QuerySet[Any], verb: str) -> HttpResponse:
        """The page that asks first, and then sends the devices' ids back in small parts.

        The browser holds the list: nothing is left behind on a server when it is closed, and what
        was done is done. Doing it again does nothing twice.
        """
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[: _MOST_AT_ONCE + 1])
        if len(ids) > _MOST_AT_ONCE:
            messages.error(request, f"At most {_MOST_AT_ONCE:,} at once: narrow it by the filters.")
            return redirect(request.get_full_path())
        action = _VERBS[verb]
        context = {
            "action": action,
            "verb": verb,
            "words": action.question,
            "ids": "\n".join(map(str, ids)),
            "count": len(ids),
            "chunk": _CHUNK,
            "back": reverse(_LIST),
        }
        return show(request, "console/devices_bulk.html", f"{action.title}?", context)

    def bulk_view(self, request: HttpRequest) -> HttpResponse:
        """Do it with one part of the devices; how many were done, and why others were not."""
        action = _VERBS.get(request.POST.get("verb", ""))
        if request.method != "POST" or action is None:
            return redirect(_LIST)
        try:
            ids = [uuid.UUID(one) for one in request.POST.get("ids", "").split()]
        except ValueError:
            return JsonResponse({"code": "malformed"}, status=400)
        if len(ids) > _CHUNK:
            return JsonResponse({"code": "too_many"}, status=400)
        rows = self.get_queryset(request).defer(None)
        rows = rows.filter(pk__in=ids)
        mine = [one for one in rows if may(user_of(request), "devices.act", one.og)]
        outcomes = action.do(mine, by(request), request.POST.get("shred") == "on") if mine else []
        counted: dict[str, int] = {}
        for outcome in outcomes:
            if not outcome.done:
                said = words.reason(outcome.code).meaning
                counted[said] = counted.get(said, 0) + 1
        if len(mine) < len(ids):
            counted["Not there any more, or not yours."] = len(ids) - len(mine)
        return JsonResponse({"done": sum(one.done for one in outcomes), "not_done": counted})


def _hmacs(kind: device_actions.Named, value: str) -> list[str]:
    return [hmac for _, hmac in blocks.names(kind, value)]


def _called(device: Device) -> str:
    """What people call a phone; devices name their models, and perhaps themselves."""
    said = words.plain(device.model_name) or words.PLATFORMS.get(device.platform, device.platform)
    label = words.plain(label_of(device))
    return " · ".join(filter(None, (label, said, str(device.pk)[:8])))


# The columns of an export, and where each comes from.
_COLUMNS: Final = {
    "id": "pk",
    "organization_group": "og__name",
    "mail_system": "mailbox__mail_system__name",
    "state": "state",
    "reason": "reason",
    "platform": "platform",
    "app": "app_id",
    "model": "model_name",
    "os_version": "os_version",
    "app_version": "app_version",
    "last_checkin_at": "last_checkin_at",
    "proved_at": "proved_at",
    "created_at": "created_at",
}


def _facts(device: Device) -> Iterator[tuple[str, str]]:
    """What the page lists about a device, besides its state."""
    yield "Proved", words.since(device.proved_at)
    yield "Last check-in", words.since(device.last_checkin_at)
    if device.push_token_sealed:
        yield "Push token", f"handed over {words.since(device.push_token_at)}"
    else:
        yield "Push token", "none"
    yield "May be told", _level_in_force(device)
    yield "App", words.plain(f"{device.app_id} {device.app_version}")
    yield (
        "Platform",
        words.plain(f"{words.PLATFORMS.get(device.platform, device.platform)} {device.os_version}"),
    )
    yield "Mail system", device.mailbox.mail_system.name
    yield "Organization group", device.og.name
    yield "Time zone", words.plain(device.time_zone) or "not told"
    yield "Joined", words.since(device.created_at)


def _level_in_force(device: Device) -> str:
    policy = settings_for(device.og, ContentPolicy)
    held = rules(
        policy,
        device.content_wish,
        Wishes.from_json(device.wishes),
        device.time_zone,
        timezone.now(),
    )
    told = words.level(held.level)
    if device.content_key:
        return f"{told}, encrypted"
    if policy.require_encryption and held.level not in ("none", "generic"):
        return f"{words.level('generic')}: its app can't decrypt more"
    return told


_BLOCKED_BY: Final = {"uem": "UEM id", "eas": "EAS id", "push-token": "Push token"}

_Do = Callable[[Sequence[Device], By, bool], list[Outcome]]


class _Action:
    """Something to do with devices: what the page says before and after."""

    def __init__(self, title: str, icon: str, question: str, done: str, do: _Do) -> None:
        self.title, self.icon, self.question, self.done, self.do = title, icon, question, done, do
        self.dangerous = title in ("Block", "Remove")
        self.shreds = title == "Block"


def _each(one: Callable[[Device, By, bool], Outcome]) -> _Do:
    return lambda devices, who, shred: [one(device, who, shred) for device in devices]


def _block(device: Device, who: By, shred: bool) -> Outcome:
    done = device_actions.block(device, who, shred_now=shred)
    # In a part of a bulk another row of the same phone may have taken this one along.
    was = device.state == DeviceState.BLOCKED and not registry.held_by_gateway(device)
    return Outcome(device.pk, device.pk in done or not was, "" if not was else "blocked_already")


def _unblock(device: Device, who: By, shred: bool) -> Outcome:
    done = device.pk in device_actions.unblock(device, who)
    if done or device.state != DeviceState.BLOCKED:
        return Outcome(device.pk, done, "not_blocked")
    freed = Device.objects.filter(pk=device.pk).exclude(state=DeviceState.BLOCKED).exists()
    held = registry.held_by_gateway(device)
    return Outcome(device.pk, freed, "held_by_gateway" if held else "blocked_above")


def _remove(device: Device, who: By, shred: bool) -> Outcome:
    pk = device.pk  # a row that is deleted has none
    device_actions.remove(device, who)
    return Outcome(pk, True)


_VERBS: Final = {
    "test": _Action(
        "Send a test notification",
        "notifications",
        "The phone shows “Test notification”. It holds nothing of any mail.",
        "The push service has taken the test notification. Does the phone show it?",
        lambda devices, who, shred: device_actions.test_notification(devices, who),
    ),
    "checkin": _Action(
        "Ask for a check-in",
        "sync",
        "A silent push asks the app to check in. Phones that save power may take their time.",
        "The push service has taken the request. The story tells when the phone has checked in.",
        lambda devices, who, shred: device_actions.request_checkin(devices, who),
    ),
    "block": _Action(
        "Block",
        "block",
        "The phone is told nothing from now on and can't subscribe any more, by whatever of its "
        "names: push token, UEM id, EAS id.",
        "The phone is blocked on all servers.",
        _each(_block),
    ),
    "unblock": _Action(
        "Unblock",
        "lock_open",
        "The phone may subscribe again. It does when its user opens the mail app.",
        "The phone may subscribe again.",
        _each(_unblock),
    ),
    "remove": _Action(
        "Remove",
        "delete",
        "The device is forgotten as if its app had unsubscribed. It comes back when its user opens "
        "the mail app, unless its phone is blocked.",
        "The device is removed.",
        _each(_remove),
    ),
}
