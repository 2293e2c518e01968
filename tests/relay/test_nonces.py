"""A signed call is taken once: by any process of the relay, and after a restart too."""

from __future__ import annotations

import json
import time

from apps.cns.channel import load_channel
from tests.relay.conftest import Site


def test_a_replay_is_refused_by_every_process_and_after_a_restart(site: Site, token: str) -> None:
    push = site.push(token)
    notification = {name: getattr(push, name) for name in push.__slots__}
    body = json.dumps({"version": 1, "notifications": [notification]}).encode()
    signature = load_channel(site.channel).sign(
        site.relay.audience, "POST", "/nws/notify/apns", body, time.time()
    )
    headers = {"Content-Type": "application/json", "ENS-Signature": signature}
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
