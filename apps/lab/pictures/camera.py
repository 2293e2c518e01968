"""Takes a page's picture, in light and in dark."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Final

from playwright.sync_api import Page

from apps.lab.pictures.visitor import SCHEMES, dress

WIDE, TABLET = (1440, 900), (820, 1180)
# The animations of the UI library, and a chart's, come to rest.
_REST_MS: Final = 600
# Beyond this only the beginning of a page is shown.
_TALLEST: Final = 1600
# WebP: a third of PNG's size, and there are many pictures.
_QUALITY: Final = 70


class Camera:
    """Writes `<name>-<scheme>.webp` into a folder; those in `tablet` once more as on a tablet."""

    def __init__(self, folder: Path, tablet: frozenset[str] = frozenset()) -> None:
        self.taken: set[Path] = set()
        self._folder, self._tablet = folder, tablet

    def __call__(self, page: Page, name: str) -> None:
        """Take the page as it stands; called by a visitor for each page that is looked at."""
        for scheme in SCHEMES:
            dress(page, scheme)
            self._take(page, f"{name}-{scheme}", WIDE)
        if name in self._tablet:
            self._take(page, f"{name}-tablet", TABLET)
            page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})

    def _take(self, page: Page, name: str, size: tuple[int, int]) -> None:
        width, height = size
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(_REST_MS)
        tall = int(page.evaluate("document.documentElement.scrollHeight"))
        if tall > height:
            page.set_viewport_size({"width": width, "height": min(tall, _TALLEST)})
            page.wait_for_timeout(_REST_MS)
        session = page.context.new_cdp_session(page)
        shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": _QUALITY})
        session.detach()
        file = self._folder / f"{name}.webp"
        file.write_bytes(b64decode(shot["data"]))
        self.taken.add(file)
