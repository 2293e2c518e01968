"""The test vectors: the lab's phone opens them, and so does another implementation of JOSE."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from apps.lab.phone.opening import ContentKey, NotGenuine, open_push
from tests.vectors import make

HERE = make.FILE.parent


@pytest.fixture(params=["committed", "fresh"])
def vectors(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file in the repository, and what ENS makes today."""
    if request.param == "committed":
        return make.FILE
    fresh = tmp_path / "pushes.json"
    fresh.write_text(json.dumps(make.made()), "utf-8")
    return fresh


def test_the_lab_s_phone_opens_them(vectors: Path) -> None:
    given = json.loads(vectors.read_text("utf-8"))
    key = ContentKey({name: given["content_key"][name] for name in ("kty", "crv", "x", "y", "d")})
    for vector in given["vectors"]:
        ens = vector["payload"].get("ens") or vector["payload"]["data"]
        said: Any = make.NOT_GENUINE
        try:
            opened = open_push(
                ens["enc"],
                ens["item"],
                {key.kid: key},
                given["signing_keys"],
                given["device_id"],
                given["now"],
            )
            said = {
                name: text
                for name in ("sender", "subject", "preview", "thread")
                if (text := getattr(opened, name))
            }
        except NotGenuine:
            pass
        assert said == vector["says"], vector["name"]


def test_node_s_jose_opens_them(vectors: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    if not (HERE / "node_modules" / "jose").is_dir():
        pytest.skip("Node's jose is not installed: npm ci --prefix tests/vectors")
    ran = subprocess.run(
        [node, str(HERE / "open.mjs"), str(vectors)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    given = json.loads(vectors.read_text("utf-8"))
    assert json.loads(ran.stdout) == {one["name"]: one["says"] for one in given["vectors"]}
