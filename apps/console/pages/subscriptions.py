"""Subscriptions: which mailboxes Exchange reports, and which it does not any more. To read only."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from apps.administrators.scope import may
from apps.console import tables, words
from apps.console.base import ConsoleAdmin
from apps.console.chosen import chosen_og, of_chosen, sees_every_row, user_of
from apps.console.site import site
from apps.devices.models import Device, Mailbox
from apps.subscriptions.models import Subscription, SubscriptionState
from apps.tenants.models import OrganizationGroup


@admin.register(Subscription, site=site)
class SubscriptionAdmin(ConsoleAdmin):
    """Those of the chosen group's phones; without a phone they are of their mail system's group."""

    add_permission = change_permission = delete_permission = None
    audit_name = "subscription"

    list_display = ("short", "condition", "why", "mail_system", "since", "silent")
    list_filter: ClassVar = [("state", ChoicesDropdownFilter), tables.MailSystemFilter]
    ordering = ("-state_at",)
    paginator = tables.NarrowPaginator
    fields = (
        *("condition", "why", "advice", "since", "silent", "phone", "expires", "serves"),
        *("mail_system", "server", "frequency", "last_event", "created_at", "id"),
    )
    readonly_fields = fields
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """By the group of the phone whose credentials it carries."""
        rows: QuerySet[Any] = super(ModelAdmin, self).get_queryset(request)
        og = chosen_og(request)
        if og is None or not may(user_of(request), self.view_permission, og):
            return rows.none()
        rows = rows.prefetch_related("mailbox__mail_system")
        if sees_every_row(request):
            return rows
        # Subqueries: joins would be made for every row before they are counted.
        phones = Device.objects.filter(of_chosen(request, "og")).order_by()
        boxes = Mailbox.objects.filter(of_chosen(request, "mail_system__og")).order_by()
        mine = Q(owner__in=phones.values("pk")) | Q(owner=None, mailbox__in=boxes.values("pk"))
        return rows.filter(mine)

    def og_of(self, obj: Subscription) -> OrganizationGroup | None:
        found = obj.owner.og if obj.owner else obj.mailbox.mail_system.og
        assert isinstance(found, OrganizationGroup)
        return found

    @display(description="Subscription")
    def short(self, obj: Subscription) -> str:
        return str(obj.pk)[:8]

    @display(description="State", ordering="state", label=words.SUBSCRIPTION_LOOKS)
    def condition(self, obj: Subscription) -> str:
        return str(SubscriptionState(obj.state).label)

    @display(description="Why", ordering="reason")
    def why(self, obj: Subscription) -> str:
        return words.reason(obj.reason).meaning or words.of_subscription(obj).meaning

    @display(description="Since", ordering="state_at")
    def since(self, obj: Subscription) -> str:
        return words.clock(obj.state_at)

    @display(description="Silent since", ordering="silent_since")
    def silent(self, obj: Subscription) -> str:
        return words.clock(obj.silent_since)

    @display(description="What to do")
    def advice(self, obj: Subscription) -> str:
        return words.of_subscription(obj).advice or "Nothing."

    @display(description="Mail system", ordering="mailbox__mail_system__name")
    def mail_system(self, obj: Subscription) -> str:
        return str(obj.mailbox.mail_system.name)

    @display(description="Credentials of")
    def phone(self, obj: Subscription) -> str:
        if obj.owner_id is None:
            return "a phone that is gone"
        address = reverse("console:devices_device_change", args=[obj.owner_id])
        name = f"device {str(obj.owner_id)[:8]}"
        return format_html('<a class="ens-link" href="{}">{}</a>', address, name)

    @display(description="Credentials expire")
    def expires(self, obj: Subscription) -> str:
        return words.clock(obj.credentials_expire_at)

    @display(description="Serves its mailbox", boolean=True)
    def serves(self, obj: Subscription) -> bool:
        return bool(obj.mailbox.current_subscription == obj.pk)

    @display(description="EWS address")
    def server(self, obj: Subscription) -> str:
        return words.plain(obj.ews_url)

    @display(description="A sign of life at least every")
    def frequency(self, obj: Subscription) -> str:
        return f"{obj.status_frequency_minutes} minutes"

    @display(description="Last event worked on")
    def last_event(self, obj: Subscription) -> str:
        return words.since(obj.watermark_at)
