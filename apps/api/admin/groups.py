"""Organization groups, their settings, the tokens of their apps, their mail systems."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.admin import schemas
from apps.api.admin.base import AdminView, Problem, checked
from apps.api.admin.openapi import operation
from apps.tenants import groups, inherited, mail_systems, tokens
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.inherited import SettingRefused
from apps.tenants.models import ApiToken, MailSystem, OrganizationGroup


class Me(AdminView):
    """The calling token: whose it is and what it may do."""

    permissions = {}

    @operation("me", schemas.Me)
    def get(self, request: Request) -> Response:
        token = self.caller.token
        return Response(
            {
                "owner": token.owner.username,
                "label": token.label,
                "group": token.og.guid if token.og else None,
                "scopes": token.scopes,
                "expires_at": token.expires_at,
            }
        )


class Groups(AdminView):
    """The groups that the token sees, parents before children."""

    permissions = {"GET": "console.read", "POST": "groups.manage"}

    @operation("groups_list", schemas.paged(schemas.Group), pages=True)
    def get(self, request: Request) -> Response:
        rows = self.within(OrganizationGroup.objects.all(), "path")
        # The groups above one's own are not one's own: their ids are not told either.
        guids = dict(rows.values_list("path", "guid"))
        return self.page(rows, lambda og: _group(og, guids.get(og.path[: -og.steplen])), key="path")

    @operation("groups_create", schemas.Group, asks=schemas.GroupCreate, status=201)
    def post(self, request: Request) -> Response:
        asked = checked(schemas.GroupCreate, request.data)
        parent = self.group(asked["parent"]) if "parent" in asked else None
        if parent is None and self.paths is not None:
            raise Problem("forbidden", "a new tree needs a token that sees all")
        try:
            with transaction.atomic():
                made = groups.create_group(asked["name"], parent)
                self.audit("group.create", made.name, made, None, {"name": made.name})
        except groups.GroupRefused as error:
            raise Problem("refused", str(error)) from None
        return Response(_group(made, parent.guid if parent else None), status=201)


class Group(AdminView):
    """One group."""

    permissions = {"GET": "console.read"}

    @operation("groups_read", schemas.Group)
    def get(self, request: Request, guid: uuid.UUID) -> Response:
        og = self.group(guid)
        parent = og.parent()
        # The group above one's own is not one's own.
        seen = parent is not None and self.within(
            OrganizationGroup.objects.filter(pk=parent.pk), "path"
        )
        return Response(_group(og, parent.guid if parent and seen else None))


class Settings(AdminView):
    """All settings in force in a group, and where each comes from."""

    permissions = {"GET": "console.read"}

    @operation("settings_read", schemas.Sections)
    def get(self, request: Request, guid: uuid.UUID) -> Response:
        og = self.group(guid)
        return Response({"sections": {name: self.shown(og, name) for name in inherited.sections()}})

    def shown(self, og: OrganizationGroup, name: str) -> dict[str, Any]:
        """One section's settings; the origin is null also for a group that the token can't see."""
        paths = self.paths
        found = {}
        for field, origin in inherited.origins(og, inherited.sections()[name]).items():
            seen = origin.og is not None and (
                paths is None or any(origin.og.path.startswith(path) for path in paths)
            )
            guid = origin.og.guid if seen and origin.og else None
            found[field] = {"value": origin.value, "origin": guid}
        return found


class Section(Settings):
    """Overrides settings of one section, or lets them be inherited again."""

    permissions = {"PATCH": "settings.change", "DELETE": "settings.change"}
    http_method_names = ["patch", "delete"]

    @operation("settings_override", schemas.Sections, asks=schemas.Override)
    def patch(self, request: Request, guid: uuid.UUID, section: str) -> Response:
        og, cls = self.group(guid), self._section(section)
        values = checked(schemas.Override, request.data)["values"]
        with self._audited(og, section, list(values)):
            inherited.override(og, cls, **values)
        return Response({"sections": {section: self.shown(og, section)}})

    @operation("settings_reset", schemas.Sections, asks=schemas.Reset)
    def delete(self, request: Request, guid: uuid.UUID, section: str) -> Response:
        og, cls = self.group(guid), self._section(section)
        names = checked(schemas.Reset, request.data)["names"]
        with self._audited(og, section, names):
            inherited.reset(og, cls, names)
        return Response({"sections": {section: self.shown(og, section)}})

    @staticmethod
    def _section(name: str) -> type:
        cls = inherited.sections().get(name)
        if cls is None:
            raise Problem("not_found", "there is no such section")
        return cls

    def _audited(self, og: OrganizationGroup, section: str, names: list[str]) -> _SettingsChange:
        return _SettingsChange(self, og, section, names)


class _SettingsChange:
    """A change of settings: all of it with its audit entry, or none."""

    def __init__(self, view: Settings, og: OrganizationGroup, section: str, names: list[str]):
        self._view, self._og, self._section, self._names = view, og, section, names
        self._atomic = transaction.atomic()

    def __enter__(self) -> None:
        self._atomic.__enter__()
        self._before = self._in_force()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self._view.audit(
                "settings.change", self._section, self._og, self._before, self._in_force()
            )
        self._atomic.__exit__(kind, error, trace)
        if isinstance(error, SettingRefused):
            raise Problem("refused", str(error)) from None

    def _in_force(self) -> dict[str, Any]:
        found = self._view.shown(self._og, self._section)
        return {name: found[name]["value"] for name in self._names if name in found}


class Tokens(AdminView):
    """The API tokens (`ENSAPIToken`) of a group's apps."""

    permissions = {"GET": "console.read", "POST": "tokens.manage"}

    @operation("tokens_list", schemas.paged(schemas.Token), pages=True)
    def get(self, request: Request, guid: uuid.UUID) -> Response:
        return self.page(ApiToken.objects.filter(og=self.group(guid)), _token)

    @operation("tokens_create", schemas.NewToken, asks=schemas.TokenCreate, status=201)
    def post(self, request: Request, guid: uuid.UUID) -> Response:
        og, asked = self.group(guid), checked(schemas.TokenCreate, request.data)
        if asked["expires_at"] is not None and asked["expires_at"] <= timezone.now():
            raise Problem("refused", "this time is over already")
        try:
            with transaction.atomic():
                made, token = tokens.make_token(og, asked["label"], asked["expires_at"])
                after = {"expires_at": asked["expires_at"]}
                self.audit("token.create", made.label, og, None, after)
        except ValueError as error:
            raise Problem("refused", str(error)) from None
        return Response(_token(made) | {"token": token}, status=201)


class TokenRotation(AdminView):
    """Makes a successor of a token, which stays good for a while."""

    permissions = {"POST": "tokens.manage"}

    @operation("tokens_rotate", schemas.NewToken, asks=schemas.TokenRotate, status=201)
    def post(self, request: Request, pk: int) -> Response:
        row = self.one(self.within(ApiToken.objects.select_related("og")), pk=pk)
        overlap = timedelta(hours=checked(schemas.TokenRotate, request.data)["overlap_hours"])
        try:
            with transaction.atomic():
                made, token = tokens.rotate_token(row, overlap)
                after = {"old_ends_at": timezone.now() + overlap}
                self.audit("token.rotate", row.label, row.og, None, after)
        except ValueError as error:
            raise Problem("refused", str(error)) from None
        return Response(_token(made) | {"token": token}, status=201)


class TokenRevocation(AdminView):
    """Revokes a token at once; may be repeated."""

    permissions = {"POST": "tokens.manage"}

    @operation("tokens_revoke", schemas.Token)
    def post(self, request: Request, pk: int) -> Response:
        row = self.one(self.within(ApiToken.objects.select_related("og")), pk=pk)
        with transaction.atomic():
            if tokens.revoke(row):
                self.audit("token.revoke", row.label, row.og)
        row.refresh_from_db()
        return Response(_token(row))


class MailSystems(AdminView):
    """The mail systems of a group itself; it also uses those of the groups above."""

    permissions = {"GET": "console.read", "POST": "settings.change"}

    @operation("mail_systems_list", schemas.paged(schemas.MailSystem), pages=True)
    def get(self, request: Request, guid: uuid.UUID) -> Response:
        rows = MailSystem.objects.filter(og=self.group(guid)).select_related("og")
        return self.page(rows, _mail_system)

    @operation("mail_systems_create", schemas.MailSystem, asks=schemas.MailSystemCreate, status=201)
    def post(self, request: Request, guid: uuid.UUID) -> Response:
        og, asked = self.group(guid), checked(schemas.MailSystemCreate, request.data)
        if asked["allow_private"] and self.caller.paths("system.change") is not None:
            raise Problem("forbidden", "private hosts are a system administrator's to allow")
        try:
            name = groups.plain_name(asked.pop("name"))
            with transaction.atomic():
                made = mail_systems.add_mail_system(og, name, asked.pop("hosts"), **asked)
                self.audit("mail_system.create", name, og, None, _mail_system(made))
        except ValueError as error:
            raise Problem("refused", str(error)) from None
        except EwsUrlRefused as error:
            raise Problem("refused", error.code) from None
        except IntegrityError:
            raise Problem("refused", "the group has a mail system of this name") from None
        return Response(_mail_system(made), status=201)


def _group(og: OrganizationGroup, parent: uuid.UUID | None) -> dict[str, Any]:
    return {"guid": og.guid, "name": og.name, "parent": parent}


def _token(row: ApiToken) -> dict[str, Any]:
    return {
        "id": row.pk,
        "label": row.label,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
    }


def _mail_system(row: MailSystem) -> dict[str, Any]:
    return {
        "id": row.pk,
        "group": row.og.guid,
        "name": row.name,
        "hosts": row.hosts,
        "default_ews_url": row.default_ews_url,
        "has_own_cas": bool(row.ca_pem),
        "allow_private": row.allow_private,
        "smtp_domains": row.smtp_domains,
        "autodiscover": row.autodiscover,
        "proxy_url": row.proxy_url,
        "tls_floor": row.tls_floor,
        "gateway": row.gateway,
        "gateway_headers": row.gateway_headers,
        "gateway_refusals": row.gateway_refusals,
    }
