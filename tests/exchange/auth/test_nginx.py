"""A TLS front that is not ours demands client certificates: nginx before the lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apps.exchange.errors import CredentialsRefused
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials
from apps.lab.ca import LabCa
from tests.exchange.auth.nginx import nginx
from tests.exchange.auth.ways import WAYS, endpoint_of
from tests.lab.exchange_helpers import Webhook, until


async def test_certificate_and_basic_through_nginx(tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    ca, stranger = LabCa(tmp_path), LabCa(tmp_path / "stranger")
    lab, server = WAYS["Basic"].lab(ca=ca), EwsServer("0.1.0")
    lab.add_demo_accounts()
    async with lab, Webhook() as hook:
        with nginx(tmp_path, ca, lab.url.removesuffix("/EWS/Exchange.asmx")) as port:
            url = f"https://localhost:{port}/EWS/Exchange.asmx"
            endpoint = replace(endpoint_of(lab), url=url)
            anna = WAYS["Client certificate and Basic"].credentials(lab)
            try:
                await server.prove(endpoint, anna, "anna@example.com", 5)
                await server.join(endpoint, anna, hook.url, 30, 5)
                item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")
                await until(lambda: "NewMail" in [kind for n in hook.got for kind in n.kinds])
                described = await server.describe(endpoint, anna, [item_id], True, 5)
                assert described.items[item_id].subject == "Lunch?"

                files = stranger.issue_client("anna@example.com", 3600)
                foreign = files.certificate.read_text() + files.key.read_text()
                for refused in (
                    replace(anna, certificate=foreign),
                    replace(anna, certificate=foreign, username="", password=""),
                ):
                    with pytest.raises(CredentialsRefused) as caught:
                        await server.prove(endpoint, refused, "anna@example.com", 5)
                    assert caught.value.code == "certificate_refused"
                with pytest.raises(CredentialsRefused) as caught:
                    wrong = replace(anna, password="guess")
                    await server.prove(endpoint, wrong, "anna@example.com", 5)
                assert caught.value.code == "credentials_refused"
                assert lab.counters()["unauthorized"] == {"anna@example.com": 1}
                with pytest.raises(Exception, match="not_ews"):
                    plain = Credentials("basic", anna.username, anna.password)
                    await server.prove(endpoint, plain, "anna@example.com", 5)
            finally:
                await server.close()
