"""`GET metrics`: the deployment's counters and gauges for Prometheus, whichever process is asked.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from apps.alerts.models import Alert
from apps.devices.models import Device
from apps.eventlog.factory import get_log
from apps.history import counters, names
from apps.subscriptions.entries import JOIN, MAIL
from apps.subscriptions.models import Subscription

# Name of the counter: what it counts, and what its label is called.
_COUNTERS: Final = {
    names.RECEIVED: ("Notifications from Exchange", ""),
    names.APPENDED: ("Notifications whose events went to the log", ""),
    names.LOG_UNAVAILABLE: ("Notifications that the log could not take", ""),
    names.DRAIN_RUNS: ("Drains begun", ""),
    names.FETCH_ERRORS: ("Fetches that Exchange did not answer as hoped", "code"),
    names.CREDENTIALS_REFUSED: ("Credentials that Exchange refused", ""),
    names.GATEWAY_REFUSED: ("Phones that the mail gateway began to refuse", ""),
    names.BURIED: ("Entries given up", ""),
    names.ANNOUNCED: ("Announcements accepted by the push service", ""),
    names.HUSHED: ("Mails that were not to ring on a phone", ""),
    names.BADGE_CORRECTIONS: ("Badge corrections accepted by the push service", ""),
    names.PUSHES: ("Pushes", "result"),
    names.RELAY_CALLS: ("Calls to the relay", "result"),
    names.JOINS: ("Joins that ended", "outcome"),
    names.PROOF_FAILURES: ("Proofs with credentials of another mailbox", ""),
    names.WAKE_UPS: ("Wake-ups", "result"),
}


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The numbers as text; 404 without a token in the settings, 401 with a wrong one."""
    token = settings.ENS.metrics_token
    if token is None:
        return HttpResponse("not found", status=404, content_type="text/plain")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    wanted = token.get_secret_value().encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), wanted):
        refusal = HttpResponse("unauthorized", status=401, content_type="text/plain")
        refusal["WWW-Authenticate"] = "Bearer"
        return refusal
    registry = CollectorRegistry()
    registry.register(_Numbers())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Numbers(Collector):
    def describe(self) -> Iterable[Metric]:
        return []  # or else registering would already ask the database

    def collect(self) -> Iterable[Metric]:
        totals = counters.totals()
        for name, (text, label) in _COUNTERS.items():
            yield _counter(name, text, label, totals)
        yield _latency(totals)
        yield from _gauges()


def _counter(name: str, text: str, label: str, totals: dict[str, int]) -> Metric:
    if not label:
        return CounterMetricFamily(f"ens_{name}", text, value=totals.get(name, 0))
    family = CounterMetricFamily(f"ens_{name}", text, labels=[label])
    for key, n in sorted(totals.items()):
        of, _, value = key.partition(".")
        if of == name and value:
            family.add_metric([value], n)
    return family


def _latency(totals: dict[str, int]) -> Metric:
    """Prometheus' buckets hold what is below, too, and are in seconds."""
    buckets, below = [], 0
    for bound in (*counters.BUCKETS_MS, "inf"):
        below += totals.get(f"{names.LATENCY}.{bound}", 0)
        buckets.append(("+Inf" if bound == "inf" else str(int(bound) / 1000), below))
    return HistogramMetricFamily(
        f"ens_{names.LATENCY}_seconds",
        "From the webhook to the push service's acceptance",
        buckets=buckets,
        sum_value=totals.get(f"{names.LATENCY}.sum", 0) / 1000,
    )


def _gauges() -> Iterable[Metric]:
    depth = GaugeMetricFamily("ens_log_depth", "Entries in the event log", labels=["kind"])
    for kind in (MAIL, JOIN):
        depth.add_metric([kind], get_log().depth(kind))
    yield depth
    for name, model in (("subscriptions", Subscription), ("devices", Device)):
        states = GaugeMetricFamily(f"ens_{name}", f"{name.capitalize()} by state", labels=["state"])
        rows = model.objects.order_by().values_list("state").annotate(n=Count("pk"))
        for state, n in rows:
            states.add_metric([state], n)
        yield states
    alerts = GaugeMetricFamily("ens_alerts", "Alerts that are raised", labels=["code"])
    raised = Alert.objects.filter(raised=True).order_by().values_list("code")
    for code, n in raised.annotate(n=Count("pk")):
        alerts.add_metric([code], n)
    yield alerts
