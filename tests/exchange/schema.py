"""The official EWS schema as referee; tests that need it skip loudly where it is absent."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

# tests/environment.py drops every other name that begins with ENS_.
_NAMES = ("ENS_TEST_EWS_SCHEMA", "ENS_EWS_SCHEMA")
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "ews-schema"


def schema_folder() -> Path:
    return next((Path(os.environ[name]) for name in _NAMES if name in os.environ), _BESIDE)


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(schema_folder() / "messages.xsd"))


def assert_valid(raw: bytes) -> etree._Element:
    """Validate what is in the SOAP body, and return it."""
    if not (schema_folder() / "messages.xsd").is_file():
        pytest.skip("the EWS schema is absent (ENS_TEST_EWS_SCHEMA, or ../shared/ews-schema)")
    body = etree.fromstring(raw).find("{http://schemas.xmlsoap.org/soap/envelope/}Body")
    assert body is not None
    (content,) = body
    _schema().assertValid(content)
    return content
