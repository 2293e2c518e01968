"""The official EWS schema as referee; tests that need it skip loudly where it is absent."""

from __future__ import annotations

from lxml import etree

from tests.lab.ews_schema import SOAP, schema


def assert_valid(raw: bytes) -> etree._Element:
    """Validate what is in the SOAP body, and return it."""
    body = etree.fromstring(raw).find(f"{SOAP}Body")
    assert body is not None
    (content,) = body
    schema().assertValid(content)
    return content
