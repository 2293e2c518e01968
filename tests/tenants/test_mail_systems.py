"""A device may only name hosts that its group, or a group above it, lists."""

from __future__ import annotations

from ipaddress import IPv4Network
from types import SimpleNamespace

import pytest

from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system, mail_system_for
from apps.tenants.models import OrganizationGroup

pytestmark = pytest.mark.django_db


@pytest.fixture
def og() -> OrganizationGroup:
    return create_group("Acme")


def refusal(og: OrganizationGroup, url: str | None) -> str:
    with pytest.raises(EwsUrlRefused) as refused:
        mail_system_for(og, url)
    return refused.value.code


def test_own_and_inherited_hosts_are_allowed_and_no_others(og: OrganizationGroup) -> None:
    system = add_mail_system(og, "Main", ["mail.example.com", "ews.example.com:444"])
    branch = create_group("Branch", create_group("Middle", og))
    stranger = create_group("Stranger")
    url = "https://mail.example.com/EWS/Exchange.asmx"
    assert mail_system_for(og, url) == (system, url)
    assert mail_system_for(branch, "https://EWS.example.com:444/x") == (
        system,
        "https://ews.example.com:444/x",
    )
    for other in (
        "https://ews.example.com/x",
        "https://mail.example.com:444/x",
        "https://evil.example/x",
        "https://mail.example.com.evil.example/x",
        "https://xmail.example.com/x",
        "https://example.com/x",
    ):
        assert refusal(branch, other) == "ews_url_not_listed"
    assert refusal(stranger, url) == "ews_url_not_listed"


def test_a_group_does_not_see_its_childs_or_siblings_mail_systems(og: OrganizationGroup) -> None:
    add_mail_system(create_group("Child", og), "Main", ["mail.example.com"])
    assert refusal(og, "https://mail.example.com/") == "ews_url_not_listed"
    assert refusal(create_group("Sibling", og), "https://mail.example.com/") == "ews_url_not_listed"


def test_the_nearest_group_decides(og: OrganizationGroup) -> None:
    child = create_group("Child", og)
    add_mail_system(og, "Main", ["a.example", "b.example"], default_ews_url="https://a.example/x")
    near = add_mail_system(child, "Own", ["b.example"], default_ews_url="https://b.example/y")
    assert mail_system_for(child, "https://b.example/") == (near, "https://b.example/")
    assert mail_system_for(child, None) == (near, "https://b.example/y")
    assert mail_system_for(og, None)[1] == "https://a.example/x"


def test_without_address_and_default_it_is_missing(og: OrganizationGroup) -> None:
    assert refusal(og, None) == "ews_url_missing"
    add_mail_system(og, "Main", ["mail.example.com"])
    assert refusal(og, None) == "ews_url_missing"
    add_mail_system(og, "Empty", [])
    assert refusal(og, "https:///") == "ews_url_malformed"


def test_loopback_needs_to_be_listed_and_excepted(
    og: OrganizationGroup, settings: SimpleNamespace
) -> None:
    url = "https://127.0.0.1:8443/EWS/Exchange.asmx"
    with pytest.raises(EwsUrlRefused, match="ews_url_address_refused"):
        add_mail_system(og, "Lab", ["127.0.0.1:8443"])
    excepted = SimpleNamespace(guard_exceptions=[IPv4Network("127.0.0.0/8")])
    refusing, settings.ENS = settings.ENS, excepted
    assert refusal(og, url) == "ews_url_not_listed"
    system = add_mail_system(og, "Lab", ["127.0.0.1:8443", "localhost:8443"])
    assert mail_system_for(og, url) == (system, url)
    settings.ENS = refusing
    assert refusal(og, url) == "ews_url_address_refused"
    assert refusal(og, "https://localhost:8443/") == "ews_url_address_refused"


def test_hosts_are_stored_in_one_form_and_the_default_must_be_on_one(og: OrganizationGroup) -> None:
    system = add_mail_system(og, "Main", ["Bücher.Example", "xn--bcher-kva.example:443"])
    assert system.hosts == ["xn--bcher-kva.example"]
    with pytest.raises(EwsUrlRefused, match="ews_url_not_listed"):
        add_mail_system(og, "Two", ["a.example"], default_ews_url="https://b.example/")
    with pytest.raises(EwsUrlRefused, match="ews_url_malformed"):
        add_mail_system(og, "Two", ["*.example"])
