"""What the admin API takes and gives. OpenAPI is generated from it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from rest_framework import serializers

from apps.administrators.api_tokens import SCOPES
from apps.api.schemas import Strict
from apps.devices.models import DeviceState, Platform
from apps.operations.device_actions import REASONS
from apps.subscriptions.models import SubscriptionState

_LINE: Final = 200


@cache
def paged(item: type[serializers.Serializer]) -> serializers.Serializer:
    """A page of items, for OpenAPI."""
    name = f"{item.__name__}Page"
    fields: dict[str, Any] = {
        "items": item(many=True),
        "next_cursor": serializers.CharField(
            allow_null=True, help_text="For `cursor` of the next call; null: this was the last."
        ),
        "__doc__": f"A page of {item.__name__}.",
    }
    made: serializers.Serializer = type(name, (serializers.Serializer,), fields)()
    return made


# --- organization groups --------------------------------------------------------------------
class Group(serializers.Serializer):
    guid = serializers.UUIDField()
    name = serializers.CharField()
    parent = serializers.UUIDField(  # type: ignore[assignment]
        allow_null=True, help_text="Null for a root, and for what the token can't see."
    )


class GroupCreate(Strict):
    name = serializers.CharField(max_length=_LINE)
    parent = serializers.UUIDField(  # type: ignore[assignment]
        required=False, help_text="Without: a new tree."
    )


class SettingValue(serializers.Serializer):
    value = serializers.JSONField(help_text="In force in this group.")
    origin = serializers.UUIDField(
        allow_null=True, help_text="The group that set it; null: nobody, it is the default."
    )


class Sections(serializers.Serializer):
    sections = serializers.DictField(
        child=serializers.DictField(child=SettingValue()), help_text="Settings by section."
    )


class Override(Strict):
    values = serializers.DictField(help_text="Settings by name; all are set or none.")


class Reset(Strict):
    names = serializers.ListField(
        child=serializers.CharField(max_length=_LINE), min_length=1, max_length=100
    )


# --- API tokens of apps ---------------------------------------------------------------------
class Token(serializers.Serializer):
    id = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class TokenCreate(Strict):
    label = serializers.CharField(max_length=_LINE)  # type: ignore[assignment]
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class TokenRotate(Strict):
    overlap_hours = serializers.IntegerField(
        min_value=0, max_value=24 * 365, help_text="For how long the old one stays good."
    )


class NewToken(Token):
    token = serializers.CharField(help_text="The token itself, told this once.")


# --- mail systems ---------------------------------------------------------------------------
class MailSystem(serializers.Serializer):
    id = serializers.IntegerField()
    group = serializers.UUIDField()
    name = serializers.CharField()
    hosts = serializers.ListField(child=serializers.CharField())
    default_ews_url = serializers.CharField()
    has_own_cas = serializers.BooleanField()
    allow_private = serializers.BooleanField()
    smtp_domains = serializers.ListField(child=serializers.CharField())
    autodiscover = serializers.BooleanField()
    proxy_url = serializers.CharField(help_text="Set in the console only.")
    tls_floor = serializers.CharField()
    gateway = serializers.BooleanField()
    gateway_headers = serializers.ListField(child=serializers.CharField())
    gateway_refusals = serializers.ListField(child=serializers.IntegerField())


class MailSystemCreate(Strict):
    name = serializers.CharField(max_length=_LINE)
    hosts = serializers.ListField(
        child=serializers.CharField(max_length=260), min_length=1, max_length=100
    )
    default_ews_url = serializers.CharField(
        max_length=1000, required=False, allow_blank=True, default=""
    )
    ca_pem = serializers.CharField(max_length=20_000, required=False, allow_blank=True, default="")
    allow_private = serializers.BooleanField(
        default=False, help_text="Needs the scope `system.change` everywhere."
    )
    smtp_domains = serializers.ListField(
        child=serializers.CharField(max_length=260), max_length=1000, required=False, default=list
    )
    autodiscover = serializers.BooleanField(default=True)
    tls_floor = serializers.ChoiceField(("1.2", "1.1", "1.0"), default="1.2")
    gateway = serializers.BooleanField(default=False)
    gateway_headers = serializers.ListField(
        child=serializers.CharField(max_length=300),
        max_length=16,
        required=False,
        default=list,
        help_text="Such as `X-Device-Id: {eas_id}`; none: that one.",
    )
    gateway_refusals = serializers.ListField(
        child=serializers.IntegerField(), max_length=16, required=False, default=list
    )


# --- devices --------------------------------------------------------------------------------
class Device(serializers.Serializer):
    id = serializers.UUIDField()
    group = serializers.UUIDField()
    mail_system = serializers.IntegerField()
    state = serializers.ChoiceField(choices=DeviceState.choices)
    reason = serializers.CharField()
    state_at = serializers.DateTimeField()
    platform = serializers.ChoiceField(choices=Platform.choices)
    app_id = serializers.CharField()
    model = serializers.CharField()
    os_version = serializers.CharField()
    app_version = serializers.CharField()
    last_checkin_at = serializers.DateTimeField(allow_null=True)
    proved_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class StoryEntry(serializers.Serializer):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    facts = serializers.DictField()


class Block(serializers.Serializer):
    kind = serializers.CharField(help_text="uem, eas or push-token")
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()


class DeviceDetail(Device):
    subscription = serializers.DictField(
        allow_null=True, help_text="The mailbox's current one: id, state, reason, state_at, own."
    )
    blocks = Block(many=True)
    story = StoryEntry(many=True)


class DeviceSearch(Strict):
    """All that is given must match. Addresses and ids stand here and not in URLs, for logs."""

    group = serializers.UUIDField(required=False, help_text="In this group and below.")
    state = serializers.ChoiceField(choices=DeviceState.choices, required=False)
    platform = serializers.ChoiceField(choices=Platform.choices, required=False)
    mail_system = serializers.IntegerField(required=False)
    address = serializers.EmailField(required=False, max_length=320)
    uem_id = serializers.CharField(required=False, max_length=128)
    eas_id = serializers.CharField(required=False, max_length=128)


class BlockRequest(Strict):
    shred_now = serializers.BooleanField(
        help_text="Destroy the phone's credentials at once; else they serve the mailbox's other "
        "phones for up to a day."
    )
    reason = serializers.ChoiceField(choices=REASONS, default="administrator")


class NamedPhone(Strict):
    """A phone by what UEM or mail gateway call it."""

    group = serializers.UUIDField(
        required=False, help_text="Whose tree is meant; needed where the token sees several."
    )
    uem_id = serializers.CharField(required=False, max_length=128)
    eas_id = serializers.CharField(required=False, max_length=128)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("uem_id" in attrs) == ("eas_id" in attrs):
            raise serializers.ValidationError("one of uem_id and eas_id", "one_of")
        return attrs


class NamedBlock(NamedPhone):
    shred_now = serializers.BooleanField()
    reason = serializers.ChoiceField(choices=REASONS, default="compliance")


class Changed(serializers.Serializer):
    devices = serializers.ListField(
        child=serializers.UUIDField(), help_text="Those whose state was changed by this call."
    )


class Sent(serializers.Serializer):
    done = serializers.BooleanField(help_text="The push service took it.")
    code = serializers.CharField(help_text="Why not, where it did not.")


class Person(Strict):
    address = serializers.EmailField(max_length=320)


class Forgotten(serializers.Serializer):
    mailboxes = serializers.IntegerField()
    devices = serializers.IntegerField()
    subscriptions = serializers.IntegerField()


# --- what goes on ---------------------------------------------------------------------------
class Subscription(serializers.Serializer):
    id = serializers.UUIDField()
    group = serializers.UUIDField(allow_null=True, help_text="The device's; null: it is gone.")
    mail_system = serializers.IntegerField()
    device = serializers.UUIDField(allow_null=True, help_text="Whose credentials it has.")
    state = serializers.ChoiceField(choices=SubscriptionState.choices)
    reason = serializers.CharField()
    state_at = serializers.DateTimeField()
    current = serializers.BooleanField(help_text="Whether it is its mailbox's current one.")
    ews_url = serializers.CharField()
    created_at = serializers.DateTimeField()


class Alert(serializers.Serializer):
    key = serializers.CharField()
    severity = serializers.CharField()
    code = serializers.CharField()
    facts = serializers.DictField()
    since = serializers.DateTimeField()


class Health(serializers.Serializer):
    status = serializers.ChoiceField(choices=["ok", "fault"])
    checks = serializers.DictField(child=serializers.CharField())
    alerts = Alert(many=True)
    version = serializers.CharField()


class AuditEntry(serializers.Serializer):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    address = serializers.CharField()
    action = serializers.CharField()
    target = serializers.CharField()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)


class AuditQuery(serializers.Serializer):
    search = serializers.CharField(required=False, max_length=200)
    action = serializers.CharField(required=False, max_length=60)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class SubscriptionQuery(serializers.Serializer):
    state = serializers.ChoiceField(choices=SubscriptionState.choices, required=False)
    mail_system = serializers.IntegerField(required=False)


class AdminProblem(serializers.Serializer):
    """RFC 9457."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField(required=False)


class Me(serializers.Serializer):
    owner = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    group = serializers.UUIDField(allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES))
    expires_at = serializers.DateTimeField(allow_null=True)
