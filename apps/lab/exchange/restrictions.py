"""Restrictions and sort orders of FindItem.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/restriction
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from lxml import etree

from .errors import EwsError
from .model import Item
from .shapes import ITEM_CLASSES
from .soap import TYPES, Element

Value = bool | int | str | datetime
_MAX_NODES = 255

_FIELDS: dict[str, Callable[[Item], Value]] = {
    "item:Subject": lambda i: i.content.subject,
    "item:Body": lambda i: i.content.body,
    "item:DateTimeReceived": lambda i: i.received_at,
    "item:DateTimeCreated": lambda i: i.created_at,
    "item:DateTimeSent": lambda i: i.content.sent_at or i.created_at,
    "item:LastModifiedTime": lambda i: i.modified_at,
    "item:Size": lambda i: i.size,
    "item:Importance": lambda i: i.content.importance,
    "item:Sensitivity": lambda i: i.content.sensitivity,
    "item:IsDraft": lambda i: i.content.is_draft,
    "item:HasAttachments": lambda _: False,
    "item:ItemClass": lambda i: ITEM_CLASSES[i.content.kind],
    "message:IsRead": lambda i: i.content.is_read,
    "message:From": lambda i: i.content.author.name if i.content.author else "",
    "message:Sender": lambda i: i.content.sender.name if i.content.sender else "",
    "message:InternetMessageId": lambda i: i.content.internet_message_id,
    "message:ConversationTopic": lambda i: i.content.subject,
}

_COMPARISONS: dict[str, Callable[[Value, Value], bool]] = {
    "IsEqualTo": operator.eq,
    "IsNotEqualTo": operator.ne,
    "IsGreaterThan": operator.gt,
    "IsGreaterThanOrEqualTo": operator.ge,
    "IsLessThan": operator.lt,
    "IsLessThanOrEqualTo": operator.le,
}

Test = Callable[[Item], bool]


def compile_restriction(restriction: Element) -> Test:
    """A predicate for items. Raises `EwsError` for what this server can't evaluate."""
    if sum(1 for _ in restriction.iter()) > _MAX_NODES:
        raise EwsError("ErrorRestrictionTooLong")
    return _compile(_children(restriction)[0])


def _compile(expression: Element) -> Test:
    name = etree.QName(expression).localname
    if name in ("And", "Or"):
        tests = [_compile(child) for child in _children(expression)]
        join = all if name == "And" else any
        return lambda item: join(test(item) for test in tests)
    if name == "Not":
        inner = _compile(_children(expression)[0])
        return lambda item: not inner(item)
    if name in _COMPARISONS:
        return _comparison(expression, _COMPARISONS[name])
    if name == "Contains":
        return _contains(expression)
    if name == "Exists":
        read = _field(expression)
        return lambda item: read(item) != ""
    raise EwsError("ErrorUnsupportedQueryFilter")


def _comparison(expression: Element, compare: Callable[[Value, Value], bool]) -> Test:
    read = _field(expression)
    constant = expression.find(f"{{{TYPES}}}FieldURIOrConstant/{{{TYPES}}}Constant")
    if constant is None:
        raise EwsError("ErrorUnsupportedQueryFilter")
    text = constant.get("Value", "")

    def test(item: Item) -> bool:
        value = read(item)
        return compare(value, _like(value, text))

    return test


def _like(value: Value, text: str) -> Value:
    """The constant in the type of the property it is compared with."""
    try:
        if isinstance(value, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(value, int):
            return int(text)
        if isinstance(value, datetime):
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, KeyError):
        raise EwsError("ErrorInvalidValueForProperty") from None
    return text


def _contains(expression: Element) -> Test:
    read = _field(expression)
    constant = expression.find(f"{{{TYPES}}}Constant")
    text = "" if constant is None else constant.get("Value", "")
    mode = expression.get("ContainmentMode", "FullString")
    ignore_case = "IgnoreCase" in expression.get("ContainmentComparison", "Exact")
    needle = text.casefold() if ignore_case else text

    def test(item: Item) -> bool:
        value = str(read(item))
        hay = value.casefold() if ignore_case else value
        if mode == "FullString":
            return hay == needle
        if mode == "Prefixed":
            return hay.startswith(needle)
        return needle in hay

    return test


def _field(
    expression: Element, code: str = "ErrorUnsupportedPathForQuery"
) -> Callable[[Item], Value]:
    path = expression.find(f"{{{TYPES}}}FieldURI")
    read = None if path is None else _FIELDS.get(path.get("FieldURI", ""))
    if read is None:
        raise EwsError(code)
    return read


def _children(element: Element) -> list[Element]:
    found = list(element.iterchildren(etree.Element))
    if not found:
        raise EwsError("ErrorUnsupportedQueryFilter")
    return found


def sort(items: Sequence[Item], order: Element | None) -> list[Item]:
    """By the request's SortOrder, else newest first as Exchange does. Raises `EwsError`."""
    if order is None:
        return sorted(items, key=lambda item: item.received_at, reverse=True)
    ordered = list(items)
    # Sorting is stable: the least important field comes first.
    for field in reversed(_children(order)):
        read = _field(field, "ErrorUnsupportedPathForSortGroup")
        ordered.sort(key=_key(read), reverse=field.get("Order") == "Descending")
    return ordered


def _key(read: Callable[[Item], Value]) -> Callable[[Item], tuple[float, str]]:
    def key(item: Item) -> tuple[float, str]:
        value = read(item)
        if isinstance(value, datetime):
            return value.timestamp(), ""
        return (0.0, value.casefold()) if isinstance(value, str) else (float(value), "")

    return key
