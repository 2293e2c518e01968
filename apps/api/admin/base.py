"""What every call of the admin API shares: who calls, what they may do where, problem documents."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.db import models
from django.http import Http404
from rest_framework import exceptions, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.administrators import api_tokens
from apps.administrators.api_tokens import Caller
from apps.administrators.scope import below
from apps.api import limits
from apps.api.parsers import SmallJSONParser
from apps.api.problems import CONTENT_TYPE, where_malformed
from apps.api.problems import Problem as DeviceProblem
from apps.audit import service as audit
from apps.operations.device_actions import By
from apps.tenants.models import OrganizationGroup
from apps.vault.redact import where

log = logging.getLogger(__name__)

# code: (status, title). docs/admin-api.md lists them too; a test compares the two.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "unauthorized": (401, "The token is wrong, revoked or expired."),
    "forbidden": (403, "The token may not do this."),
    "not_found": (404, "There is no such thing where the token may look."),
    "malformed": (400, "The request is not what the API describes."),
    "refused": (409, "It can't be done as things are."),
    "too_large": (413, "The request is too large."),
    "too_many_attempts": (429, "Too many attempts: wait before the next one."),
    "unavailable": (503, "The service can't take the request just now: try again shortly."),
}

PAGE: Final = 100
MOST: Final = 500

M = TypeVar("M", bound=models.Model)


class Problem(exceptions.APIException):
    """Ends a call with the problem document of `code`; `detail` is for whoever reads it."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.status_code, title = PROBLEMS[code]
        super().__init__(detail or title, code)
        self.problem_code = code


def document(code: str, detail: str = "") -> dict[str, Any]:
    """The problem document of a code (RFC 9457)."""
    status, title = PROBLEMS[code]
    made: dict[str, Any] = {
        "type": f"urn:ens:admin-problem:{code}",
        "title": title,
        "status": status,
        "code": code,
    }
    return made | ({"detail": detail} if detail and detail != title else {})


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every exception of a view as a problem document; unknown ones say nothing of themselves."""
    headers: dict[str, str] = {}
    if isinstance(error, Problem):
        body = document(error.problem_code, str(error.detail))
    elif isinstance(error, DeviceProblem):  # of what both APIs share: limits, parsers
        body = document(error.problem_code)
        headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    elif isinstance(error, exceptions.ValidationError):
        body = document("malformed", where_malformed(error.detail))
    elif isinstance(error, Http404):
        body = document("not_found")
    elif isinstance(error, exceptions.APIException):
        body = document("malformed") | {"status": error.status_code}
    else:
        log.error("the admin API failed: %s", where(error))
        body = document("unavailable")
        headers = {"Retry-After": "10"}
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


class AdminView(APIView):
    """A call with a bearer token. `permissions` says what a method needs: `{"GET": …}`."""

    parser_classes = [SmallJSONParser]
    permissions: dict[str, str]
    caller: Caller

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Find out who calls, before anything is looked at.

        Raises:
            Problem: `unauthorized` or `forbidden`.
        """
        super().initial(request, *args, **kwargs)
        self.caller = self._authenticated()
        permission = self.permissions.get(self._verb)
        if permission is not None and not self.caller.has(permission):
            raise Problem("forbidden", f"this needs the scope {permission}")

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(*args, **kwargs)
        answer["Cache-Control"] = "no-store"
        return answer

    def _authenticated(self) -> Caller:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            caller = api_tokens.authenticate(token.strip())
            if caller is not None:
                return caller
        address = limits.client_address(self.request._request)
        limits.FAILURES.check(address)
        limits.FAILURES.count(address)
        raise Problem("unauthorized")

    @property
    def paths(self) -> tuple[str, ...] | None:
        """Where the caller may do what this call does; None: everywhere."""
        return self.caller.paths(self.permissions[self._verb])

    @property
    def _verb(self) -> str:
        # Django answers HEAD as it would GET.
        return "GET" if self.request.method == "HEAD" else str(self.request.method)

    def by(self) -> By:
        """The caller, for the services that act and audit."""
        address = limits.client_address(self.request._request)
        return By(self.caller.name, address, self.paths)

    def within(self, rows: models.QuerySet[M], field: str = "og__path") -> models.QuerySet[M]:
        """Those of the rows that hang on groups where the caller may do this."""
        return below(rows, self.paths, field)

    def group(self, guid: uuid.UUID) -> OrganizationGroup:
        """A group in which the caller may do this.

        Raises:
            Problem: `not_found`, also for a group that there is elsewhere.
        """
        rows: models.QuerySet[OrganizationGroup] = OrganizationGroup.objects.all()
        return self.one(self.within(rows, "path"), guid=guid)

    def one(self, rows: models.QuerySet[M], **key: Any) -> M:
        """The one row with this key among those that the caller may see.

        Raises:
            Problem: `not_found`.
        """
        found = rows.filter(**key).first()
        if found is None:
            raise Problem("not_found")
        return found

    def audit(
        self,
        action: str,
        target: str,
        og: OrganizationGroup,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        """Write into the audit log what this call does."""
        by = self.by()
        audit.record(
            actor=by.actor,
            action=action,
            target=target,
            og_path=og.path,
            before=before,
            after=after,
            address=by.address,
        )

    def page(
        self,
        rows: models.QuerySet[M],
        show: Callable[[M], dict[str, Any]],
        *,
        key: str = "id",
        newest_first: bool = False,
    ) -> Response:
        """A page of rows in the order of their key, and the cursor of the next."""
        asked = checked(PageQuery, self.request.query_params.dict())
        field: Any = rows.model._meta.get_field(key)
        if asked["cursor"]:
            try:
                last = field.to_python(asked["cursor"])
            except Exception:  # noqa: BLE001 - whatever the field raises, it is no cursor
                raise Problem("malformed", "cursor: invalid") from None
            rows = rows.filter(**{f"{key}__{'lt' if newest_first else 'gt'}": last})
        found = list(rows.order_by(f"-{key}" if newest_first else key)[: asked["limit"] + 1])
        more = len(found) > asked["limit"]
        found = found[: asked["limit"]]
        next_cursor = str(getattr(found[-1], key)) if more else None
        return Response({"items": [show(row) for row in found], "next_cursor": next_cursor})


class PageQuery(serializers.Serializer):
    """Which page: `cursor` is `next_cursor` of the page before."""

    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=PAGE)
    cursor = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


def checked(serializer: type[serializers.Serializer], data: Any) -> dict[str, Any]:
    """What a request holds, once it is what the API describes.

    Raises:
        serializers.ValidationError: it isn't.
    """
    made = serializer(data=data)
    made.is_valid(raise_exception=True)
    return dict(made.validated_data)
