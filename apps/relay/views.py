"""`POST /nws/notify/apns`: take a signed batch, push it, answer for each notification."""

from __future__ import annotations

import time
from logging import getLogger

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from apps import request_id
from apps.relay.batch import PROTOCOL_VERSION, parse_batch
from apps.relay.delivery import deliver
from apps.relay.problems import Refused, problem
from apps.relay.signature import Call, verify

logger = getLogger(__name__)

# 500 notifications of 4 KB, with room for their other members and escapes.
MAX_BODY_BYTES = 4 * 1024 * 1024


@csrf_exempt
def notify_apns(request: HttpRequest) -> HttpResponse:
    """Answers 200 with `{"version", "results"}` once APNs has answered each, else a problem."""
    request_id.work_on([request.headers.get(request_id.HEADER, "") or request_id.current()])
    try:
        body = _body(request)
        call = Call(request.method or "", request.path, body)
        audience = settings.ENS.relay_audience or ""
        header = request.headers.get("ENS-Signature")
        deployment = verify(header, call, audience, time.time())
        items = parse_batch(body)
    except Refused as refused:
        logger.info("a call was refused: %s", refused.code)
        return problem(refused)
    outcomes = {name: o for some in deliver(deployment, "apns", items) for name, o in some}
    logger.info("%s: %d notifications answered", deployment, len(items))
    results = [outcomes[item.id].as_json(item.id) for item in items]
    return JsonResponse({"version": PROTOCOL_VERSION, "results": results})


def _body(request: HttpRequest) -> bytes:
    """The body, read only once its announced length is known to be bearable."""
    if request.method != "POST":
        raise Refused("method_not_allowed")
    if request.content_type != "application/json":
        raise Refused("content_type_refused", "application/json is needed")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise Refused("body_too_large", f"{MAX_BODY_BYTES} bytes at most")
    return request.body
