"""The public EWS schema as the referee of all traffic. Tests that need it skip where it isn't."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"


def messages_xsd() -> Path:
    """`messages.xsd` from EWS_SCHEMA, else from `../shared/ews-schema`."""
    root = Path(__file__).resolve().parents[2]
    default = root.parent / "shared" / "ews-schema"
    file = Path(os.environ.get("EWS_SCHEMA", default)) / "messages.xsd"
    if not file.is_file():
        pytest.skip("no EWS schema (EWS_SCHEMA, or ../shared/ews-schema)")
    return file


@cache
def schema() -> etree.XMLSchema:
    """The schema, compiled once."""
    return etree.XMLSchema(etree.parse(messages_xsd()))


def violations(body: bytes) -> list[str]:
    """What the schema has against the element in a SOAP body; faults have no schema."""
    content = etree.fromstring(body).find(f"{SOAP}Body/*")
    if content is None:
        return ["no element in the SOAP body"]
    if content.tag == f"{SOAP}Fault" or schema().validate(content):
        return []
    return [f"{error.line}: {error.message}" for error in schema().error_log]
