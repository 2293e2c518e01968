"""After a leak: nothing that a thief of the old keys holds is worth anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operations.backup.deployment import Deployment

REKEY = """
from apps.keypairs import service
from apps.operations import rewrap
from apps.tenants.models import OrganizationGroup
from apps.vault import lookup, urlmac
known = fill()
og = OrganizationGroup.objects.get(name="Example")
def seen():
    return {
        "url": urlmac.sign("it"), "kid": service.current_public_key(og).kid,
        "signing": signing.public_keys(og), "lookup": lookup.lookup_hmac("user", "it"),
        "channel": keys.current().thumbprint,
    }
before, opens = seen(), opened()
said = run("ens_rekey", "--yes")
key_id, mac = before["url"]
answer = [
    before, seen(), opens, opened(), said, state(known["token"], known["admin_token"]),
    urlmac.verify("it", key_id, mac), run("ens_rekey", "--yes"),
]
"""


@pytest.mark.slow
def test_all_keys_are_new_and_everybody_joins_again(blank: Deployment, tmp_path: Path) -> None:
    it = Deployment(tmp_path / "it", like=blank)
    before, after, opened, opens, said, state, verified, again = it.inside(REKEY)
    assert before["lookup"] == after["lookup"], "nobody would be found again"
    for name in ("url", "kid", "signing"):
        assert before[name] != after[name], name
    old = {key["kid"] for key in before["signing"]["keys"]}
    assert not old & {key["kid"] for key in after["signing"]["keys"]}
    assert not verified
    assert opens == opened, "the rest opens as before"
    assert state["subscriptions"] == state["served"] == state["silent"] == 0
    assert state["woken"] == 4 and state["audited"] == 1
    assert {proved for _, proved in state["devices"]} == {None}
    # Devices and tokens, of which there are only hashes, stay.
    assert state["token"] and state["admin_token"]
    assert "secure channel keys made: 1" in said and "refused" not in again
