"""`POST /nws/notify/<platform>`: take a signed batch, push it, answer for each notification.

A caller that accepts NDJSON hears of each notification as soon as the push service has answered:
when this process is killed, only what had no line yet is in doubt. Others get one JSON document.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from logging import getLogger

from django.conf import settings
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from apps import request_id
from apps.relay.batch import PROTOCOL_VERSION, Item, parse_batch
from apps.relay.delivery import deliver
from apps.relay.models import Deployment
from apps.relay.problems import Refused, problem
from apps.relay.providers import ACCEPTED, Outcome
from apps.relay.signature import verify

logger = getLogger(__name__)

# 500 notifications of 4 KB, with room for their other members and escapes.
MAX_BODY_BYTES = 4 * 1024 * 1024
LINES = "application/x-ndjson"


@csrf_exempt
def notify(request: HttpRequest, platform: str) -> HttpResponseBase:
    """Answers 200 with what became of each notification, else a problem document."""
    request_id.work_on([request.headers.get(request_id.HEADER, "") or request_id.current()])
    try:
        deployment, items = _read(request, platform)
    except Refused as refused:
        logger.info("a call was refused: %s %s", refused.code, refused.detail)
        return problem(refused)
    if LINES in request.headers.get("Accept", ""):
        lines = _lines(deployment, platform, items, request_id.current())
        return StreamingHttpResponse(lines, content_type=LINES)
    outcomes = dict(one for batch in deliver(deployment, platform, items) for one in batch)
    logger.info("%s: %d notifications answered", deployment, len(items))
    results = [outcomes[item.id].as_json(item.id) for item in items]
    return JsonResponse({"version": PROTOCOL_VERSION, "results": results})


def _read(request: HttpRequest, platform: str) -> tuple[Deployment, list[Item]]:
    """Who calls, and what for: the cheap questions first, the body only from those we know."""
    if request.method != "POST":
        raise Refused("method_not_allowed")
    if request.content_type != "application/json":
        raise Refused("content_type_refused", "application/json is needed")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise Refused("body_too_large", f"{MAX_BODY_BYTES} bytes at most")
    header = request.headers.get("ENS-Signature")
    audience = settings.ENS.relay_audience or ""
    caller = verify(header, request.method, request.path, audience, time.time())
    body = request.body
    caller.take(body, time.time())
    return caller.deployment, parse_batch(body, platform)


def _lines(
    deployment: Deployment, platform: str, items: Sequence[Item], ids: str
) -> Iterator[bytes]:
    """The answer as lines; without its last one, what has no line has no known outcome."""
    # The web server iterates after the view has returned: its log lines need their ids again.
    request_id.work_on([ids])
    begun, count = _line({"version": PROTOCOL_VERSION}), 0
    for batch in deliver(deployment, platform, items):
        count += len(batch)
        lines = b"".join(_outcome_line(*each) for each in batch)
        yield begun + lines
        begun = b""
    yield begun + _line({"end": True, "count": count})
    logger.info("%s: %d notifications answered", deployment, count)


def _outcome_line(one: str, outcome: Outcome) -> bytes:
    # The same object, mostly, which is quicker told than an equal one.
    if outcome is ACCEPTED or outcome == ACCEPTED:
        # Nearly all are, and an id is a UUID: nothing in it needs an escape.
        return b'{"id":"%b","status":"accepted"}\n' % one.encode("ascii")
    return _line(outcome.as_json(one))


def _line(content: dict[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"
