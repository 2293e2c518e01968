"""What the dashboard shows: what needs attention, how it is going, and what is left to set up.

Figures of phones and subscriptions are of the chosen group and those below. What is counted for the
whole deployment (announcements, latency, pushes, alerts, certificates) is shown to those only who
see all of it: counters know no groups, and one company must not see how much mail another gets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from apps.administrators.scope import may, may_somewhere, permitted_paths
from apps.alerts.models import Alert
from apps.cns.models import Pin
from apps.cns.site import CnsNotConfigured, current_site
from apps.console import words
from apps.console.chosen import chosen_og, of_chosen, user_of
from apps.devices.models import Device, DeviceState
from apps.history import counters, names
from apps.history.models import MinuteCount
from apps.operations import secure_channel
from apps.subscriptions.models import Subscription, SubscriptionState
from apps.tenants.models import ApiToken, MailSystem, OrganizationGroup

# What the charts go back.
SPAN: Final = timedelta(hours=1)
_LATELY: Final = timedelta(minutes=15)
_PIN_DAYS: Final = 30
_CACHE: Final = "_ens_subscriptions_by_state"
_SYSTEMS: Final = 20
_RESULTS: Final = ("accepted", "dead", "retry", "failed")


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that wants a person. `look`: critical or warning."""

    look: str
    text: str
    advice: str
    link: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the first-run guide; `link` is empty for those who may not do it."""

    text: str
    help: str
    done: bool
    link: str = ""


def sees_all(request: HttpRequest) -> bool:
    """Whether somebody may see what concerns all tenants together."""
    return permitted_paths(user_of(request), "console.read") is None


def attention(request: HttpRequest) -> list[Attention]:
    """What wants a person, the worst first."""
    og = chosen_og(request)
    found = list(_of_group(request, og)) if og is not None else []
    if sees_all(request):
        found += [*_raised(), *_pins()]
    return sorted(found, key=lambda one: one.look != "critical")


def _raised() -> Iterator[Attention]:
    for alert in Alert.objects.filter(raised=True).order_by("-changed_at")[:50]:
        told = words.ALERTS.get(alert.code) or words.Words(alert.code.replace("_", " "))
        facts = json.loads(alert.facts)
        numbers = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
        text = f"{told.meaning} ({numbers})" if numbers else told.meaning
        link = _link(_ALERT_PAGES.get(alert.code, "diagnostics"))
        yield Attention(alert.severity, text, told.advice, link, alert.changed_at)


_ALERT_PAGES: Final = {
    "push_app_expires": "push_apps",
    "push_app_refused": "push_apps",
    "channel_certificate_expires": "secure_channel",
    "proof_failures": "tenants_apitoken_changelist",
    "phones_do_not_answer": "devices_device_changelist",
}


def _pins() -> Iterator[Attention]:
    soon = timezone.now() + timedelta(days=_PIN_DAYS)
    for pin in Pin.objects.filter(expires_at__lt=soon).order_by("expires_at")[:10]:
        gone = pin.expires_at <= timezone.now()
        yield Attention(
            "critical" if gone else "warning",
            f"A pinned certificate of {pin.host} {'expired' if gone else 'expires'} "
            f"{words.since(pin.expires_at)}.",
            "Pin the next one before it is put in place, and remove this one.",
            _link("ssl_pinning"),
        )


def _subscriptions(request: HttpRequest) -> list[tuple[int, str, int]]:
    """The group's subscriptions that have not ended: mail system, state, how many. Asked once."""
    carrier: Any = request
    if not hasattr(carrier, _CACHE):
        rows = Subscription.objects.filter(of_chosen(request, "owner__og"))
        rows = rows.exclude(state=SubscriptionState.ENDED).order_by()
        counted = rows.values_list("mailbox__mail_system", "state").annotate(n=Count("pk"))
        setattr(carrier, _CACHE, list(counted))
    found: list[tuple[int, str, int]] = getattr(carrier, _CACHE)
    return found


def subscriptions_by_state(request: HttpRequest) -> Counter[str]:
    """How many of the group's subscriptions are in each state; those that ended are left out."""
    found: Counter[str] = Counter()
    for _, state, n in _subscriptions(request):
        found[state] += n
    return found


def devices_by_state(request: HttpRequest) -> dict[str, int]:
    """How many of the group's devices are in each state."""
    rows = Device.objects.filter(of_chosen(request, "og")).order_by()
    return dict(rows.values_list("state").annotate(n=Count("pk")))


def by_mail_system(request: HttpRequest) -> list[dict[str, Any]]:
    """The group's subscriptions by mail system: how many serve, how many don't; the worst first."""
    good: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for system, state, n in _subscriptions(request):
        served = state in (SubscriptionState.ACTIVE, SubscriptionState.PENDING)
        (good if served else bad)[system] += n
    shown = sorted({*good, *bad}, key=lambda system: (-bad[system], -good[system]))[:_SYSTEMS]
    called = dict(MailSystem.objects.filter(pk__in=shown).values_list("pk", "name"))
    return [
        {"name": called.get(system, "?"), "good": good[system], "bad": bad[system]}
        for system in shown
    ]


def _of_group(request: HttpRequest, og: OrganizationGroup) -> Iterator[Attention]:
    """What the chosen group's own rows tell."""
    table = _link("subscriptions_subscription_changelist")
    states = {
        SubscriptionState.LOST: "Exchange does not report {} any more.",
        SubscriptionState.SUSPECT: "{} can't be read until a phone sends a new password.",
    }
    counted = subscriptions_by_state(request)
    for state, text in states.items():
        if n := counted.get(state, 0):
            boxes = f"{n:,} mailbox{'' if n == 1 else 'es'}"
            meant = words.of_subscription(Subscription(state=state))
            yield Attention(
                "warning",
                text.format(boxes),
                meant.advice or "Their phones are woken and subscribe anew by themselves.",
                f"{table}?state__exact={state.value}",
            )
    soon = timezone.now() + timedelta(days=14)
    tokens = ApiToken.objects.filter(
        og__path__startswith=og.path, revoked_at=None, expires_at__range=(timezone.now(), soon)
    )
    for token in tokens.order_by("expires_at")[:5]:
        yield Attention(
            "warning",
            f"The API token “{token.label}” expires {words.since(token.expires_at)}.",
            "Rotate it, and give the new one to the phones' configuration.",
            reverse("console:tenants_apitoken_change", args=[token.pk]),
        )


def figures(request: HttpRequest) -> dict[str, Any]:
    """What the page shows and then asks for again and again."""
    og = chosen_og(request)
    found: dict[str, Any] = {"numbers": {}, "charts": {}, "systems": []}
    if og is None:
        return found
    devices, subscriptions = devices_by_state(request), subscriptions_by_state(request)
    found["numbers"] = {
        "devices_active": f"{devices.get(DeviceState.ACTIVE, 0):,}",
        "devices": f"{sum(devices.values()):,}",
        "subscriptions_active": f"{subscriptions.get(SubscriptionState.ACTIVE, 0):,}",
        "subscriptions": f"{sum(subscriptions.values()):,}",
    }
    found["systems"] = by_mail_system(request)
    found["charts"]["devices"] = _bars(
        {state.label: devices.get(state, 0) for state in DeviceState}
    )
    found["charts"]["subscriptions"] = _bars(
        {
            state.label: subscriptions.get(state, 0)
            for state in SubscriptionState
            if state != SubscriptionState.ENDED
        }
    )
    if sees_all(request):
        _of_all(found)
    return found


def _of_all(found: dict[str, Any]) -> None:
    """Add what is counted for the whole deployment."""
    now = timezone.now()
    since = now - SPAN
    counted = _minutes(since)
    first, last = int(since.timestamp()) // 60 + 1, int(now.timestamp()) // 60
    # Not the minute that isn't over.
    minutes = range(first, last)
    clocks = [f"{datetime.fromtimestamp(m * 60, UTC):%H:%M}" for m in minutes]
    announced = counted.get(names.ANNOUNCED, {})
    lately = range(last - int(_LATELY.total_seconds()) // 60, last + 1)
    latency = {
        bound: sum(counted.get(f"{names.LATENCY}.{bound}", {}).get(m, 0) for m in lately)
        for bound in (*counters.BUCKETS_MS, "inf")
    }
    pushes = {
        result: sum(counted.get(f"{names.PUSHES}.{result}", {}).get(m, 0) for m in minutes)
        for result in _RESULTS
    }
    found["numbers"] |= {
        "announced": f"{sum(announced.values()):,}",
        "p50": quantile(latency, 0.5),
        "p95": quantile(latency, 0.95),
        "pushes_refused": f"{pushes['dead'] + pushes['retry'] + pushes['failed']:,}",
    }
    found["charts"]["announced"] = {
        "labels": clocks,
        "datasets": [
            {
                "label": "Announcements",
                "data": [announced.get(m, 0) for m in minutes],
                "borderColor": "var(--color-primary-600)",
                "displayYAxis": True,
                "maxTicksXLimit": 7,
            }
        ],
    }
    found["charts"]["pushes"] = _bars({name.capitalize(): n for name, n in pushes.items()})


def _minutes(since: datetime) -> dict[str, dict[int, int]]:
    """The counters that are charted, by name and minute. One query."""
    wanted = Q(name=names.ANNOUNCED)
    for name in (names.LATENCY, names.PUSHES):
        wanted |= Q(name__startswith=f"{name}.")
    rows = MinuteCount.objects.filter(wanted, minute__gt=int(since.timestamp()) // 60)
    found: dict[str, dict[int, int]] = {}
    for name, minute, n in rows.values_list("name", "minute", "n"):
        found.setdefault(name, {})[minute] = n
    return found


def quantile(buckets: dict[Any, int], share: float) -> str:
    """The upper bound below which this share of the durations lies; – where there are none."""
    total, below = sum(buckets.values()), 0
    if not total:
        return "–"
    bound: Any = "inf"
    for bound, n in buckets.items():  # noqa: B007 - the one at which it stops is wanted
        below += n
        if below >= share * total:
            break
    if bound == "inf":
        return f"> {counters.BUCKETS_MS[-1] // 1000} s"
    return f"≤ {bound} ms" if bound < 1000 else f"≤ {bound / 1000:g} s"


def _bars(values: dict[str, int]) -> dict[str, Any]:
    data = {"data": list(values.values()), "backgroundColor": "var(--color-primary-600)"}
    return {
        "labels": [str(name) for name in values],
        "datasets": [data | {"label": "Now", "displayYAxis": True, "maxBarThickness": 28}],
    }


# --- the first-run guide ------------------------------------------------------------------------


def guide(request: HttpRequest) -> list[Step]:
    """What is left to do until the first phone rings; empty once one has."""
    og = chosen_og(request)
    everywhere = sees_all(request)
    if og is not None and _has_rung(og):
        return []
    steps = [
        _step(
            request,
            "Create an organization group",
            "It stands for your company; settings, mail systems and phones hang on it.",
            og is not None,
            "tenants_organizationgroup_add",
            "groups.manage",
        )
    ]
    systems = MailSystem.objects.filter(og__path__in=og.line_paths()) if og else None
    steps.append(
        _step(
            request,
            "Add your mail system",
            "The Exchange servers that phones of this group use.",
            systems is not None and systems.exists(),
            "tenants_mailsystem_add",
            "settings.change",
        )
    )
    if everywhere:
        steps += list(_of_deployment(request))
    steps += _of_phones(request, og)
    return steps


def _has_rung(og: OrganizationGroup) -> bool:
    """Whether a phone of the group is served and something was ever announced."""
    served = Device.objects.filter(og__path__startswith=og.path).exclude(proved_at=None)
    return MinuteCount.objects.filter(name=names.ANNOUNCED).exists() and served.exists()


def _of_deployment(request: HttpRequest) -> Iterator[Step]:
    try:
        url = current_site().url
    except CnsNotConfigured:
        url = ""
    yield _step(
        request,
        "Set the Cloud Notification Service URL",
        "Where pushes go: the relay that speaks to Apple and Google.",
        bool(url),
        "site_urls",
        "system.change",
    )
    yield _step(
        request,
        "Make the Secure Channel Certificate",
        "It signs what is sent to the relay, which must know it.",
        secure_channel.signing() is not None,
        "secure_channel",
        "system.change",
    )
    if secure_channel.relay_is_beside():
        from apps.relay.models import PushApp  # its tables are not everywhere

        yield _step(
            request,
            "Add a push app",
            "Credentials with which the relay reaches your mail app on iOS or Android.",
            PushApp.objects.exists(),
            "push_apps",
            "system.change",
        )


def _of_phones(request: HttpRequest, og: OrganizationGroup | None) -> list[Step]:
    path = og.path if og else "-"
    tokens = ApiToken.objects.filter(og__path__startswith=path, revoked_at=None)
    devices = Device.objects.filter(og__path__startswith=path)
    return [
        _step(
            request,
            "Create an API token",
            "It tells ENS to which group a phone belongs.",
            tokens.exists(),
            "tenants_apitoken_add",
            "tokens.manage",
        ),
        _step(
            request,
            "Give the app configuration to the phones",
            "Type it into your UEM console; this is ticked once a phone has used the token.",
            tokens.exclude(last_used_at=None).exists() or devices.exists(),
            "app_configuration",
        ),
        _step(
            request,
            "The first phone is active",
            "Open the mail app on a phone. If it stays silent, its page tells why.",
            devices.filter(state=DeviceState.ACTIVE).exists(),
            "devices_device_changelist",
        ),
        _step(
            request,
            "The first phone rings",
            "Send a mail to its user.",
            False,
            "devices_device_changelist",
        ),
    ]


def _step(
    request: HttpRequest,
    text: str,
    help_text: str,
    done: bool,
    url_name: str,
    permission: str = "console.read",
) -> Step:
    user = user_of(request)
    wide = permission == "system.change"
    permitted = may(user, permission, None) if wide else may_somewhere(user, permission)
    return Step(text, help_text, done, _link(url_name) if permitted else "")


def _link(url_name: str) -> str:
    """Empty for a page that is not there in this installation."""
    try:
        return reverse(f"console:{url_name}")
    except NoReverseMatch:
        return ""


def context(request: HttpRequest) -> dict[str, Any]:
    """All that the dashboard's template needs."""
    found = figures(request)
    steps: Sequence[Step] = guide(request)
    return {
        "attention": attention(request),
        "figures": found,
        "charts": {name: json.dumps(data) for name, data in found["charts"].items()},
        "guide": steps,
        "guide_done": sum(step.done for step in steps),
        "sees_all": sees_all(request),
        "og": chosen_og(request),
    }
