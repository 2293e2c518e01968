"""What goes on: subscriptions, health, the audit log."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from apps.alerts.models import Alert
from apps.api.admin import schemas
from apps.api.admin.base import AdminView, checked
from apps.api.admin.openapi import operation
from apps.audit import service as audit
from apps.audit.models import AuditEntry
from apps.operations import ready
from apps.subscriptions.models import Subscription


class Subscriptions(AdminView):
    """Subscriptions that belong to devices which the token sees, by id; all, if it sees all."""

    permissions = {"GET": "console.read"}

    @operation(
        "subscriptions_list",
        schemas.paged(schemas.Subscription),
        pages=True,
        query=schemas.SubscriptionQuery,
    )
    def get(self, request: Request) -> Response:
        asked = checked(schemas.SubscriptionQuery, request.query_params.dict())
        rows = self.within(
            Subscription.objects.select_related("mailbox", "owner__og"), "owner__og__path"
        )
        if "state" in asked:
            rows = rows.filter(state=asked["state"])
        if "mail_system" in asked:
            rows = rows.filter(mailbox__mail_system=asked["mail_system"])
        return self.page(rows, _subscription)


class Health(AdminView):
    """Whether the deployment works, and the alerts that are raised."""

    permissions = {"GET": "console.read"}

    @operation("health", schemas.Health)
    def get(self, request: Request) -> Response:
        found = ready.checks()
        good = all(code == "ok" for code in found.values())
        # Alerts are about the whole deployment; their facts are numbers only.
        alerts = [_alert(row) for row in Alert.objects.filter(raised=True).order_by("key")]
        return Response(
            {
                "status": "ok" if good else "fault",
                "checks": found,
                "alerts": alerts if self.paths is None else [],
                "version": settings.ENS_VERSION,
            }
        )


class Audit(AdminView):
    """The audit log, the newest first."""

    permissions = {"GET": "audit.read"}

    @operation(
        "audit_list", schemas.paged(schemas.AuditEntry), pages=True, query=schemas.AuditQuery
    )
    def get(self, request: Request) -> Response:
        asked = checked(schemas.AuditQuery, request.query_params.dict())
        rows = audit.visible(self.paths)
        if "search" in asked:
            rows = audit.search(rows, asked["search"])
        if "action" in asked:
            rows = rows.filter(action=asked["action"])
        if "since" in asked:
            rows = rows.filter(at__gte=asked["since"])
        if "until" in asked:
            rows = rows.filter(at__lt=asked["until"])
        return self.page(rows, _entry, newest_first=True)


def _subscription(row: Subscription) -> dict[str, Any]:
    return {
        "id": row.id,
        "group": row.owner.og.guid if row.owner else None,
        "mail_system": row.mailbox.mail_system_id,
        "device": row.owner_id,
        "state": row.state,
        "reason": row.reason,
        "state_at": row.state_at,
        "current": row.mailbox.current_subscription == row.id,
        "ews_url": row.ews_url,
        "created_at": row.created_at,
    }


def _alert(row: Alert) -> dict[str, Any]:
    return {
        "key": row.key,
        "severity": row.severity,
        "code": row.code,
        "facts": json.loads(row.facts),
        "since": row.changed_at,
    }


def _entry(row: AuditEntry) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": row.at,
        "actor": row.actor,
        "address": row.address,
        "action": row.action,
        "target": row.target,
        "before": row.before,
        "after": row.after,
    }
