"""The client and the certificate command, as the settings say."""

from __future__ import annotations

import os
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from apps.cns.channel import load_channel
from apps.cns.configured import CnsNotConfigured, configured_client

pytestmark = pytest.mark.django_db


def configure(settings: Settings, **values: Any) -> None:
    settings.ENS = settings.ENS.model_copy(update=values)


def test_the_command_makes_what_the_client_loads(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "new" / "cns.pem"
    configure(settings, cns_key_file=path)
    out = StringIO()
    call_command("cns_certificate", stdout=out)
    thumbprint = load_channel(path.read_bytes()).thumbprint
    assert f"Thumbprint: {thumbprint}" in out.getvalue()
    assert "BEGIN CERTIFICATE" in out.getvalue()
    assert "PRIVATE" not in out.getvalue()
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    configured_client()


def test_an_existing_key_is_never_touched(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "cns.pem"
    path.write_text("precious")
    configure(settings, cns_key_file=path)
    with pytest.raises(CommandError, match="exists already"):
        call_command("cns_certificate")
    assert path.read_text() == "precious"


def test_the_command_needs_to_know_where(settings: Settings) -> None:
    configure(settings, cns_key_file=None)
    with pytest.raises(CommandError, match="ENS_CNS_KEY_FILE"):
        call_command("cns_certificate")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"cns_url": None}, "ENS_CNS_URL"),
        ({"cns_key_file": None}, "ENS_CNS_KEY_FILE"),
        ({"cns_key_file": Path("/nowhere/cns.pem")}, "ENS_CNS_KEY_FILE"),
        ({"cns_key_file": Path(__file__)}, "ENS_CNS_KEY_FILE"),
        ({"cns_ca_file": Path("/nowhere/ca.pem")}, "ENS_CNS_CA_FILE"),
        ({"cns_proxy_url": "http://proxy:99999"}, "ENS_CNS_PROXY_URL"),
        ({"cns_proxy_url": "http://:80"}, "ENS_CNS_PROXY_URL"),
    ],
)
def test_what_is_missing_is_named(
    settings: Settings, tmp_path: Path, values: dict[str, Any], named: str
) -> None:
    path = tmp_path / "cns.pem"
    configure(settings, cns_key_file=path)
    call_command("cns_certificate", stdout=StringIO())
    configure(settings, **values)
    with pytest.raises(CnsNotConfigured, match=named):
        configured_client()
