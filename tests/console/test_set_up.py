"""The pages with which a group is set up: tokens, mail systems, the app's configuration."""

from __future__ import annotations

import json
import plistlib
import re
from pathlib import Path

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.exchange.gateway import Gateway
from apps.lab.ca import LabCa
from apps.subscriptions.way import endpoint_of, proxy_of
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import ApiToken, MailSystem
from apps.tenants.tokens import authenticate, issue_token
from apps.wire.proxy import Proxy
from tests.console.people import BASE, World, signed_in

TOKENS = f"{BASE}tenants/apitoken/"
SYSTEMS = f"{BASE}tenants/mailsystem/"
APP = f"{BASE}app-configuration/"


@pytest.fixture
def admin(world: World) -> Client:
    return signed_in(world.people[Role.OG_ADMINISTRATOR])


def made_token(client: Client, label: str = "phones") -> str:
    page = client.post(f"{TOKENS}add/", {"label": label, "days": "90"})
    found = re.search(r'value="(ens_[A-Za-z0-9_-]{43})"', page.content.decode())
    assert found is not None
    return found[1]


def test_a_token_is_shown_once(admin: Client, world: World) -> None:
    token = made_token(admin)
    assert authenticate(token) == world.mine
    row = ApiToken.objects.get()
    assert row.expires_at is not None
    for url in (TOKENS, f"{TOKENS}{row.pk}/change/"):
        page = admin.get(url).content.decode()
        assert "phones" in page and token not in page
    entry = AuditEntry.objects.get(action="api_token.create")
    assert token not in str(vars(entry)) and entry.actor == "og_administrator"


def test_rotate_and_revoke(admin: Client) -> None:
    old = made_token(admin)
    row = ApiToken.objects.get()
    page = admin.post(f"{TOKENS}{row.pk}/rotate/", {"overlap": "0"}).content.decode()
    new = re.search(r'value="(ens_[A-Za-z0-9_-]{43})"', page)
    assert new is not None and authenticate(new[1]) and not authenticate(old)
    # What is no longer good can't be rotated again.
    admin.post(f"{TOKENS}{row.pk}/rotate/", {"overlap": "7"})
    assert ApiToken.objects.count() == 2
    successor = ApiToken.objects.latest("pk")
    assert b"can&#x27;t subscribe" in admin.get(f"{TOKENS}{successor.pk}/revoke/").content
    assert authenticate(new[1])
    admin.post(f"{TOKENS}{successor.pk}/revoke/")
    assert not authenticate(new[1])
    assert AuditEntry.objects.filter(action="api_token.revoke").count() == 1


@pytest.mark.parametrize("role", [Role.HELP_DESK, Role.AUDITOR])
def test_who_may_not_manage_tokens(world: World, role: str) -> None:
    issue_token(world.mine, "phones")
    row = ApiToken.objects.get()
    client = signed_in(world.people[role])
    assert client.post(f"{TOKENS}{row.pk}/revoke/").status_code == 403
    assert client.post(f"{TOKENS}add/", {"label": "x", "days": ""}).status_code == 403
    assert b"/revoke/" not in client.get(f"{TOKENS}{row.pk}/change/").content
    row.refresh_from_db()
    assert row.revoked_at is None and ApiToken.objects.count() == 1


def system(**changes: str) -> dict[str, str]:
    return {
        "name": "Headquarters",
        "hosts": "MAIL.example.com\news.example.com:444",
        "default_ews_url": "https://mail.example.com/EWS/Exchange.asmx",
        "ca_pem": "",
    } | changes


def test_a_mail_system(admin: Client, world: World, tmp_path: Path) -> None:
    pem = LabCa(tmp_path).pem
    assert admin.post(f"{SYSTEMS}add/", system(ca_pem=pem)).status_code == 302
    row = MailSystem.objects.get()
    assert (row.og, row.hosts) == (world.mine, ["ews.example.com:444", "mail.example.com"])
    assert row.ca_pem.strip() == pem.strip()
    assert admin.post(f"{SYSTEMS}add/", system()).status_code == 200  # the name is taken
    admin.post(f"{SYSTEMS}{row.pk}/change/", system(hosts="mail.example.com"))
    row.refresh_from_db()
    assert row.hosts == ["mail.example.com"]
    changed = AuditEntry.objects.get(action="mail_system.change")
    assert "ews.example.com:444" in str(changed.before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hosts": "127.0.0.1"},
        {"hosts": "https://mail.example.com"},
        {"hosts": ""},
        {"default_ews_url": "https://elsewhere.example.com/EWS/Exchange.asmx"},
        {"default_ews_url": "http://mail.example.com/EWS/Exchange.asmx"},
        {"ca_pem": "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----"},
        {"ca_pem": "ü"},
    ],
)
def test_what_is_refused(admin: Client, wrong: dict[str, str]) -> None:
    page = admin.post(f"{SYSTEMS}add/", system(**wrong))
    assert page.status_code == 200 and b"Traceback" not in page.content
    assert not MailSystem.objects.exists()


def test_its_mail_domains(admin: Client) -> None:
    asked = system(smtp_domains="@Example.COM\nbücher.example", autodiscover="on")
    assert admin.post(f"{SYSTEMS}add/", asked).status_code == 302
    row = MailSystem.objects.get()
    assert (row.smtp_domains, row.autodiscover) == (["example.com", "xn--bcher-kva.example"], True)
    page = admin.get(f"{SYSTEMS}{row.pk}/change/").content.decode()
    assert "Autodiscover" in page and "example.com\nxn--bcher-kva.example" in page
    # A box that is not ticked is not sent.
    cleared = admin.post(f"{SYSTEMS}{row.pk}/change/", system(smtp_domains=""))
    assert cleared.status_code == 302
    row.refresh_from_db()
    assert (row.smtp_domains, row.autodiscover) == ([], False)
    page = admin.post(f"{SYSTEMS}{row.pk}/change/", system(smtp_domains="a b"))
    assert "is no domain" in page.content.decode()


def test_the_leave_to_call_private_addresses_is_for_the_hosts_that_had_it(
    admin: Client, world: World
) -> None:
    admin.post(f"{SYSTEMS}add/", system())
    MailSystem.objects.update(allow_private=True)
    row = MailSystem.objects.get()
    more = {"hosts": "\n".join([*row.hosts, "intranet.corp"])}
    answer = admin.post(f"{SYSTEMS}{row.pk}/change/", system(**more))
    assert b"only a system administrator" in answer.content
    assert MailSystem.objects.get().hosts == row.hosts
    assert admin.post(f"{SYSTEMS}{row.pk}/change/", system(name="Renamed")).status_code == 302
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    assert chief.post(f"{SYSTEMS}{row.pk}/change/", system(**more)).status_code == 302
    assert "intranet.corp" in MailSystem.objects.get().hosts


def test_whom_a_proxy_may_be_asked_for_is_a_system_administrators_word(
    admin: Client, world: World
) -> None:
    """The proxy knows names that we can't look up, and so can't judge."""
    admin.post(f"{SYSTEMS}add/", system())
    MailSystem.objects.update(proxy_url="http://proxy.example.com:8080")
    row = MailSystem.objects.get()
    more = {"hosts": "\n".join([*row.hosts, "intranet.corp"])}
    answer = admin.post(f"{SYSTEMS}{row.pk}/change/", system(**more))
    assert b"only a system administrator" in answer.content
    assert MailSystem.objects.get().hosts == row.hosts
    assert admin.post(f"{SYSTEMS}{row.pk}/change/", system(name="Renamed")).status_code == 302


def test_private_addresses_are_a_system_administrators_word(admin: Client, world: World) -> None:
    admin.post(f"{SYSTEMS}add/", system(allow_private="on"))
    row = MailSystem.objects.get()
    assert row.allow_private is False
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    chief.post(f"{SYSTEMS}{row.pk}/change/", system(allow_private="on"))
    row = MailSystem.objects.get()
    assert row.allow_private
    admin.post(f"{SYSTEMS}{row.pk}/change/", system())
    assert MailSystem.objects.get().allow_private


def way(**changes: str) -> dict[str, str]:
    return system(
        proxy_url="http://proxy.example.com:8080/",
        proxy_auth="basic",
        proxy_user="ens-svc",
        proxy_password="Secret-of-the-proxy",
        tls_floor="1.0",
        gateway="on",
        gateway_headers="X-Device-Id: {eas_id}\nX-Phone: {model}/{os_version}",
        gateway_refusals="449, 403",
    ) | {name: value for name, value in changes.items() if value is not None}


def test_the_way_to_exchange(world: World) -> None:
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    assert chief.post(f"{SYSTEMS}add/", way()).status_code == 302
    row = MailSystem.objects.get()
    endpoint = endpoint_of(row, "https://mail.example.com/EWS/Exchange.asmx")
    assert endpoint.proxy == Proxy(
        "proxy.example.com", 8080, "basic", "ens-svc", "Secret-of-the-proxy"
    )
    assert endpoint.tls_floor == "1.0"
    assert endpoint.gateway == Gateway(
        (("X-Device-Id", "{eas_id}"), ("X-Phone", "{model}/{os_version}")), (403, 449)
    )
    assert b"Secret" not in bytes(row.sealed_proxy_login or b"")
    page = chief.get(f"{SYSTEMS}{row.pk}/change/").content
    assert b"ens-svc" in page and b"Secret" not in page
    entry = AuditEntry.objects.get(action="mail_system.create")
    assert "1.0" in str(entry.after) and "Secret" not in str(vars(entry))
    # Nothing typed anew: the login stays.
    assert chief.post(f"{SYSTEMS}{row.pk}/change/", way(proxy_password="")).status_code == 302
    assert proxy_of(MailSystem.objects.get()) == endpoint.proxy
    # But not for another proxy, which would learn it.
    away = way(proxy_password="", proxy_url="http://other.example.com:8080")
    assert b"Type it once more" in chief.post(f"{SYSTEMS}{row.pk}/change/", away).content
    none = system(proxy_url="", proxy_auth="none", proxy_user="", tls_floor="1.2")
    assert chief.post(f"{SYSTEMS}{row.pk}/change/", none).status_code == 302
    plain = endpoint_of(MailSystem.objects.get(), endpoint.url)
    assert (plain.proxy, plain.tls_floor, plain.gateway) == (None, "1.2", None)
    # Read anew from the page it was: nothing changes by saving.
    assert MailSystem.objects.get().sealed_proxy_login is None


def test_a_login_of_another_row_opens_nothing(world: World) -> None:
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    chief.post(f"{SYSTEMS}add/", way(proxy_auth="ntlm"))
    other = add_mail_system(world.mine, "Other", ["other.example.com"])
    row = MailSystem.objects.get(name="Headquarters")
    MailSystem.objects.filter(pk=other.pk).update(
        proxy_url=row.proxy_url, proxy_auth="ntlm", sealed_proxy_login=row.sealed_proxy_login
    )
    # And the account of the service does not log in instead.
    assert proxy_of(MailSystem.objects.get(pk=other.pk)) == Proxy("proxy.example.com", 8080)


@pytest.mark.parametrize(
    "wrong",
    [
        {"proxy_url": "https://proxy.example.com"},
        {"proxy_url": "http://me:too@proxy.example.com"},
        {"proxy_url": "http://proxy.example.com/pac"},
        {"proxy_user": ""},
        {"proxy_auth": "digest"},
        {"tls_floor": "0.9"},
        {"gateway_headers": "Authorization: {eas_id}"},
        {"gateway_headers": "X-Forwarded-For: {eas_id}"},
        {"gateway_headers": "X-Id: always"},
        {"gateway_headers": "X-Id: {password}"},
        {"gateway_headers": "X-Id: {eas_id"},
        {"gateway_headers": "X-Id: {eas_id}\nx-id: {uem_id}"},
        {"gateway_headers": "no header"},
        {"gateway_headers": "X-Id: {eas_id}\tand"},
        {"gateway_refusals": "401"},
        {"gateway_refusals": "503"},
        {"gateway_refusals": "everything"},
    ],
)
def test_what_is_no_way_to_exchange(world: World, wrong: dict[str, str]) -> None:
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    page = chief.post(f"{SYSTEMS}add/", way(**wrong))
    assert page.status_code == 200 and not MailSystem.objects.exists()


def test_a_proxy_is_a_system_administrators_word(admin: Client) -> None:
    assert admin.post(f"{SYSTEMS}add/", way()).status_code == 302
    row = MailSystem.objects.get()
    assert (row.proxy_url, row.proxy_auth, row.sealed_proxy_login) == ("", "none", None)
    assert (row.gateway, row.tls_floor) == (True, "1.0")
    assert b"proxy_password" not in admin.get(f"{SYSTEMS}{row.pk}/change/").content


@pytest.mark.parametrize(
    "loosened", [{"tls_floor": "1.1"}, {"gateway": ""}, {"proxy_url": "http://other:1"}]
)
def test_what_loosens_the_way_wants_a_step_up(
    world: World, settings: Settings, loosened: dict[str, str]
) -> None:
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    now = way(tls_floor="1.2", proxy_auth="none", proxy_user="", proxy_password="")
    now |= {"proxy_url": "http://proxy.example.com:8080", "gateway_refusals": "403, 449"}
    chief.post(f"{SYSTEMS}add/", now)
    row = MailSystem.objects.get()
    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = -1
    url = f"{SYSTEMS}{row.pk}/change/"
    assert "/account/again/" in chief.post(url, now | loosened)["Location"]
    assert MailSystem.objects.get().tls_floor == "1.2" and MailSystem.objects.get().gateway
    assert chief.post(url, now | {"name": "Renamed"})["Location"].endswith("mailsystem/")
    assert MailSystem.objects.get().name == "Renamed"


def test_the_apps_configuration_as_files(admin: Client, world: World) -> None:
    add_mail_system(
        world.mine,
        "Headquarters",
        ["mail.example.com"],
        default_ews_url="https://mail.example.com/EWS/Exchange.asmx",
    )
    token = made_token(admin)
    page = admin.get(APP).content.decode()
    assert "https://mail.example.com/EWS/Exchange.asmx" in page and "ENSLinkAddress" in page
    apple = plistlib.loads(admin.post(APP, {"token": token, "file": "plist"}).content)
    android = json.loads(admin.post(APP, {"token": token, "file": "json"}).content)
    assert apple == android
    assert apple["ENSAPIToken"] == token and apple["AccountNotifyPush"] is True
    assert apple["ENSLinkAddress"].endswith("/api/ens")
    assert token not in str([vars(entry) for entry in AuditEntry.objects.all()])


def test_another_groups_token_makes_no_file(admin: Client, world: World) -> None:
    strangers = issue_token(world.foreign, "theirs")
    for token in (strangers, "ens_" + "A" * 43, ""):
        page = admin.post(APP, {"token": token, "file": "json"})
        assert page["Content-Type"].startswith("text/html") and page.status_code == 200
