"""The live page as its visitor has it: in headless Chromium, with the whole road behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from apps.lab.live import browser
from apps.lab.stand.stand import Stand

pytestmark = pytest.mark.slow

RING_MS = 20_000
BADGE = ".badge"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("live") / "stand") as it:
        yield it


@pytest.fixture(scope="module")
def address(stand: Stand) -> str:
    return stand.open_page()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browser.find()
    if path is None:
        pytest.skip("no Chromium on PATH")
    with browser.opened(path) as it:
        yield it


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """A tab of the page in which nothing goes wrong unnoticed and nothing comes from elsewhere."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: line.type == "error" and faults.append(line.text))
    page.on("request", lambda it: it.url.startswith(address) or faults.append(it.url))
    page.goto(address)
    expect(page.locator(".device")).to_have_count(2)
    for phone in page.locator(".took").all():
        expect(phone).to_have_text(re.compile("waiting|rang"), timeout=RING_MS)
    yield page
    context.close()
    assert faults == []


def write(page: Page, sender: str, subject: str) -> None:
    page.get_by_label("From").fill(sender)
    page.get_by_label("Subject").fill(subject)
    page.get_by_role("button", name="Send mail").click()


def test_both_phones_ring_and_the_badge_falls_when_the_mail_is_read(page: Page) -> None:
    before = int(page.locator("#unread").inner_text() or 0)
    write(page, "Ben Carter", "Lunch on Friday?")

    for phone in page.locator(".device").all():
        notice = phone.locator(".notice").first
        expect(notice.locator(".title")).to_have_text("Ben Carter", timeout=RING_MS)
        expect(notice.locator(".body")).to_have_text("Lunch on Friday?")
        expect(phone.locator(BADGE)).to_have_text(str(before + 1))
        expect(phone.locator(".took")).to_have_text(re.compile(r"rang after \d\.\d\d s"))
    row = page.locator("#inbox li").first
    expect(row).to_contain_text("Lunch on Friday?")

    row.get_by_role("button", name="Mark read").click()

    expect(row).to_have_class("read")
    for phone in page.locator(".device").all():
        expect(phone.locator(BADGE)).to_have_text(str(before), timeout=RING_MS)


def test_a_suggestion_fills_the_form(page: Page) -> None:
    page.locator(".chips button").first.click()
    assert page.get_by_label("From").input_value() == "Ben Carter"
    assert page.get_by_label("Subject").input_value() == "Lunch on Friday?"


def test_markup_in_a_mail_stays_text(page: Page) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    write(page, "<b>Eve</b>", hostile)
    for phone in page.locator(".device").all():
        expect(phone.locator(".body").first).to_have_text(hostile, timeout=RING_MS)
        expect(phone.locator(".title").first).to_have_text("<b>Eve</b>")
    expect(page.locator("#inbox .subject").first).to_have_text(hostile)
    assert page.title() == "ENS live"


def test_a_second_visitor_sees_the_same(page: Page, chromium: Browser, address: str) -> None:
    other = chromium.new_page()
    other.goto(address)
    write(page, "Carla Conti", "For everyone to see")
    for tab in (page, other):
        notices = tab.locator(".device").first.locator(".notice")
        expect(notices.first).to_contain_text("For everyone to see", timeout=RING_MS)
    other.close()


@pytest.mark.parametrize("width", [1440, 1024, 820, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_or_overlaps(page: Page, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator(part).bounding_box() for part in ("#compose", ".phones")]
    mail, phones = boxes[0], boxes[1]
    assert mail is not None and phones is not None
    beside = mail["x"] + mail["width"] <= phones["x"] + 1
    above = phones["y"] + phones["height"] <= mail["y"] + 1
    assert beside or above


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Origin": "http://evil.example"}, '{"sender": "a", "subject": "b"}', 403),
        ({"Host": "evil.example"}, '{"sender": "a", "subject": "b"}', 403),
        ({"Content-Type": "text/plain"}, '{"sender": "a", "subject": "b"}', 415),
        ({}, "not JSON", 400),
        ({}, '{"sender": "a"}', 400),
        ({}, '{"sender": "a", "subject": "two\\nlines"}', 400),
        ({}, '{"sender": "a", "subject": ""}', 400),
        ({}, '{"sender": "a", "subject": "' + "x" * 9000 + '"}', 413),
    ],
)
def test_writes_no_mail_for_strangers_or_nonsense(
    address: str, headers: dict[str, str], body: str, status: int
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    answer = requests.post(f"{address}mails", data=body, headers=sent, timeout=10)
    assert answer.status_code == status


def test_an_unknown_mail_can_not_be_read(address: str) -> None:
    answer = requests.post(f"{address}read", json={"id": "nonsense"}, timeout=10)
    assert answer.status_code == 404
