"""An administrator before a browser: goes to pages, fills in forms by their labels, presses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, expect

# Pages are drawn by a server that shares its machine with everything else of a stand.
PATIENCE_MS = 20_000
Scheme = Literal["light", "dark"]
# The light one last: it is how a visitor goes on.
SCHEMES: tuple[Scheme, ...] = ("dark", "light")
Seen = Callable[[Page, str], None]


def _nothing(page: Page, name: str) -> None:
    """Whoever only walks through doesn't look."""


class Visitor:
    """One tab at the console of `address`. `seen` is called for each page that is looked at.

    `faults` lists what no page may do: fail, log an error, open a dialog, ask another server.
    """

    def __init__(self, page: Page, address: str, seen: Seen = _nothing) -> None:
        self.page, self.address, self._seen = page, address, seen
        self.faults: list[str] = []
        server = re.match(r"https?://[^/]+/", address)
        self._server = server[0] if server else address
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("console", self._said)
        page.on("dialog", self._dialog)
        page.on("request", lambda it: self._asked(it.url))

    def go(self, path: str, name: str = "") -> Page:
        """Open a page by its address below the console's; with a `name` it is looked at."""
        self.page.goto(f"{self.address}{path}")
        if name:
            self.look(name)
        return self.page

    def look(self, name: str) -> None:
        """The page as it stands now is worth a look."""
        self.page.wait_for_load_state()
        self._seen(self.page, name)

    def choose(self, line: str, name: str = "") -> Page:
        """Follow a line of the sidebar."""
        with self.page.expect_navigation():
            self.sidebar().get_by_role("link", name=line, exact=True).click()
        if name:
            self.look(name)
        return self.page

    def sidebar(self) -> Locator:
        """The column on the left."""
        return self.page.locator("#nav-sidebar")

    def follow_guide(self, step: str) -> None:
        """Go from the dashboard to where a step of the first-run guide leads."""
        line = self.go("").locator(".ens-guide").get_by_role("link", name=step)
        with self.page.expect_navigation():
            line.click()

    def sign_in(self, username: str, password: str) -> None:
        """Sign in from the first page."""
        self.go("", "sign-in")
        self.fill({"User name": username, "Password": password})
        self.press("Sign in")
        expect(self.sidebar()).to_be_attached(timeout=PATIENCE_MS)

    def fill(self, values: dict[str, str]) -> None:
        """Fill in fields, each by how its label begins."""
        for label, value in values.items():
            self.field(label).fill(value)

    def field(self, label: str) -> Locator:
        """The field whose label begins so."""
        return self.page.get_by_label(re.compile(rf"^\s*{re.escape(label)}")).first

    def press(self, name: str) -> None:
        """Press the button or the link that looks like one."""
        wanted = re.compile(rf"^\s*{re.escape(name)}")
        button = self.page.get_by_role("button", name=wanted)
        link = self.page.get_by_role("link", name=wanted)
        button.or_(link).first.click()
        self.page.wait_for_load_state()

    def _said(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.faults.append(line.text)

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, url: str) -> None:
        if not url.startswith((self._server, "data:", "blob:")):
            self.faults.append(f"asked elsewhere: {url}")


def dress(page: Page, scheme: Scheme) -> None:
    """Show the page in light or dark at once, without loading it again: some show only once."""
    page.emulate_media(color_scheme=scheme)
    page.evaluate(
        "dark => document.documentElement.classList.toggle('dark', dark)", scheme == "dark"
    )


@contextmanager
def visiting(
    browser: Browser, address: str, seen: Seen = _nothing, *, width: int = 1440
) -> Iterator[Visitor]:
    """A visitor in a tab of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, accept_downloads=True, color_scheme="light"
    )
    try:
        yield Visitor(context.new_page(), address, seen)
    finally:
        context.close()
