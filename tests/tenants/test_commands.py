"""The administrator's commands: their output can be used by scripts, their errors are one line."""

from __future__ import annotations

import uuid
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.audit.models import AuditEntry
from apps.tenants.groups import find_group
from apps.tenants.mail_systems import mail_system_for
from apps.tenants.models import ApiToken, MailSystem
from apps.tenants.tokens import authenticate

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().rstrip("\n")


def test_from_nothing_to_a_token_that_works() -> None:
    guid = run("ens_og", "create", "Acme")
    assert str(uuid.UUID(guid)) == guid
    child = run("ens_og", "create", "Branch", "--parent", "Acme")
    assert run("ens_og", "list").splitlines() == [f"{guid}\t1\tAcme", f"{child}\t2\tBranch"]
    token = run("ens_token", "create", "--og", child, "--label", "phones", "--days", "30")
    found = authenticate(token)
    assert found is not None and found.name == "Branch"
    assert token not in run("ens_token", "list", "--og", child)
    assert run("ens_token", "list", "--og", child).startswith("phones\t")
    assert run("ens_token", "revoke", "--og", child, "--label", "phones") == "1 revoked"
    assert authenticate(token) is None


def test_mail_systems_are_added_listed_and_removed() -> None:
    run("ens_og", "create", "Acme")
    arguments = ("--og", "Acme", "--name", "Main", "--host", "Mail.Example.com")
    url = "https://mail.example.com/EWS/Exchange.asmx"
    added = run("ens_mail_system", "add", *arguments, "--default-ews-url", url, "--allow-private")
    assert added == "mail.example.com"
    assert run("ens_mail_system", "list", "--og", "Acme") == f"Main\tmail.example.com\t{url}"
    system, _ = mail_system_for(find_group("Acme"), None, "a@x.example")
    assert system.allow_private and system.autodiscover and not system.smtp_domains
    with pytest.raises(CommandError, match="has a mail system of this name"):
        run("ens_mail_system", "add", *arguments)
    assert run("ens_mail_system", "remove", "--og", "Acme", "--name", "Main") == "removed"
    assert not MailSystem.objects.exists()


def test_a_mail_system_with_domains() -> None:
    run("ens_og", "create", "Acme")
    arguments = ("--og", "Acme", "--name", "Main", "--host", "mail.example.com")
    with pytest.raises(CommandError, match="smtp_domain_malformed"):
        run("ens_mail_system", "add", *arguments, "--smtp-domain", "a b")
    more = ("--smtp-domain", "Example.com", "--smtp-domain", "example.org", "--no-autodiscover")
    run("ens_mail_system", "add", *arguments, *more)
    system = MailSystem.objects.get()
    assert (system.smtp_domains, system.autodiscover) == (["example.com", "example.org"], False)


def test_a_mail_system_behind_a_gateway() -> None:
    run("ens_og", "create", "Acme")
    add = ("ens_mail_system", "add", "--og", "Acme", "--host", "mail.example.com")
    header, statuses = ("--gateway-header", "X-Id: {eas_id}"), ("--gateway-refusal", "449")
    run(*add, "--name", "Main", "--gateway", *header, *statuses, "--tls-floor", "1.1")
    system = MailSystem.objects.get()
    assert (system.gateway, system.gateway_headers) == (True, ["X-Id: {eas_id}"])
    assert (system.gateway_refusals, system.tls_floor) == ([449], "1.1")
    assert AuditEntry.objects.get(action="mail_system.create").after["tls_floor"] == "1.1"
    for wrong in (("--gateway-header", "Cookie: {eas_id}"), ("--gateway-refusal", "200")):
        with pytest.raises(CommandError, match="the gateway is refused"):
            run(*add, "--name", "Other", "--gateway", *wrong)


def test_a_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    run("ens_og", "create", "Acme")
    bundle = tmp_path / "ca.pem"
    bundle.write_text("not a certificate")
    arguments = ("--og", "Acme", "--name", "Main", "--host", "mail.example.com", "--ca-file")
    for path in (bundle, tmp_path / "absent.pem"):
        with pytest.raises(CommandError, match="--ca-file can't be read"):
            run("ens_mail_system", "add", *arguments, str(path))
    assert not MailSystem.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("ens_og", "create", "Acme"), "already an organization group of this name"),
        (("ens_og", "create", " "), "1 to 200 printable"),
        (("ens_og", "create", "a\nb"), "1 to 200 printable"),
        (("ens_og", "create", "x", "--parent", "Nobody"), "no such organization group"),
        (("ens_og", "create", "x", "--parent", "Twin"), "give the GUID"),
        (("ens_token", "create", "--og", "Nobody", "--label", "x"), "no such organization"),
        (("ens_token", "create", "--og", "Acme", "--label", "old"), "has a token of this label"),
        (("ens_token", "create", "--og", "Acme", "--label", "y" * 201), "--label"),
        (("ens_token", "create", "--og", "Acme", "--label", "x", "--days", "0"), "--days"),
        (("ens_token", "revoke", "--og", "Acme", "--label", "x"), "no valid token"),
        (("ens_mail_system", "remove", "--og", "Acme", "--name", "x"), "no mail system"),
        (
            ("ens_mail_system", "add", "--og", "Acme", "--name", "x", "--host", "127.0.0.1"),
            "ews_url_address_refused",
        ),
    ],
)
def test_mistakes_get_a_clear_line(arguments: tuple[str, ...], error: str) -> None:
    run("ens_og", "create", "Acme")
    run("ens_og", "create", "Twin")
    run("ens_og", "create", "Twin", "--parent", "Acme")
    run("ens_token", "create", "--og", "Acme", "--label", "old")
    with pytest.raises(CommandError, match=error):
        run(*arguments)
    assert ApiToken.objects.count() == 1
