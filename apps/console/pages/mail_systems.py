"""Mail systems: which mail servers the phones of a group may use, and how they are reached."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from apps.administrators.scope import may
from apps.console.base import ConsoleAdmin
from apps.console.chosen import chosen_og, user_of
from apps.console.site import site
from apps.devices.models import Mailbox
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.mail_systems import check_ca_pem, checked, checked_domains
from apps.tenants.models import MailSystem, OrganizationGroup

_REFUSALS: Final = {
    "ews_url_malformed": "This is no host name (and no https address) that ENS would call.",
    "ews_url_not_listed": "The host of the default address is not among the hosts above.",
    "ews_url_address_refused": "This address is loopback, link-local or reserved: never called.",
}
_FOR_LISTED_HOSTS: Final = (
    "Private addresses are permitted for the hosts that are listed: only a system administrator "
    "may add another."
)


class _Lines(forms.CharField):
    """A JSON list, a line each."""

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(data) != (initial or []))


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

    class Meta:
        model = MailSystem
        fields = (
            *("name", "hosts", "default_ews_url", "ca_pem", "allow_private"),
            *("smtp_domains", "autodiscover"),
        )
        labels: ClassVar = {
            "default_ews_url": "Default EWS address",
            "ca_pem": "CA bundle",
            "allow_private": "Private addresses",
            "autodiscover": "Ask Autodiscover",
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

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
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
        # The leave to call private addresses was given for these hosts, not for any.
        bound = self.instance.allow_private and not self.may_go_private
        if bound and set(found["hosts"]) - set(self.initial.get("hosts") or ()):
            self.add_error("hosts", _FOR_LISTED_HOSTS)
        return found

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
    )

    @display(description="Hosts")
    def listed(self, obj: MailSystem) -> str:
        return ", ".join(obj.hosts[:3]) + (" …" if len(obj.hosts) > 3 else "")

    @display(description="Private addresses", boolean=True)
    def private(self, obj: MailSystem) -> bool:
        return bool(obj.allow_private)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Private addresses are a system administrator's word only (DESIGN.md, section 7)."""
        return () if may(user_of(request), "system.change", None) else ("allow_private",)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """A new one belongs to the chosen group, and no other there has its name."""
        form = super().get_form(request, obj, **kwargs)
        form.og = obj.og if obj is not None else chosen_og(request)
        form.may_go_private = may(user_of(request), "system.change", None)
        return form

    def store(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        widened = obj.allow_private and "allow_private" in form.changed_data
        if widened and not may(user_of(request), "system.change", None):
            raise PermissionDenied
        obj.save()

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
