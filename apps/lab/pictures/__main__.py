"""`python -m apps.lab.pictures <folder>`: every page of the console, in light and dark."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from apps.lab.live import browser
from apps.lab.pictures import walk, world
from apps.lab.pictures.camera import Camera
from apps.lab.pictures.visitor import Visitor, visiting
from apps.lab.stand.stand import ADMINISTRATOR, Layout, Stand

TABLET = frozenset({"dashboard", "devices", "device"})
# The charts count by whole minutes.
SETTLE_S = 70.0


def main(folder: Path) -> int:
    chromium = browser.find()
    if chromium is None:
        print("no Chromium found on PATH", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    camera = Camera(folder, TABLET)
    with (
        tempfile.TemporaryDirectory(prefix="ens-pictures-", ignore_cleanup_errors=True) as home,
        Stand(Path(home) / "stand", layout=Layout(empty=True)) as stand,
        browser.opened(chromium) as opened,
        visiting(opened, stand.console_url, camera) as visitor,
    ):
        _walk(visitor, stand)
    _without_old_ones(folder, camera)
    size = sum(file.stat().st_size for file in camera.taken)
    print(f"{len(camera.taken)} pictures in {folder}, {size / 1e6:.1f} MB")
    return 0


def _walk(visitor: Visitor, stand: Stand) -> None:
    visitor.go("", "sign-in")
    visitor.sign_in(ADMINISTRATOR, stand.console_password)
    token = walk.set_up(visitor, stand)
    visitor.go("", "guide")
    blocked = world.people(stand, token)
    walk.block(visitor, blocked.address)
    walk.download_configuration(visitor, "correct horse 77 staple")
    time.sleep(SETTLE_S)
    walk.every_page(visitor)
    walk.diagnose(visitor)
    walk.renew_token(visitor)
    walk.many_devices(visitor)
    walk.second_factor(visitor, ADMINISTRATOR, stand.console_password)


def _without_old_ones(folder: Path, camera: Camera) -> None:
    """A page that is gone has no picture any more."""
    for file in set(folder.glob("*.webp")) - camera.taken:
        file.unlink()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
