"""The pretend gateway: who names an admitted device gets through, and nobody else."""

from __future__ import annotations

import requests

from apps.exchange.ews.get_folder import UNREAD_REQUEST
from apps.lab.exchange import LabExchange
from apps.lab.exchange.server import in_thread as exchange_in_thread
from apps.lab.gateway import LabGateway, in_thread


def ask(gateway: LabGateway, device: str | None, auth: tuple[str, str] | None) -> int:
    headers = {"Content-Type": "text/xml"} | ({"X-Device-Id": device} if device else {})
    with requests.Session() as http:
        http.trust_env = False
        answer = http.post(
            gateway.url,
            UNREAD_REQUEST,
            headers=headers,
            auth=auth,
            verify=str(gateway.ca_file),
            timeout=10,
            allow_redirects=False,
        )
    return answer.status_code


def test_it_admits_by_header() -> None:
    anna = ("EXAMPLE\\anna", "anna-lab-1")
    lab = LabExchange()
    lab.add_demo_accounts()
    with exchange_in_thread(lab), in_thread(LabGateway(lab.url, lab.ca_pem)) as gateway:
        assert ask(gateway, "one", anna) == 200
        assert ask(gateway, "one", None) == 401  # Exchange's own word comes through
        assert ask(gateway, None, anna) == 403
        with requests.Session() as http:
            http.trust_env = False
            refuse = {"device": "one", "status": 449}
            http.post(f"{gateway.control}/lab/refuse", json=refuse, timeout=5).raise_for_status()
            assert (ask(gateway, "one", anna), ask(gateway, "two", anna)) == (449, 200)
            assert http.post(f"{gateway.control}/lab/refuse", json=[], timeout=5).status_code == 400
            http.delete(f"{gateway.control}/lab/refuse", json={"device": "one"}, timeout=5)
            assert ask(gateway, "one", anna) == 200
            counted = http.get(f"{gateway.control}/lab/counters", timeout=5).json()
    assert counted == {"passed": {"one": 3, "two": 1}, "refused": {"": 1, "one": 1}}
