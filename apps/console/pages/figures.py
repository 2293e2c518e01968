"""The dashboard's figures, asked for again and again while it is open."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from apps.console import dashboard
from apps.console.site import page


@page("figures/", name="figures", permission="console.read")
def figures(request: HttpRequest) -> HttpResponse:
    """As the dashboard showed them at first, and how many things want attention now."""
    found = dashboard.figures(request)
    return JsonResponse(found | {"attention": len(dashboard.attention(request))})
