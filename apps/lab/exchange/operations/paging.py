"""Paging by index, as FindItem and FindFolder share it.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/indexedpageitemview
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import EwsError
from ..soap import MESSAGES, Element, boolean

T = TypeVar("T")
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What lies on the page, and where the next one starts."""

    entries: Sequence[T]
    next_offset: int
    total: int

    def describe(self, root: Element) -> None:
        """Writes the paging attributes of a `RootFolder`."""
        root.set("IndexedPagingOffset", str(self.next_offset))
        root.set("TotalItemsInView", str(self.total))
        root.set("IncludesLastItemInRange", boolean(self.next_offset >= self.total))


def page(request: Element, view_name: str, entries: Sequence[T]) -> Page[T]:
    """Cuts out the page the request's view asks for; 1,000 entries at most, as Exchange does."""
    view = request.find(f"{{{MESSAGES}}}{view_name}")
    offset, most = 0, _MOST
    if view is not None:
        offset = int(view.get("Offset", "0"))
        most = min(int(view.get("MaxEntriesReturned", _MOST)), _MOST)
        if view.get("BasePoint") == "End":
            offset = max(len(entries) - offset - most, 0)
    if most < 1 or offset < 0:
        raise EwsError("ErrorInvalidPagingMaxRows")
    end = min(offset + most, len(entries))
    return Page(entries[offset:end], end, len(entries))
