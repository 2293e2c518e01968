"""What tables of thousands of rows share: their export, and filters that ask little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter

from apps.audit.export import csv_lines
from apps.console.chosen import chosen_og
from apps.tenants.models import MailSystem


def as_csv(
    name: str, header: Iterable[str], rows: Iterable[Iterable[Any]]
) -> StreamingHttpResponse:
    """A table as a file, sent as it is read; no cell is a formula (audit/export.py)."""
    return as_csv_lines(name, csv_lines(header, rows))


def as_csv_lines(name: str, lines: Iterable[str]) -> StreamingHttpResponse:
    """The same of lines that are CSV already."""
    answer = StreamingHttpResponse(
        (line.encode() for line in lines), content_type="text/csv; charset=utf-8"
    )
    day = f"{timezone.now():%Y-%m-%d}"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}-{day}.csv"'
    return answer


class NarrowPaginator(Paginator):
    """Pages of a table with wide rows: first which rows a page has, by their keys, then these.

    Otherwise the database sorts whole rows, and on disk for a page far behind.
    """

    def page(self, number: int | str) -> Page:
        """The rows of a page, in order.

        Raises:
            InvalidPage: there is no such page.
        """
        valid = self.validate_number(number)
        bottom = (valid - 1) * self.per_page
        rows: Any = self.object_list
        keys = list(rows.values_list("pk", flat=True)[bottom : bottom + self.per_page])
        found = rows.order_by().in_bulk(keys)
        # A row may have gone between the two questions.
        return Page([found[key] for key in keys if key in found], valid, self)


class MailSystemFilter(DropdownFilter):
    """By one of the mail systems that phones of the chosen group may use."""

    title = "mail system"
    parameter_name = "system"
    # How to get from the rows to the mail system.
    field = "mailbox__mail_system"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those of the group, of the groups above it and of those below."""
        og = chosen_og(request)
        if og is None:
            return []
        rows = MailSystem.objects.order_by("name").values_list("pk", "name")
        found = rows.filter(og__path__startswith=og.path) | rows.filter(
            og__path__in=og.line_paths()
        )
        return [(str(pk), name) for pk, name in found]

    def has_output(self) -> bool:
        """Also where there is but one: the filter stays where it was."""
        return True

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Its rows; none for what is no number."""
        value = self.value()
        if not value:
            return queryset
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            return queryset.none()
        return queryset.filter(**{self.field: int(value)})
