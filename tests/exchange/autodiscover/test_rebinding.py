"""DNS that changes its answer between a look-up and the connection gains nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/libnss_wrapper.so"))), None)

pytestmark = pytest.mark.skipif(_LIBRARY is None, reason="no nss_wrapper")


def journey(tmp_path: Path, flip: str) -> str:
    """What came of it, and how many connections the forbidden address had."""
    hosts = tmp_path / "hosts"
    hosts.touch()
    preload = {"LD_PRELOAD": str(_LIBRARY), "NSS_WRAPPER_HOSTS": str(hosts)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.exchange.autodiscover.rebinding", flip],
        env=os.environ | preload,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_names_that_stay(tmp_path: Path) -> None:
    # What is posted in the end is no EWS, which the lab says by 400.
    assert journey(tmp_path, "never") == "not_ews 0"


@pytest.mark.parametrize("flip", ["srv", "redirect", "found"])
def test_names_that_change(tmp_path: Path, flip: str) -> None:
    code = "address_forbidden" if flip == "found" else "autodiscover_failed"
    assert journey(tmp_path, flip) == f"{code} 0"
