"""`python -m apps.lab.live.screenshot <file>`: the live page with some mail, as a picture."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from apps.lab.live import browser
from apps.lab.stand.stand import Stand

WIDTH, HEIGHT = 1280, 860
RING_MS = 20_000


def main(file: Path) -> int:
    chromium = browser.find()
    if chromium is None:
        print("no Chromium found on PATH", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="ens-page-", ignore_cleanup_errors=True) as home,
        Stand(Path(home) / "stand") as stand,
        browser.opened(chromium) as opened,
    ):
        page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(stand.open_page())
        _act(page)
        page.screenshot(path=file)
    print(f"{file} taken")
    return 0


def _act(page: Page) -> None:
    """Some mails arrive, one is read."""
    expect(page.get_by_text("waiting for mail")).to_have_count(2, timeout=RING_MS)
    chips = page.locator(".chips button")
    expect(chips.first).to_be_visible()
    count = chips.count()
    for number in range(count):
        chips.nth(number).click()
        page.get_by_role("button", name="Send mail").click()
        _expect_badges(page, number + 1)
    page.get_by_role("button", name="Mark read").last.click()
    _expect_badges(page, count - 1)
    # The rings and glows come to rest.
    page.wait_for_timeout(2500)


def _expect_badges(page: Page, number: int) -> None:
    expect(page.locator(".badge")).to_have_text([str(number)] * 2, timeout=RING_MS)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
