"""The lab's CA: who trusts it reaches its servers, who doesn't is refused."""

from __future__ import annotations

import socket
import ssl
import stat
import sys
import threading
from pathlib import Path

import pytest

from apps.lab.ca import LabCa


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        thread.join(5)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_serves_loopback_names_strictly_verified(tmp_path: Path, name: str) -> None:
    ca = LabCa(tmp_path)
    client = ssl.create_default_context(cadata=ca.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(ca.issue("server").server_context(), client, name)


def test_other_names_and_other_cas_are_refused(tmp_path: Path) -> None:
    ca = LabCa(tmp_path)
    server = ca.issue("server").server_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, ca.client_context(), "other.example")
    (tmp_path / "other").mkdir()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, LabCa(tmp_path / "other").client_context(), "localhost")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_the_key_is_the_owners_alone(tmp_path: Path) -> None:
    files = LabCa(tmp_path).issue("server")
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
