"""The webhook that Exchange calls: check, parse, append, answer. Nothing here waits for anything
but the event log, and nothing here is opened or fetched.

https://learn.microsoft.com/exchange/client-developer/exchange-web-services/notification-subscriptions-mailbox-events-and-ews-in-exchange
"""

from __future__ import annotations

import logging
import re
from typing import Final
from uuid import UUID

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from apps import request_id
from apps.eventlog.factory import get_log
from apps.eventlog.interface import LogUnavailable, NewEntry
from apps.exchange.ews.notification import (
    NotANotification,
    Notification,
    notification_result,
    parse_notification,
)
from apps.history import counters, names
from apps.subscriptions import identity, webhook_url
from apps.subscriptions.entries import MAIL, MailWork, fingerprint
from apps.subscriptions.poke import wake_drain
from apps.vault.lookup import lookup_hmac

log = logging.getLogger(__name__)

# Exchange's largest notifications, of some hundred events, stay well below this.
MAX_BODY: Final = 256 * 1024
_SOAP: Final = "text/xml; charset=utf-8"
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{1,2082}")
_RETRY_AFTER_S: Final = "30"


@csrf_exempt
def notify(request: HttpRequest) -> HttpResponse:
    """Take one notification.

    404 for a URL we did not make; 405, 413, 415 and 400 for what is no notification; 503 when the
    log can't take it, so that Exchange comes again; else a SendNotificationResult.
    """
    subscription_id = webhook_url.check(request.GET.get("id", ""))
    creds = request.GET.get("creds", "")
    if subscription_id is None or not _BASE64URL.fullmatch(creds):
        return _refusal(404, "not found")
    if request.method != "POST":
        return _refusal(405, "POST only")
    if request.content_type not in ("text/xml", "application/soap+xml"):
        return _refusal(415, "text/xml only")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
        return _refusal(413, "too large")
    body = request.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        return _refusal(413, "too large")
    try:
        notification = parse_notification(body)
    except NotANotification:
        return _refusal(400, "not a SendNotification")

    counters.count(names.RECEIVED)
    try:
        return _take(subscription_id, creds, notification)
    except (LogUnavailable, DatabaseError):
        counters.count(names.LOG_UNAVAILABLE)
        unavailable = _refusal(503, "try again")
        unavailable["Retry-After"] = _RETRY_AFTER_S
        return unavailable


def _take(subscription_id: UUID, creds: str, notification: Notification) -> HttpResponse:
    foreign = identity.foreign_hmac(subscription_id)
    named = _named(notification)
    if foreign is None or (foreign and named and foreign != named):
        # Over for us, or a second subscription that Exchange made for a Subscribe whose answer
        # never reached us: either way it is not wanted.
        return _result("Unsubscribe")
    name = webhook_url.name_of(subscription_id)
    # A heartbeat needs no entry, unless something waits for credentials to be told with.
    if not foreign or not _only_alive(notification) or get_log().has_dead_letters(name):
        work = MailWork(
            creds=creds,
            events=notification.events,
            foreign_hmac="" if foreign else named,
            error_code=notification.error_code or "",
            previous=fingerprint(notification.previous_watermark),
            last=_last_watermark(notification),
            request_id=request_id.current(),
        )
        wanted = get_log().append(NewEntry(kind=MAIL, partition=name, payload=work.to_bytes()))
        counters.count(names.APPENDED)
        log.info("subscription %s: %d events", subscription_id, len(work.events))
        wake_drain()
        mark = ""
    else:
        # A heartbeat is no entry, but it moves the watermark all the same.
        wanted, mark = True, _last_watermark(notification)
    if not notification.error_code:
        # A catch-up begins at the last sign: none before the events are in the log, and none
        # where Exchange says that it lost some.
        wanted = get_log().sign_of_life(name, mark) and wanted
    return _result("OK" if wanted else "Unsubscribe")


def _named(notification: Notification) -> str:
    """Exchange's SubscriptionId as an HMAC; empty where an error message names none."""
    if not notification.subscription_id:
        return ""
    return lookup_hmac("ews-subscription", notification.subscription_id)


def _last_watermark(notification: Notification) -> str:
    marks = [event.watermark for event in notification.events if event.watermark]
    return fingerprint(marks[-1]) if marks else ""


def _only_alive(notification: Notification) -> bool:
    return not notification.error_code and all(
        event.kind == "Status" for event in notification.events
    )


def _result(status: str) -> HttpResponse:
    answer = notification_result("OK" if status == "OK" else "Unsubscribe")
    return HttpResponse(answer, content_type=_SOAP)


def _refusal(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
