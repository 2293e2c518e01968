"""The set-up from nothing, step by step as docs/admin-guide.md tells it."""

from __future__ import annotations

import hmac
import struct
import time
from base64 import b32decode
from pathlib import Path

from playwright.sync_api import expect

from apps.lab.pictures.visitor import PATIENCE_MS, Visitor
from apps.lab.stand.facts import APP_ID
from apps.lab.stand.stand import Stand

OG = "Example Ltd"


def set_up(visitor: Visitor, stand: Stand) -> str:
    """All steps up to the values that the mail app needs; returns the API token."""
    create_group(visitor)
    add_mail_system(visitor, stand)
    make_channel(visitor)
    add_push_app(visitor, stand)
    token = create_token(visitor)
    check_app_configuration(visitor, stand, token)
    return token


def create_group(visitor: Visitor) -> None:
    """The organization group of the company; everything else hangs on it."""
    visitor.go("", "first-run-guide")
    visitor.follow_guide("Create an organization group")
    visitor.fill({"Name": OG})
    visitor.look("organization-group-add")
    visitor.press("Save")
    expect(visitor.page.get_by_text(OG).first).to_be_visible(timeout=PATIENCE_MS)


def add_mail_system(visitor: Visitor, stand: Stand) -> None:
    """The company's Exchange: which hosts, by which CA, private addresses or not."""
    visitor.follow_guide("Add your mail system")
    visitor.fill(
        {
            "Name": "Exchange",
            "Hosts": "\n".join(stand.exchange_hosts),
            "Default EWS address": stand.ews_url,
            "CA bundle": stand.exchange_ca.read_text("ascii"),
        }
    )
    visitor.look("mail-system-add")
    visitor.press("Save")
    listed = visitor.page.locator("#result_list").get_by_role("link", name="Exchange")
    expect(listed).to_be_visible(timeout=PATIENCE_MS)


def make_channel(visitor: Visitor) -> None:
    """The CNS' address stands in ens.env; a key for the way there is made and put into use."""
    visitor.choose("Site URLs", "site-urls")
    visitor.follow_guide("Make the Secure Channel Certificate")
    visitor.look("secure-channel-empty")
    visitor.press("Create")
    visitor.fill({"Label": "ENS 1"})
    visitor.look("secure-channel-create")
    visitor.press("Create")
    visitor.press("Roll")
    visitor.press("Roll")
    expect(visitor.page.get_by_text("Signs now")).to_be_visible(timeout=PATIENCE_MS)
    visitor.look("secure-channel")


def add_push_app(visitor: Visitor, stand: Stand) -> None:
    """The mail app's key as Apple hands it out, and Google's account."""
    key = stand.provider_key
    visitor.follow_guide("Add a push app")
    visitor.press("Add or replace")
    visitor.fill({"App": APP_ID, "Key id": key.key_id, "Team id": key.team_id})
    visitor.field("File").set_input_files(key.p8_file)
    visitor.look("push-app-add")
    visitor.press("Save")
    visitor.press("Add or replace")
    visitor.field("Kind").select_option("service_account")
    visitor.fill({"App": APP_ID})
    visitor.field("File").set_input_files(stand.service_account.file)
    visitor.press("Save")
    expect(visitor.page.get_by_role("cell", name=APP_ID)).to_have_count(2, timeout=PATIENCE_MS)


def create_token(visitor: Visitor, label: str = "Mail app") -> str:
    """The token of the mail app, which is shown once."""
    visitor.follow_guide("Create an API token")
    visitor.fill({"Label": label})
    visitor.look("api-token-add")
    visitor.press("Create token")
    shown = visitor.page.get_by_label("API token", exact=True)
    expect(shown).to_be_visible(timeout=PATIENCE_MS)
    visitor.look("api-token-created")
    token = shown.input_value()
    visitor.press("I have copied it")
    return token


def check_app_configuration(visitor: Visitor, stand: Stand, token: str) -> None:
    """What to type into the UEM, and the same as a file."""
    visitor.follow_guide("Give the app configuration to the phones")
    visitor.look("app-configuration")
    page = visitor.page
    expect(page.get_by_label("ENSLinkAddress")).to_have_value(stand.link_address)
    expect(page.get_by_label("EWSUrl")).to_have_value(stand.ews_url)
    visitor.fill({"ENSAPIToken": token})
    with page.expect_download() as download:
        visitor.press("Apple: property list")
    assert token in Path(download.value.path()).read_text("utf-8")


def download_configuration(visitor: Visitor, password: str) -> bytes:
    """`config.xml` under a password."""
    visitor.choose("Download configuration")
    visitor.fill({"Password of the file": password, "Once more": password})
    visitor.look("download-configuration")
    with visitor.page.expect_download() as download:
        visitor.press("Download config.xml")
    return Path(download.value.path()).read_bytes()


def block(visitor: Visitor, address: str) -> None:
    """Find a person's phone by the address, and block it."""
    page = visitor.choose("Devices")
    page.get_by_label("Email address, UEM id or device id").fill(address)
    visitor.press("Find")
    visitor.look("device")
    visitor.press("Block")
    visitor.look("device-block")
    visitor.press("Block")
    expect(page.get_by_text("The phone is blocked on all servers.")).to_be_visible(
        timeout=PATIENCE_MS
    )
    visitor.look("device-blocked")


def renew_token(visitor: Visitor, label: str = "Mail app") -> None:
    """The pages that ask before a token is rotated and revoked; nothing is done."""
    for verb, name in (("Rotate", "api-token-rotate"), ("Revoke", "api-token-revoke")):
        visitor.choose("API tokens")
        with visitor.page.expect_navigation():
            visitor.page.locator("#result_list").get_by_role("link", name=label).first.click()
        with visitor.page.expect_navigation():
            visitor.page.get_by_role("link", name=f"{verb} …").click()
        visitor.look(name)


def many_devices(visitor: Visitor) -> None:
    """Ask all phones of the table to check in, at once, and see the progress to its end."""
    page = visitor.choose("Devices")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("bulk_checkin")
    with page.expect_navigation():
        page.locator("button[name=index]").click()
    visitor.look("devices-bulk")
    page.locator("#bulk button[type=submit]").click()
    expect(page.locator("#bulk-back")).to_contain_text("Back to", timeout=3 * PATIENCE_MS)
    visitor.look("devices-bulk-done")


def second_factor(visitor: Visitor, username: str, password: str) -> None:
    """Set up an authenticator app, and sign in anew with it."""
    page = visitor.go("account/two-step/", "two-factor")
    visitor.go("account/two-step/totp/activate/")
    if page.locator("input[name=password]").count():
        visitor.fill({"Password": password})
        _send(visitor)
    secret = page.locator("#authenticator_secret").input_value()
    visitor.look("two-factor-activate")
    page.locator("input[name=code]").fill(_code(secret))
    _send(visitor)
    visitor.go("account/two-step/recovery-codes/", "two-factor-recovery-codes")
    page.context.clear_cookies()
    visitor.go("")
    visitor.fill({"User name": username, "Password": password})
    visitor.press("Sign in")
    visitor.look("two-factor-sign-in")


def _send(visitor: Visitor) -> None:
    with visitor.page.expect_navigation():
        visitor.page.locator("#main form, form").locator("button[type=submit]").last.click()


def _code(secret: str) -> str:
    """What an authenticator app shows now (RFC 6238, RFC 4226 5.3)."""
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(b32decode(secret), counter, "sha1")
    at = digest[-1] & 0x0F
    return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06}"


def every_page(visitor: Visitor) -> None:
    """Look at each page of the sidebar, and at the first row's of each list."""
    for line in _lines(visitor):
        visitor.choose(line, _named(line))
        row = visitor.page.locator("#result_list tbody th a, #result_list tbody td a").first
        if row.count():
            with visitor.page.expect_navigation():
                row.click()
            visitor.look(f"{_named(line)}-one")


def guide_is_over(visitor: Visitor) -> bool:
    """Whether the dashboard has no first-run guide any more: a phone has rung."""
    return visitor.go("").locator(".ens-guide").count() == 0


def _lines(visitor: Visitor) -> list[str]:
    """The sidebar's lines, without the names of their icons."""
    texts = visitor.page.locator("#nav-sidebar-apps a").all_inner_texts()
    return [text.split("\n")[-1].strip() for text in texts]


def _named(line: str) -> str:
    return line.lower().replace("'", "").replace(" ", "-")


def diagnose(visitor: Visitor) -> None:
    """Run every test."""
    visitor.choose("Diagnostics")
    visitor.field("What to test").select_option(label="Everything")
    visitor.press("Run the test")
    expect(visitor.page.locator(".ens-steps").first).to_be_visible(timeout=6 * PATIENCE_MS)
    visitor.look("diagnostics-result")
