"""Every response code of the schema belongs to one class, on purpose."""

from __future__ import annotations

from itertools import combinations

import pytest
from lxml import etree

from apps.exchange.errors import EwsError, ExchangeError, MailboxMoving, StoreUnavailable
from apps.exchange.ews import response_codes, soap
from tests.lab.ews_schema import messages_xsd

CLASSES = {
    name: value
    for name, value in vars(response_codes).items()
    if isinstance(value, frozenset) and name != "DECIDED"
}


def of_the_schema() -> set[str]:
    tree = etree.parse(messages_xsd())
    found = tree.xpath(
        "//*[local-name()='simpleType'][@name='ResponseCodeType']//@value",
    )
    assert isinstance(found, list)
    return {str(value) for value in found} - {"NoError"}


def test_each_is_decided_about() -> None:
    decided = frozenset().union(*CLASSES.values())
    assert decided == response_codes.DECIDED
    assert of_the_schema() - decided == set()
    assert decided - of_the_schema() == set()


def test_each_only_once() -> None:
    for (one, first), (other, second) in combinations(CLASSES.items(), 2):
        assert not first & second, (one, other)


@pytest.mark.parametrize("code", sorted(response_codes.TRANSIENT))
def test_trouble_of_the_server_passes(code: str) -> None:
    assert soap.error_for(code, etree.Element("x")).transient


def test_what_makes_no_sense_is_not_tried_again() -> None:
    for code in response_codes.ELSEWHERE | response_codes.OURS:
        error = soap.error_for(code, etree.Element("x"))
        assert isinstance(error, EwsError) and not error.transient


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("ErrorMailboxMoveInProgress", MailboxMoving, "mailbox_moving"),
        ("ErrorMailboxStoreUnavailable", StoreUnavailable, "mailbox_store_unavailable"),
    ],
)
def test_a_mailbox_in_trouble_has_a_reason_of_its_own(
    code: str, kind: type[ExchangeError], reason: str
) -> None:
    error = soap.error_for(code, etree.Element("x"))
    assert type(error) is kind and error.code == reason and error.transient
