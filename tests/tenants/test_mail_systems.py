"""A device may only name hosts that its group, or a group above it, lists."""

from __future__ import annotations

from ipaddress import IPv4Network
from types import SimpleNamespace

import pytest

from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system, mail_system_for, permitted
from apps.tenants.models import OrganizationGroup

pytestmark = pytest.mark.django_db


@pytest.fixture
def og() -> OrganizationGroup:
    return create_group("Acme")


ANNA = "anna@example.com"


def refusal(og: OrganizationGroup, url: str | None) -> str:
    with pytest.raises(EwsUrlRefused) as refused:
        mail_system_for(og, url, ANNA)
    return refused.value.code


def test_own_and_inherited_hosts_are_allowed_and_no_others(og: OrganizationGroup) -> None:
    system = add_mail_system(og, "Main", ["mail.example.com", "ews.example.com:444"])
    branch = create_group("Branch", create_group("Middle", og))
    stranger = create_group("Stranger")
    url = "https://mail.example.com/EWS/Exchange.asmx"
    assert mail_system_for(og, url, ANNA) == (system, url)
    assert mail_system_for(branch, "https://EWS.example.com:444/x", ANNA) == (
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
    assert mail_system_for(child, "https://b.example/", ANNA) == (near, "https://b.example/")
    assert mail_system_for(child, None, ANNA) == (near, "https://b.example/y")
    assert mail_system_for(og, None, ANNA)[1] == "https://a.example/x"


def test_without_address_and_default_it_is_missing(og: OrganizationGroup) -> None:
    assert refusal(og, None) == "ews_url_missing"
    add_mail_system(og, "Main", ["mail.example.com"], autodiscover=False)
    assert refusal(og, None) == "ews_url_missing"
    add_mail_system(og, "Empty", [], autodiscover=False)
    assert refusal(og, "https:///") == "ews_url_malformed"


class TestWithoutAnAddress:
    def test_the_nearest_that_lists_the_domain(self, og: OrganizationGroup) -> None:
        child = create_group("Child", og)
        far = add_mail_system(
            og,
            "Far",
            ["a.example"],
            default_ews_url="https://a.example/x",
            smtp_domains=["@Example.COM", "bücher.example"],
        )
        assert far.smtp_domains == ["example.com", "xn--bcher-kva.example"]
        add_mail_system(child, "Near", ["b.example"], default_ews_url="https://b.example/y")
        assert mail_system_for(child, None, ANNA) == (far, "https://a.example/x")
        assert mail_system_for(child, None, "b@BÜCHER.example")[0] == far
        nearer = add_mail_system(child, "Mine", ["c.example"], smtp_domains=["example.com"])
        assert mail_system_for(child, None, ANNA) == (nearer, "")
        assert mail_system_for(og, None, ANNA) == (far, "https://a.example/x")

    def test_a_domain_of_a_system_that_can_not_find_it(self, og: OrganizationGroup) -> None:
        add_mail_system(og, "Two", ["b.example"], default_ews_url="https://b.example/y")
        add_mail_system(og, "One", ["a.example"], smtp_domains=["example.com"], autodiscover=False)
        # Its phones belong there, and nowhere else.
        assert refusal(og, None) == "ews_url_missing"

    def test_else_a_default_before_autodiscover(self, og: OrganizationGroup) -> None:
        add_mail_system(og, "One", ["a.example"])
        two = add_mail_system(og, "Two", ["b.example"], default_ews_url="https://b.example/y")
        assert mail_system_for(og, None, ANNA) == (two, "https://b.example/y")

    def test_else_the_only_one_with_autodiscover(self, og: OrganizationGroup) -> None:
        one = add_mail_system(og, "One", ["a.example"])
        assert mail_system_for(og, None, ANNA) == (one, "")
        add_mail_system(og, "Off", ["b.example"], autodiscover=False)
        assert mail_system_for(og, None, ANNA) == (one, "")
        add_mail_system(og, "Other", ["c.example"])
        assert refusal(og, None) == "ews_url_missing"

    def test_an_address_that_was_given_wins(self, og: OrganizationGroup) -> None:
        add_mail_system(og, "One", ["a.example"], smtp_domains=["example.com"])
        two = add_mail_system(og, "Two", ["b.example"])
        url = "https://b.example/EWS/Exchange.asmx"
        assert mail_system_for(og, url, ANNA) == (two, url)

    @pytest.mark.parametrize("domain", ["", "@", "a b", "*.example", "127.0.0.1", "x.example:25"])
    def test_what_is_no_domain(self, og: OrganizationGroup, domain: str) -> None:
        with pytest.raises(EwsUrlRefused, match="smtp_domain_malformed"):
            add_mail_system(og, "One", ["a.example"], smtp_domains=[domain])


def test_what_autodiscover_may_find(og: OrganizationGroup) -> None:
    system = add_mail_system(og, "One", ["mail.example.com"])
    listed = "https://mail.example.com/EWS/Exchange.asmx"
    assert permitted(system, "https://MAIL.example.com:443/EWS/Exchange.asmx") == listed
    assert permitted(system, "https://mail.example.com/" + "x" * 500) is None
    for url in (
        "",
        "http://mail.example.com/",
        "https://localhost/",
        "https://a@mail.example.com/",
    ):
        assert permitted(system, url) is None
    system.hosts = ["localhost"]
    # Listed or not: never this machine.
    assert permitted(system, "https://localhost/EWS/Exchange.asmx") is None


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
    assert mail_system_for(og, url, ANNA) == (system, url)
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
