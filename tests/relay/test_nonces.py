"""A signed call is taken once: by any process of the relay, and after a restart too."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.cns.channel import load_channel
from apps.relay import nonces
from apps.relay.models import Deployment, Nonce
from apps.relay.problems import Refused
from tests.relay.conftest import Site


def signed_call(site: Site, token: str) -> tuple[bytes, dict[str, str]]:
    push = site.push(token)
    notification = {name: getattr(push, name) for name in push.__slots__}
    body = json.dumps({"version": 1, "notifications": [notification]}).encode()
    signature = load_channel(site.channel).sign(
        site.relay.audience, "POST", "/nws/notify/apns", body, time.time()
    )
    return body, {"Content-Type": "application/json", "ENS-Signature": signature}


def test_of_many_copies_at_once_one_is_taken(site: Site, token: str) -> None:
    body, headers = signed_call(site, token)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: site.process.post(body, headers)[0], range(20)))
    assert sorted(answers) == [200] + [401] * 19
    assert len(site.apns.phones.arrivals(token)) == 1


@pytest.mark.django_db(transaction=True)
def test_spent_nonces_are_forgotten_when_they_are_too_old_to_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nonces, "_purge_due", 0.0)
    deployment = Deployment.objects.create(name="acme", thumbprint="t", certificate="c")
    now = time.time()
    nonces.spend(deployment, "one", now + 30, now)
    with pytest.raises(Refused, match="nonce_replayed"):
        nonces.spend(deployment, "one", now + 30, now + 29)
    nonces.spend(deployment, "two", now + 300, now + nonces._PURGE_EVERY_S)
    assert [nonce.nonce for nonce in Nonce.objects.all()] == ["two"]


def test_a_replay_is_refused_by_every_process_and_after_a_restart(site: Site, token: str) -> None:
    body, headers = signed_call(site, token)
    second = site.relay.serve()
    try:
        assert second.post(body, headers)[0] == 200
        for process in (second, site.process):
            status, answer = process.post(body, headers)
            assert (status, answer["code"]) == (401, "nonce_replayed")
    finally:
        second.kill()
    third = site.relay.serve()
    try:
        status, answer = third.post(body, headers)
        assert (status, answer["code"]) == (401, "nonce_replayed")
    finally:
        third.stop()
    assert len(site.apns.phones.arrivals(token)) == 1
