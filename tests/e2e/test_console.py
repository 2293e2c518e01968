"""The console as an administrator has it, in a browser: from nothing to a ringing phone, then
`config.xml`, and a phone that is blocked. No page may fail, run what it shouldn't, or keep people
out who need more than eyes and a mouse (axe-core; `npm ci --prefix tests/axe`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from apps.lab.live import browser
from apps.lab.phone import Phone, Refused
from apps.lab.pictures import walk
from apps.lab.pictures.visitor import SCHEMES, Visitor, dress, visiting
from apps.lab.stand.stand import ADMINISTRATOR, Layout, Stand
from apps.lab.stand.waiting import until
from apps.operations import config_xml
from tests.e2e.road import RING_S, Road

pytestmark = pytest.mark.timeout(240)

AXE_FILE = Path(__file__).parents[1] / "axe" / "node_modules" / "axe-core" / "axe.min.js"
# What a phone says of itself is text, whatever stands in it.
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"=1+1{MARKUP}\u202e"
PASSWORD = "correct horse 77 staple"
COUNTED_S = 75.0
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class Axe:
    """Looks at every page, in light and dark, and keeps what is serious."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.looked_at: set[str] = set()
        self._script = AXE_FILE.read_text("utf-8")

    def __call__(self, page: Page, name: str) -> None:
        if name in self.looked_at:
            return
        self.looked_at.add(name)
        # Not added as a script tag: the console's policy would, rightly, not run it.
        page.evaluate(f"{self._script}; undefined")
        for scheme in SCHEMES:
            dress(page, scheme)
            # Colours fade over.
            page.wait_for_timeout(200)
            # What differs in the dark is the colours.
            rules = RULES if scheme == "light" else ["color-contrast"]
            answer = page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)
            for violation in answer["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    where = [node["html"][:120] for node in violation["nodes"]]
                    self.found.append(f"{name} ({scheme}): {violation['id']}: {where}")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Nothing is set up but an administrator."""
    home = tmp_path_factory.mktemp("console") / "stand"
    with Stand(home, layout=Layout(empty=True)) as it:
        yield it


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browser.find()
    if path is None:
        pytest.skip("no Chromium on PATH")
    with browser.opened(path) as it:
        yield it


@pytest.fixture(scope="module")
def axe() -> Axe:
    if not AXE_FILE.exists():
        pytest.skip("no axe-core: npm ci --prefix tests/axe")
    return Axe()


def test_from_nothing_to_a_blocked_phone(stand: Stand, chromium: Browser, axe: Axe) -> None:
    road = Road(stand)
    with visiting(chromium, stand.console_url, axe) as visitor:
        visitor.sign_in(ADMINISTRATOR, stand.console_password)
        token = walk.set_up(visitor, stand)
        walk.create_token(visitor, MARKUP)
        _can_be_heard(visitor)
        phone = _rings(road, token)
        walk.every_page(visitor)
        _what_phones_say_is_text(visitor)
        _config_xml(visitor)
        walk.block(visitor, phone.account.email)
        _is_silent_and_stays_out(road, phone)
        # What was announced is counted by the minute.
        until("the end of the guide", lambda: walk.guide_is_over(visitor), COUNTED_S)
        walk.many_devices(visitor)
        walk.renew_token(visitor)
        walk.second_factor(visitor, ADMINISTRATOR, stand.console_password)
        assert visitor.faults == []
    assert axe.looked_at
    assert axe.found == []


def _rings(road: Road, token: str) -> Phone:
    """A phone with the new token joins, and rings with the next mail."""
    road.stand.make_keys()
    road.stand.facts = replace(road.stand.facts, api_token=token)
    user = road.user("anna")
    phone = road.joined(user, HOSTILE)
    road.exchange.deliver(user, "Hello")
    road.rings(phone, "Hello")
    return phone


def _can_be_heard(visitor: Visitor) -> None:
    """Lines are called what they say, without their icons; the content can be jumped to."""
    page = visitor.go("tenants/mailsystem/")
    line = visitor.sidebar().get_by_role("link", name="Mail systems", exact=True)
    expect(line).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)


def _what_phones_say_is_text(visitor: Visitor) -> None:
    """In the table and in its export; a spreadsheet takes no cell for a formula."""
    page = visitor.choose("Devices")
    expect(page.get_by_text(MARKUP).first).to_be_visible()
    with page.expect_download() as download:
        visitor.press("Export CSV")
    text = Path(download.value.path()).read_text("utf-8-sig")
    cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
    assert any(MARKUP in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]


def _config_xml(visitor: Visitor) -> None:
    """The file opens with its password and with no other."""
    file = walk.download_configuration(visitor, PASSWORD)
    opened = config_xml.unseal(file, PASSWORD)
    assert opened.og_name == walk.OG
    assert opened.registered
    with pytest.raises(config_xml.ConfigRefused) as refused:
        config_xml.unseal(file, PASSWORD + "!")
    assert refused.value.code == "wrong_password"


def _is_silent_and_stays_out(road: Road, phone: Phone) -> None:
    user = next(iter(road.stand.users))
    other = road.joined(user, "another")
    sent_to = replace(user, address=phone.account.email)
    road.exchange.deliver(sent_to, "Not for you")
    road.exchange.deliver(user, "For the other")
    road.rings(other, "For the other", RING_S)
    road.quiet()
    assert "Not for you" not in road.subjects(phone)
    with pytest.raises(Refused) as refused:
        phone.subscribe()
    assert refused.value.code == "device_blocked"
