"""Mail systems: which mail servers the phones of a group may use, and how they are reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from apps.administrators.scope import may
from apps.console.base import ConsoleAdmin
from apps.console.chosen import chosen_og, user_of
from apps.console.site import site
from apps.console.stepup import ask, stepped_up
from apps.devices.models import Mailbox
from apps.subscriptions.way import proxy_user, seal_proxy_login
from apps.tenants import ways
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.mail_systems import check_ca_pem, checked, checked_domains
from apps.tenants.models import MailSystem, OrganizationGroup

_T = TypeVar("_T")

_REFUSALS: Final = {
    "ews_url_malformed": "This is no host name (and no https address) that ENS would call.",
    "ews_url_not_listed": "The host of the default address is not among the hosts above.",
    "ews_url_address_refused": "This address is loopback, link-local or reserved: never called.",
}
_AUTHS: Final = [
    ("none", "None"),
    ("basic", "User and password (Basic)"),
    ("ntlm", "Windows account (NTLM)"),
    ("negotiate", "Windows account (Negotiate)"),
]
_LOGIN: Final = ("proxy_auth", "proxy_user", "proxy_password")
_PROXY: Final = ("proxy_url", *_LOGIN)
# What leads credentials another way, or lets in whom something kept out.
_STEP_UP: Final = frozenset(
    {*_PROXY, "tls_floor", "gateway", "gateway_headers", "gateway_refusals"}
)
_FOR_LISTED_HOSTS: Final = (
    "Private addresses, or a proxy, are permitted for the hosts that are listed: only a system "
    "administrator may add another."
)


def _checked(check: Callable[[Any], _T], value: Any) -> _T:
    try:
        return check(value)
    except ways.WayRefused as refused:
        raise forms.ValidationError(str(refused)) from None


class _Lines(forms.CharField):
    """A JSON list, a line each."""

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))


class _Statuses(forms.CharField):
    """A JSON list of numbers, by commas."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        parts = [part.strip() for part in str(value or "").split(",") if part.strip()]
        if not all(part.isascii() and part.isdigit() and len(part) == 3 for part in parts):
            raise forms.ValidationError("Numbers such as 403, 449.")
        return [int(part) for part in parts]

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or []))
        except forms.ValidationError:
            return True


class MailSystemForm(forms.ModelForm):
    """Checked like the command `ens_mail_system` checks it."""

    # The page makes a class of its own for each request.
    og: OrganizationGroup | None = None
    may_go_private = False

    hosts = _Lines(
        label="Hosts",
        max_length=10_000,
        help_text="One a line, as host or host:port. ENS calls no others.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}),
    )
    smtp_domains = _Lines(
        required=False,
        label="Mail domains",
        max_length=20_000,
        help_text="One a line: what stands behind the @ of the addresses here. By them the mail "
        "system of a phone is found that brings no EWS address.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
    )

    proxy_user = forms.CharField(
        required=False,
        max_length=200,
        label="User",
        help_text="Empty, with a Windows account: the account of the service itself.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )
    proxy_password = forms.CharField(
        required=False,
        max_length=200,
        strip=False,
        label="Password",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )
    proxy_auth = forms.ChoiceField(
        required=False, choices=_AUTHS, label="Login", widget=UnfoldAdminSelectWidget
    )
    gateway_headers = _Lines(
        required=False,
        label="Headers",
        max_length=5_000,
        help_text="One a line: how the gateway knows a device. In braces stand "
        f"{', '.join(ways.IDENTITY)}. Empty: {ways.DEFAULT_HEADERS[0]}",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
    )
    gateway_refusals = _Statuses(
        required=False,
        label="Refusals",
        max_length=100,
        help_text="HTTP statuses with which the gateway refuses a device, by commas. Empty: "
        f"{ways.DEFAULT_REFUSALS[0]}",
        widget=UnfoldAdminTextInputWidget(),
    )

    class Meta:
        model = MailSystem
        fields = (
            *("name", "hosts", "default_ews_url", "ca_pem", "allow_private"),
            *("smtp_domains", "autodiscover"),
            *("proxy_url", "proxy_auth", "tls_floor"),
            *("gateway", "gateway_headers", "gateway_refusals"),
        )
        labels: ClassVar = {
            "default_ews_url": "Default EWS address",
            "ca_pem": "CA bundle",
            "allow_private": "Private addresses",
            "autodiscover": "Ask Autodiscover",
            "proxy_url": "Proxy",
            "tls_floor": "Oldest TLS",
            "gateway": "Gateway",
        }
        help_texts: ClassVar = {
            "default_ews_url": "For phones that don't know theirs, such as "
            "https://mail.example.com/EWS/Exchange.asmx",
            "ca_pem": "Certificates of your own CA in PEM, if the servers' come from none that "
            "the operating system trusts.",
            "allow_private": "The hosts may have addresses such as 10.x or 192.168.x. Only a "
            "system administrator may permit it.",
            "autodiscover": "Where the phone brings no EWS address and there is no default one. It "
            "is only asked at, and believed about, the hosts above.",
            "proxy_url": "Such as http://proxy.example.com:8080. Empty: none. Only a system "
            "administrator may name one.",
            "tls_floor": "Below TLS 1.2 whoever is on the way may read passwords and mail. Rather "
            "let Exchange speak TLS 1.2: diagnostics name its settings.",
            "gateway": "A Secure Email Gateway stands in front and decides about each device.",
        }

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        taken = MailSystem.objects.filter(og=self.og, name=name)
        if taken.exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("The group has a mail system of this name.")
        return name

    def clean_ca_pem(self) -> str:
        pem = str(self.cleaned_data["ca_pem"]).strip()
        try:
            if pem:
                check_ca_pem(pem)
        except ValueError:
            raise forms.ValidationError("No certificates in PEM.") from None
        return f"{pem}\n" if pem else ""

    def clean_smtp_domains(self) -> list[str]:
        try:
            return checked_domains(self.cleaned_data["smtp_domains"])
        except EwsUrlRefused:
            raise forms.ValidationError("One of these is no domain.") from None

    def clean_proxy_url(self) -> str:
        return _checked(ways.proxy_url, self.cleaned_data["proxy_url"])

    def clean_proxy_auth(self) -> str:
        return str(self.cleaned_data["proxy_auth"] or "none")

    def clean_tls_floor(self) -> str:
        return str(self.cleaned_data["tls_floor"] or MailSystem.TlsFloor.TLS_1_2)

    def clean_gateway_headers(self) -> list[str]:
        return _checked(ways.header_lines, self.cleaned_data["gateway_headers"])

    def clean_gateway_refusals(self) -> list[int]:
        return _checked(ways.refusals, self.cleaned_data["gateway_refusals"])

    def _clean_proxy(self, found: dict[str, Any]) -> None:
        if not found.get("proxy_url"):
            return
        if found.get("proxy_auth") == "basic" and not found.get("proxy_user"):
            self.add_error("proxy_user", "Basic needs a user.")
        # Else the stored password could be had by naming a proxy of one's own.
        untyped = bool(found.get("proxy_user")) and not found.get("proxy_password")
        stored = untyped and found["proxy_user"] == self.initial.get("proxy_user")
        same = all(found.get(one) == self.initial.get(one) for one in ("proxy_url", "proxy_auth"))
        if stored and not same:
            self.add_error("proxy_password", "Type it once more: it is for another proxy or login.")

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        self._clean_proxy(found)
        if "hosts" not in found or "default_ews_url" not in found:
            return found
        try:
            found["hosts"], found["default_ews_url"] = checked(
                found["hosts"], found["default_ews_url"].strip()
            )
        except EwsUrlRefused as refused:
            listed = refused.code != "ews_url_not_listed"
            field = "default_ews_url" if not listed or self._hosts_are_good(found) else "hosts"
            self.add_error(field, _REFUSALS.get(refused.code, "ENS would not call this."))
            return found
        # The leave to call private addresses was given for these hosts, not for any. And a proxy
        # may know names from inside that can't be looked up here, so nothing judges them.
        inside = self.instance.allow_private or self.instance.proxy_url
        bound = inside and not self.may_go_private
        if bound and set(found["hosts"]) - set(self.initial.get("hosts") or ()):
            self.add_error("hosts", _FOR_LISTED_HOSTS)
        return found

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "proxy_user" in self.fields:
            self.initial["proxy_user"] = proxy_user(self.instance)

    @staticmethod
    def _hosts_are_good(found: dict[str, Any]) -> bool:
        try:
            checked(found["hosts"], "")
        except EwsUrlRefused:
            return False
        return True


@admin.register(MailSystem, site=site)
class MailSystemAdmin(ConsoleAdmin):
    """The mail systems of the chosen group and below."""

    audit_name = "mail_system"
    form = MailSystemForm
    list_display = ("name", "og", "listed", "default_ews_url", "private")
    search_fields = ("name", "default_ews_url")
    ordering = ("name",)
    list_select_related = ("og",)
    actions = None
    fieldsets = (
        (
            None,
            {"fields": ("name", "hosts", "default_ews_url", "ca_pem", "allow_private")},
        ),
        (
            "Autodiscover",
            {
                "fields": ("smtp_domains", "autodiscover"),
                "description": "How the EWS address is found for phones that bring none.",
            },
        ),
        (
            "Way to Exchange",
            {
                "fields": ("tls_floor", *_PROXY),
                "description": "Proxies in the environment of the servers are never used.",
            },
        ),
        (
            "Gateway",
            {
                "fields": ("gateway", "gateway_headers", "gateway_refusals"),
                "description": "Each device is shown to the gateway when it brings its "
                "credentials. One that it refuses is told nothing until the gateway lets it pass.",
            },
        ),
    )

    @display(description="Hosts")
    def listed(self, obj: MailSystem) -> str:
        return ", ".join(obj.hosts[:3]) + (" …" if len(obj.hosts) > 3 else "")

    @display(description="Private addresses", boolean=True)
    def private(self, obj: MailSystem) -> bool:
        return bool(obj.allow_private)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What may lead into private networks is a system administrator's word only."""
        permitted = may(user_of(request), "system.change", None)
        return () if permitted else ("allow_private", "proxy_url")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Of the proxy's login only system administrators see anything."""
        if may(user_of(request), "system.change", None):
            return self.fieldsets
        return tuple(
            (title, {**options, "fields": [one for one in options["fields"] if one not in _LOGIN]})
            for title, options in self.fieldsets
        )

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Django's page; what loosens the way to Exchange is saved only after a step-up."""
        if (
            request.method == "POST"
            and not stepped_up(request)
            and self._loosens(request, object_id)
        ):
            return ask(request)
        return super().changeform_view(request, object_id, *args, **kwargs)

    def _loosens(self, request: HttpRequest, object_id: str | None) -> bool:
        obj = self.get_object(request, object_id) if object_id else None
        form = self.get_form(request, obj, change=obj is not None)(request.POST, instance=obj)
        return bool(_STEP_UP & set(form.changed_data))

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """A new one belongs to the chosen group, and no other there has its name."""
        form = super().get_form(request, obj, **kwargs)
        form.og = obj.og if obj is not None else chosen_og(request)
        form.may_go_private = may(user_of(request), "system.change", None)
        if not form.may_go_private:
            # What a form declares is in it, whatever the fieldsets leave out.
            for name in _PROXY:
                form.base_fields.pop(name, None)
        return form

    def store(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        widened = obj.allow_private and "allow_private" in form.changed_data
        if widened and not may(user_of(request), "system.change", None):
            raise PermissionDenied
        obj.save()
        self._store_login(obj, form)

    @staticmethod
    def _store_login(obj: Any, form: Any) -> None:
        """Seal the proxy's login under the row's key, unless it stays as it is."""
        asked = form.cleaned_data
        if not {"proxy_user", "proxy_password"} & set(form.changed_data):
            return
        user, password = asked.get("proxy_user", ""), asked.get("proxy_password", "")
        if user and not password and user == form.initial.get("proxy_user"):
            return
        seal_proxy_login(obj, user, password)
        obj.save(update_fields=["sealed_proxy_login"])

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's page for it, but only where no mailbox hangs on it."""
        obj = self.get_object(request, object_id)
        if obj is not None and Mailbox.objects.filter(mail_system=obj).exists():
            messages.error(
                request,
                "It has mailboxes. Take its hosts off the list to stop calling it, or forget "
                "its people first.",
            )
            return redirect("console:tenants_mailsystem_change", object_id)
        answer: HttpResponse = super().delete_view(request, object_id, extra_context)
        return answer

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Nothing else goes with it: see delete_view."""
        return [str(obj) for obj in objs], {}, set(), []
