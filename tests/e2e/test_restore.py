"""Yesterday's backup in a fresh database: who was blocked since stays out, everyone else rings."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from apps.lab.phone.client import EnsClient, Refused
from apps.lab.stand.stand import OG, Stand
from apps.lab.stand.waiting import until
from tests.e2e.road import Road
from tests.e2e.test_block import Gateway, refusal_of

pytestmark = pytest.mark.timeout(240)
SERVICES = ("beat", "worker", "web")


def has_keys(client: EnsClient) -> bool:
    with suppress(Refused):
        return bool(client.public_key())
    return False


def test_after_a_restore_the_blocked_stay_out_and_the_others_ring(tmp_path: Path) -> None:
    with Stand(tmp_path / "stand") as stand:
        road, gateway = Road(stand), Gateway(stand, tmp_path)
        # A user each: of a mailbox with two phones the other one could repair it.
        lost, kept = road.joined(road.user("anna"), "lost"), road.joined(ben := road.user("ben"))
        (token,) = stand.manage(["ens_token", "create", "--og", OG, "--label", "second"])
        second = EnsClient(stand.link_address, token.strip())
        second.public_key()

        password, file = tmp_path / "password", tmp_path / "ens.backup"
        password.write_text("Wild geese over 7 lakes\n")
        stand.manage(["ens_backup", "--to", str(file), "--password-file", str(password)])
        assert lost.device is not None
        body = {"shred_now": True, "reason": "administrator"}
        gateway.call("POST", f"devices/{lost.device.device_id}/block", body)
        stand.manage(["ens_token", "revoke", "--og", OG, "--label", "second"])
        (held,) = road.exchange.subscriptions(ben)

        for name in SERVICES:
            stand.supervisor.stop(name)
        for part in (stand.home / "ens" / "data").glob("ens.sqlite3*"):
            part.unlink()
        road.exchange.deliver(ben, "While nobody was there")
        _, said = stand.manage(
            ["migrate", "--verbosity", "0"],
            ["ens_restore", "--from", str(file), "--password-file", str(password)],
        )
        assert "1 phones are asked" in said and "api_token: 1 replayed" in said
        for name in reversed(SERVICES):
            stand.supervisor.start_again(name)
        road.web_is_back()
        stand.make_keys()

        first = EnsClient(stand.link_address, stand.facts.api_token)
        until("keys", lambda: has_keys(first), 60)
        with pytest.raises(Refused) as refused:
            second.public_key()
        assert refused.value.code == "unauthorized"
        with pytest.raises(Refused):
            lost.check_in()
        road.gets(kept, lambda push: push.kind == "wakeup", "a wake-up", 60)
        assert refusal_of(lost) == "device_blocked"
        road.renews(kept)
        road.rings(kept, "While nobody was there")
        road.exchange.deliver(ben, "After all")
        road.rings(kept, "After all")
        assert road.subjects(kept).count("After all") == 1
        # Exchange hears that the subscription of before is over.
        road.holds(ben, 1, 60)
        assert road.exchange.subscriptions(ben) != [held]
        assert not road.announcements(lost)
