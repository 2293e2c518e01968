"""The secure channel certificate: made, known to the relay, rolled, revoked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connections
from pytest_django.fixtures import Settings

from apps.audit.models import AuditEntry
from apps.cns import configured, keys
from apps.cns.channel import load_channel
from apps.cns.models import SecureChannelKey
from apps.operations import secure_channel
from apps.operations.device_actions import By
from apps.operations.secure_channel import KeyRefused
from apps.relay.models import Deployment
from apps.wire import background

BY = By("admin")


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def relay(transactional_db: None, settings: Settings, tmp_path: Path) -> Iterator[None]:
    """Our relay on a socket, and a deployment that signs with the file of ens.env."""
    with make_server("127.0.0.1", 0, WSGIHandler(), handler_class=_Quiet) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        settings.ENS = settings.ENS.model_copy(
            update={
                "cns_url": url,
                "relay_audience": url,
                "cns_key_file": tmp_path / "cns.pem",
            }
        )
        call_command("cns_certificate", stdout=StringIO())
        pem = (tmp_path / "cns.pem").read_bytes()
        channel = load_channel(pem)
        certificate = pem[pem.index(b"-----BEGIN CERTIFICATE") :].decode()
        Deployment.objects.create(
            name="ours", thumbprint=channel.thumbprint, certificate=certificate
        )
        configured.forget()
        yield
        configured.forget()
        server.shutdown()
        thread.join()
    connections.close_all()


def knock() -> str:
    return background.run(configured.shared_client().knock())


def test_rolling_with_an_overlap(relay: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configured, "LOOK_AGAIN_S", 0.0)
    first = secure_channel.signing()
    assert first is not None and first.from_file and "BEGIN CERTIFICATE" in first.certificate
    assert "PRIVATE" not in first.certificate
    assert knock() == "ok"
    row = secure_channel.create_next("Main", BY)
    assert secure_channel.ask_relay(row.thumbprint) == "ok"
    assert secure_channel.signing() == first  # not before it is rolled
    secure_channel.roll(row.thumbprint, BY)
    now = secure_channel.signing()
    assert now is not None and now.thumbprint == row.thumbprint and not now.from_file
    assert knock() == "ok"
    # A client that was made before signs with the new key: the old one may go.
    Deployment.objects.filter(thumbprint=first.thumbprint).delete()
    assert knock() == "ok"
    again = secure_channel.create_next("Next", BY)
    secure_channel.roll(again.thumbprint, BY)
    assert secure_channel.revoke(row.thumbprint, BY) is True
    assert knock() == "ok"
    uses = {one.label: one.use for one in secure_channel.listed()}
    assert uses == {"Main": "previous", "Next": "current"}
    assert AuditEntry.objects.filter(action="secure_channel.roll").count() == 2


def test_nobody_rolls_to_a_key_that_the_relay_refuses(relay: None) -> None:
    row = secure_channel.create_next("Main", BY)
    Deployment.objects.filter(thumbprint=row.thumbprint).delete()
    with pytest.raises(KeyRefused) as refused:
        secure_channel.roll(row.thumbprint, BY)
    assert refused.value.code == "certificate_unknown"
    assert keys.current() is None and knock() == "ok"


def test_a_relay_that_does_not_answer_is_a_code_too(relay: None, settings: Settings) -> None:
    row = secure_channel.create_next("Main", BY)
    settings.ENS = settings.ENS.model_copy(update={"cns_url": "http://127.0.0.1:1"})
    assert secure_channel.ask_relay(row.thumbprint) not in ("ok", "")


@pytest.mark.django_db
def test_a_new_next_key_takes_the_place_of_one_that_never_signed() -> None:
    one = secure_channel.create_next("One", BY)
    two = secure_channel.create_next("Two", BY)
    one.refresh_from_db()
    assert one.revoked_at is not None and one.sealed_key is None
    assert Deployment.objects.get(thumbprint=one.thumbprint).revoked_at is not None
    assert Deployment.objects.get(thumbprint=two.thumbprint).revoked_at is None
    with pytest.raises(KeyRefused, match="only the next"):
        secure_channel.roll(one.thumbprint, BY)


@pytest.mark.django_db
def test_the_key_that_signs_is_not_revoked() -> None:
    row = secure_channel.create_next("One", BY)
    secure_channel.roll(row.thumbprint, BY, unasked=True)
    with pytest.raises(KeyRefused) as refused:
        secure_channel.revoke(row.thumbprint, BY)
    assert refused.value.code == "in_use"


@pytest.mark.django_db
@pytest.mark.parametrize("label", ["", " ", "x" * 65, "a\nb", "<b>"])
def test_labels(label: str) -> None:
    with pytest.raises(KeyRefused):
        secure_channel.create_next(label, BY)


@pytest.mark.django_db
def test_private_keys_are_wrapped_for_their_row() -> None:
    row = secure_channel.create_next("One", BY)
    assert row.sealed_key is not None and b"PRIVATE" not in bytes(row.sealed_key)
    other = secure_channel.create_next("Two", BY)
    SecureChannelKey.objects.filter(pk=other.pk).update(sealed_key=bytes(row.sealed_key))
    other.refresh_from_db()
    with pytest.raises(Exception, match="not in its place"):
        keys.pem(other)
