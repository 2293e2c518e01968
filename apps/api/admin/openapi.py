"""The description of the admin API, and how each of its operations is described."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import OpenApiParameter, extend_schema
from drf_spectacular.views import SpectacularAPIView

from apps.api.admin import schemas
from apps.api.admin.base import MOST, PAGE, PROBLEMS, AdminView
from apps.api.problems import CONTENT_TYPE

PREFIX: Final = "/api/admin/v1/"
_TOKEN: Final[Any] = [{"adminToken": []}]
_PAGING: Final = [
    OpenApiParameter("limit", int, description=f"1 to {MOST}; default {PAGE}."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


def operation(
    name: str,
    answer: Any,
    *,
    asks: Any = None,
    status: int = 200,
    pages: bool = False,
    query: Any = None,
) -> Callable[[Any], Any]:
    """Describe a view's method: its answer, what it asks for, and the problems of all calls."""
    responses: dict[Any, Any] = {status: answer}
    for refused in sorted({status for status, _ in PROBLEMS.values()}):
        responses[(refused, CONTENT_TYPE)] = schemas.AdminProblem
    parameters = [*([query] if query else []), *(_PAGING if pages else [])]
    decorated: Callable[[Any], Any] = extend_schema(
        operation_id=name,
        request=asks,
        responses=responses,
        parameters=parameters,
        auth=_TOKEN,
        tags=[name.rpartition("_")[0] or name],
    )
    return decorated


def device_paths(endpoints: list[Any]) -> list[Any]:
    """Only the device API's addresses, for its description."""
    return [one for one in endpoints if PREFIX not in one[0]]


def admin_paths(endpoints: list[Any]) -> list[Any]:
    """Only the admin API's."""
    return [one for one in endpoints if PREFIX in one[0]]


class Description(AdminView, SpectacularAPIView):
    """OpenAPI 3 of the admin API, for whoever has a token."""

    permissions = {}
    renderer_classes = [OpenApiJsonRenderer]
    custom_settings = {
        "TITLE": "ENS admin API",
        "DESCRIPTION": "What the console does, for programs. The guide: docs/admin-api.md.",
        "VERSION": settings.ENS_VERSION,
        "PREPROCESSING_HOOKS": ["apps.api.admin.openapi.admin_paths"],
        "SCHEMA_PATH_PREFIX": f"{settings.ENS.url_prefix}/api/admin/v1",
        "APPEND_COMPONENTS": {
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the admin API, made in the console.",
                }
            }
        },
    }
