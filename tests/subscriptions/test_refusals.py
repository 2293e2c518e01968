from __future__ import annotations

from dataclasses import replace

import pytest

from apps.devices.models import Mailbox
from apps.exchange.errors import CredentialsRefused
from apps.exchange.interface import Credentials
from apps.subscriptions import refusals

pytestmark = pytest.mark.django_db


def test_a_refused_password_stays_refused_whatever_a_gateway_calls_the_phone(
    mailbox: Mailbox,
) -> None:
    wrong = Credentials("basic", "anna", "wrong", identity=(("model", "a"),))
    refusals.remember(mailbox, wrong)
    for identity in ((), (("model", "b"),)):
        with pytest.raises(CredentialsRefused):
            refusals.begin_trial(mailbox, replace(wrong, identity=identity))
    assert refusals.begin_trial(mailbox, replace(wrong, password="right"))


@pytest.mark.parametrize(
    "spelt",
    ["Änna", "A\u0308nna", "ÁNNA", "ａｎｎａ", "an\u00adna", " EXAMPLE\\anna ", "anna\u200b"],
)
def test_a_name_is_one_account_however_a_directory_lets_it_be_spelt(
    mailbox: Mailbox, spelt: str
) -> None:
    """Active Directory compares names without accents and widths: each would count anew."""
    for number in range(refusals.REFUSALS_AT_MOST):
        refusals.remember(mailbox, Credentials("basic", spelt, f"wrong {number}"))
    with pytest.raises(refusals.AccountAtRisk):
        refusals.begin_trial(mailbox, Credentials("basic", "anna", "right"))


def test_tokens_lock_no_account(mailbox: Mailbox) -> None:
    for number in range(2 * refusals.REFUSALS_AT_MOST):
        # All of one user: eyJpc3MiOiJ4Iiwib2lkIjoiYW5uYSJ9 is {"iss":"x","oid":"anna"}.
        token = f"e30.eyJpc3MiOiJ4Iiwib2lkIjoiYW5uYSJ9.{number}"
        spent = Credentials("oauth", token=token, expires_at=2_000_000_000)
        assert refusals.begin_trial(mailbox, spent)
        refusals.remember(mailbox, spent)
    assert refusals.known(mailbox, spent)


def test_passwords_beside_certificates_do(mailbox: Mailbox) -> None:
    for number in range(refusals.REFUSALS_AT_MOST):
        wrong = Credentials("certificate", "anna", f"{number}", certificate="pem", expires_at=1)
        refusals.remember(mailbox, wrong)
    with pytest.raises(refusals.AccountAtRisk):
        refusals.begin_trial(mailbox, Credentials("ntlm", "EXAMPLE\\Anna", "right"))
