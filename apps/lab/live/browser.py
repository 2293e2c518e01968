"""A headless Chromium, where the machine has one. Playwright is among the developers' requirements.

Debian's own Chromium serves; nothing is downloaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
# No sandbox: it can't be had in most containers, and the only pages opened are our own.
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def find() -> str | None:
    """The path of a Chromium, or None when there is none on PATH."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """A running browser, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
