"""What concerns all: the CNS' address, its pins, the proxy to it, the secure channel's keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from apps.administrators.scope import may
from apps.audit.service import changes, snapshot
from apps.client_address import client_address
from apps.cns.models import Pin, Site
from apps.cns.site import (
    CnsNotConfigured,
    CnsSite,
    PinRefused,
    add_pin,
    current_site,
    host_of,
    save_proxy,
    site_row,
)
from apps.console.base import audit
from apps.console.chosen import administrator_of, user_of
from apps.console.site import confirm, page, refused, show
from apps.console.stepup import step_up_required, step_up_to_change
from apps.operations import secure_channel
from apps.operations.checks.hosts import advice_for, fetch_certificate
from apps.operations.device_actions import By
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.mail_systems import check_ca_pem
from apps.wire.certificates import Certificate
from apps.wire.errors import WireError

_AUTHS: Final = [
    ("none", "None"),
    ("basic", "User and password (Basic)"),
    ("ntlm", "Windows account (NTLM)"),
    ("negotiate", "Windows account (Negotiate)"),
]


def _site_or_none() -> CnsSite | None:
    try:
        return current_site()
    except CnsNotConfigured:
        return None


def by(request: HttpRequest) -> By:
    """Who does it, for the services that write into the audit log themselves."""
    return By(administrator_of(request).username, str(client_address(request)))


# --- Site URLs --------------------------------------------------------------------------------


class _SiteUrls(forms.Form):
    url = forms.CharField(
        required=False,
        max_length=1000,
        label="Cloud Notification Service URL",
        help_text="Where pushes go: the relay that speaks to Apple and Google, by https://. Empty: "
        "as ens.env says.",
        widget=UnfoldAdminTextInputWidget(attrs={"spellcheck": "false"}),
    )
    ca_pem = forms.CharField(
        required=False,
        max_length=100_000,
        label="CA bundle",
        help_text="Certificates in PEM, if the relay's comes from a CA of your own.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 5, "spellcheck": "false"}),
    )

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        parts = urlsplit(url)
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme == "http":
            raise forms.ValidationError(
                "Plain http:// is not taken here: pushes go by https:// only. Write the address "
                "with https://."
            )
        if url and not (parts.scheme == "https" and host_of(url) and plain):
            raise forms.ValidationError(
                "An address is needed such as https://cns.example.com, without a user name, ? or #."
            )
        return url

    def clean_ca_pem(self) -> str:
        pem = str(self.cleaned_data["ca_pem"]).strip()
        try:
            if pem:
                check_ca_pem(pem)
        except ValueError:
            raise forms.ValidationError("No certificates in PEM.") from None
        return pem


@page("site-urls/", name="site_urls", permission="console.read")
@step_up_to_change
def site_urls(request: HttpRequest) -> HttpResponse:
    """The addresses of this installation: its own, and its CNS'."""
    row = site_row()
    permitted = may(user_of(request), "system.change", None)
    form = _SiteUrls(request.POST or None, initial={"url": row.url, "ca_pem": row.ca_pem})
    if request.method == "POST":
        if not permitted:
            return refused(request)
        if form.is_valid():
            row.url, row.ca_pem = form.cleaned_data["url"], form.cleaned_data["ca_pem"]
            _save(request, row, "site_urls.change")
            return redirect("console:site_urls")
    context = {
        "form": form,
        "permitted": permitted,
        "link_address": settings.ENS.link_address,
        "in_force": _site_or_none(),
    }
    return show(request, "console/site_urls.html", "Site URLs", context)


def _save(request: HttpRequest, row: Site, action: str) -> None:
    with transaction.atomic():
        old = Site.objects.filter(pk=row.pk).first()
        row.save()
        before, after = changes(snapshot(old) if old else None, snapshot(row))
        audit(request, action, row, None, before, after)
    messages.success(request, "Saved. All servers follow within five seconds.")


# --- CNS proxy --------------------------------------------------------------------------------


def _target(asked: Mapping[str, Any]) -> tuple[str | None, Any]:
    """To whom a proxy's password is told, and how."""
    return urlsplit(asked.get("url") or "").hostname, asked.get("auth")


class _Proxy(forms.Form):
    url = forms.CharField(
        required=False,
        max_length=300,
        label="Proxy",
        help_text="Such as http://proxy.example.com:8080. Empty: none.",
        widget=UnfoldAdminTextInputWidget(attrs={"spellcheck": "false"}),
    )
    auth = forms.ChoiceField(choices=_AUTHS, label="Login", widget=UnfoldAdminSelectWidget)
    user = forms.CharField(
        required=False,
        max_length=200,
        label="User",
        help_text="Empty, with a Windows account: the account of the service itself.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )
    password = forms.CharField(
        required=False,
        max_length=200,
        strip=False,
        label="Password",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip().rstrip("/")
        try:
            parts = urlsplit(url)
            good = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
            good = good and not (parts.username or parts.path or parts.query)
        except ValueError:
            good = False
        if url and not good:
            raise forms.ValidationError("An address such as http://proxy.example.com:8080.")
        return url

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if found.get("url") and found.get("auth") == "basic" and not found.get("user"):
            self.add_error("user", "Basic needs a user.")
        # Else the stored password could be had by naming a proxy of one's own.
        untyped = bool(found.get("user")) and not found.get("password")
        stored = untyped and found["user"] == self.initial.get("user")
        if found.get("url") and stored and _target(found) != _target(self.initial):
            self.add_error("password", "Type it once more: it is for another proxy or login.")
        return found


@page("cns-proxy/", name="cns_proxy", permission="system.change")
@step_up_required
def cns_proxy(request: HttpRequest) -> HttpResponse:
    """The HTTP proxy on the way to the CNS."""
    site = _site_or_none()
    proxy = site.proxy if site else None
    initial = {"auth": "none"}
    if proxy is not None:
        url = f"http://{proxy.host}:{proxy.port}"
        initial = {"url": url, "auth": proxy.auth, "user": proxy.user}
    form = _Proxy(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        asked = form.cleaned_data
        row = site_row()
        same_user = proxy is not None and asked["user"] == proxy.user
        # An empty password with the same user: it was not typed anew.
        keep = same_user and not asked["password"] and row.sealed_proxy_login is not None
        save_proxy(
            row, asked["url"], asked["auth"], None if keep else (asked["user"], asked["password"])
        )
        _save(request, row, "cns_proxy.change")
        return redirect("console:cns_proxy")
    context = {
        "form": form,
        "words": "Only calls to the Cloud Notification Service go through it. Proxies in the "
        "environment of the servers are never used.",
        "button": "Save",
        "back": reverse("console:index"),
    }
    return show(request, "console/form.html", "CNS proxy", context)


# --- SSL pinning ------------------------------------------------------------------------------


class _NewPin(forms.Form):
    host = forms.CharField(
        max_length=253,
        label="Host",
        widget=UnfoldAdminTextInputWidget(attrs={"spellcheck": "false"}),
    )
    certificate = forms.CharField(
        max_length=100_000,
        label="Certificate in PEM",
        help_text="The host's own certificate, not its CA's.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6, "spellcheck": "false"}),
    )


@page("ssl-pinning/", name="ssl_pinning", permission="system.change")
@step_up_to_change
def ssl_pinning(request: HttpRequest) -> HttpResponse:
    """Pinned certificates: the current one, and the next before it is put in place."""
    site = _site_or_none()
    form, shown = _NewPin(initial={"host": host_of(site.url) if site else ""}), None
    if request.method == "POST" and "fetch" in request.POST:
        form, shown = _fetched(request.POST.get("host", ""))
    elif request.method == "POST":
        form = _NewPin(request.POST)
    if "fetch" not in request.POST and form.is_bound and form.is_valid():
        try:
            with transaction.atomic():
                pin = add_pin(form.cleaned_data["host"], form.cleaned_data["certificate"])
                audit(request, "pin.add", pin.host, None, None, {"spki": pin.spki})
        except PinRefused as error:
            form.add_error("certificate", f"Not possible: {error}.")
        else:
            messages.success(request, f"Pinned for {pin.host}.")
            return redirect("console:ssl_pinning")
    context = {
        "form": form,
        "shown": shown,
        "pins": Pin.objects.order_by("host", "expires_at"),
        "env_pins": settings.ENS.cns_pins,
        "host": host_of(site.url) if site else "",
    }
    return show(request, "console/ssl_pinning.html", "SSL pinning", context)


def _fetched(host: str) -> tuple[_NewPin, Certificate | None]:
    """The form filled in with the certificate that a host shows, to be looked at and then sent."""
    try:
        # As the CNS itself, which may stand in the company's own network.
        leaf = fetch_certificate(host.strip(), allow_private=True).chain[0]
    except EwsUrlRefused:
        form = _NewPin({"host": host, "certificate": "-"})
        form.add_error("host", "No host name.")
    except WireError as error:
        form = _NewPin({"host": host, "certificate": "-"})
        form.add_error("host", advice_for(error))
    else:
        name = host_of(f"https://{host.strip()}")
        return _NewPin(initial={"host": name, "certificate": leaf.pem}), leaf
    form.errors.pop("certificate", None)
    form.data = {"host": host}
    return form, None


@page("ssl-pinning/<int:pin_id>/remove/", name="ssl_pinning_remove", permission="system.change")
@step_up_required
def unpin(request: HttpRequest, pin_id: int) -> HttpResponse:
    """Take a pin away; with the last one of a host, any trusted certificate will do there."""
    pin = Pin.objects.filter(pk=pin_id).first()
    if pin is None:
        raise Http404
    if request.method == "POST":
        with transaction.atomic():
            audit(request, "pin.remove", pin.host, None, {"spki": pin.spki}, None)
            pin.delete()
        messages.success(request, "The pin is gone.")
        return redirect("console:ssl_pinning")
    question = (
        f"{pin.subject}, {pin.spki}. If it is the last pin of {pin.host}, any trusted "
        "certificate will do there."
    )
    back = reverse("console:ssl_pinning")
    return confirm(request, f"Remove this pin of {pin.host}?", question, back, "Remove pin")


# --- Secure Channel Certificate ---------------------------------------------------------------


@page("secure-channel/", name="secure_channel", permission="system.change")
def channel(request: HttpRequest) -> HttpResponse:
    """Which key signs what is sent to the CNS, the next one, and those of before."""
    context = {
        "signing": secure_channel.signing(),
        "keys": secure_channel.listed(),
        "beside": secure_channel.relay_is_beside(),
    }
    return show(request, "console/secure_channel.html", "Secure Channel Certificate", context)


@page("secure-channel/<str:thumbprint>.pem", name="secure_channel_pem", permission="system.change")
def channel_certificate(request: HttpRequest, thumbprint: str) -> HttpResponse:
    """A certificate to hand to the operator of a relay elsewhere. It is no secret."""
    now = secure_channel.signing()
    found = {row.thumbprint: row.certificate for row in secure_channel.listed()}
    if now is not None:
        found.setdefault(now.thumbprint, now.certificate)
    if thumbprint not in found:
        raise Http404
    audit(request, "secure_channel.download", thumbprint, None)
    answer = HttpResponse(found[thumbprint], content_type="application/x-pem-file")
    name = f"secure-channel-{thumbprint[:8]}.pem"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


class _Label(forms.Form):
    label = forms.CharField(
        max_length=64,
        label="Label",
        help_text="Letters, digits, spaces and . ( ) -, such as “ENS 2027”.",
        widget=UnfoldAdminTextInputWidget,
    )


@page("secure-channel/create/", name="secure_channel_create", permission="system.change")
@step_up_required
def channel_create(request: HttpRequest) -> HttpResponse:
    """Make the next key."""
    form = _Label(request.POST or None)
    if request.method == "POST" and form.is_valid():
        label = form.cleaned_data["label"]
        return _channel_act(
            request,
            lambda: secure_channel.create_next(label, by(request)),
            "The next key is made.",
        )
    context = {
        "form": form,
        "words": "A key and its certificate. It signs nothing until you roll to it, and the relay "
        "has to know its certificate before.",
        "button": "Create",
        "back": reverse("console:secure_channel"),
    }
    return show(request, "console/form.html", "Create the next certificate", context)


@page(
    "secure-channel/<str:thumbprint>/roll/",
    name="secure_channel_roll",
    permission="system.change",
)
@step_up_required
def channel_roll(request: HttpRequest, thumbprint: str) -> HttpResponse:
    """Let the next key sign, if the relay takes its calls."""
    if request.method == "POST":
        return _channel_act(
            request,
            lambda: secure_channel.roll(thumbprint, by(request)),
            "The next key signs from now on, on all servers within five seconds.",
        )
    question = (
        "The relay is asked first whether it takes calls signed with this key. If it "
        "does, everything is signed with it from then on; the one before stays good until you "
        "revoke it."
    )
    back = reverse("console:secure_channel")
    return confirm(request, "Roll to the next certificate?", question, back, "Roll")


@page(
    "secure-channel/<str:thumbprint>/revoke/",
    name="secure_channel_revoke",
    permission="system.change",
)
@step_up_required
def channel_revoke(request: HttpRequest, thumbprint: str) -> HttpResponse:
    """Give a key up."""
    if request.method == "POST":
        return _channel_act(
            request,
            lambda: secure_channel.revoke(thumbprint, by(request)),
            "The key is revoked. A relay elsewhere must be told by its operator.",
        )
    question = (
        "Nothing signed with it is taken any more. A server that was installed from a "
        "config.xml with this key can no longer push."
    )
    back = reverse("console:secure_channel")
    return confirm(request, "Revoke this certificate?", question, back, "Revoke")


def _channel_act(request: HttpRequest, act: Callable[[], object], done: str) -> HttpResponse:
    try:
        act()
    except (secure_channel.KeyRefused, CnsNotConfigured) as error:
        messages.error(request, f"Not possible: {error}.")
    else:
        messages.success(request, done)
    return redirect("console:secure_channel")
