"""The APNs provider against a pretend APNs on its worse days."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from apps.lab.apns import Asked, Fault, LabApns
from apps.lab.ca import LabCa
from apps.relay.providers import Notification, OpenApp, Outcome
from apps.relay.providers.apns import provider as provider_module
from apps.relay.providers.apns.check import check_certificate, check_key
from apps.relay.providers.apns.line import MAX_CONNECTIONS
from apps.relay.providers.apns.provider import ApnsProvider

APP = "com.example.mail"
TEAM = "TEAM123456"
PASSWORD = "p12-password"


class Apple:
    """A pretend APNs with apps of both kinds, and clocks that can be set apart."""

    def __init__(self, folder: Path) -> None:
        self.ahead = 0.0
        self.here: Callable[[], float] = time.time
        self.lab = LabApns(LabCa(folder), clock=lambda: self.here() + self.ahead)
        self.key = self.lab.new_key(TEAM, [APP, "com.example.other"])

    def provider(self) -> ApnsProvider:
        return ApnsProvider(self.lab.url, self.lab.ca_pem, clock=lambda: self.here())

    def app_by_key(self, app: str = APP, pk: int = 1) -> OpenApp:
        checked = check_key(self.key.p8.encode(), self.key.key_id, TEAM)
        return OpenApp(pk, app, False, checked.credentials, "1")

    def app_by_certificate(self, app: str, pk: int = 1, revision: str = "1") -> OpenApp:
        self.p12 = self.lab.certificates.issue(Asked(app), PASSWORD)
        checked = check_certificate(self.p12, PASSWORD, app, sandbox=False)
        return OpenApp(pk, app, False, checked.credentials, revision)

    def revoke_last(self) -> None:
        whole = pkcs12.load_pkcs12(self.p12, PASSWORD.encode())
        assert whole.cert is not None
        self.lab.certificates.revoke(whole.cert.certificate)


@pytest.fixture
async def apple(tmp_path: Path) -> AsyncIterator[Apple]:
    made = Apple(tmp_path)
    await made.lab.start()
    yield made
    await made.lab.stop()


def notification(token: str, app: str = APP, expiration: int = 0) -> Notification:
    payload = b'{"aps":{"alert":"x"}}'
    return Notification(str(uuid4()), app, token, "alert", 10, expiration, uuid4().hex, payload)


async def send(
    provider: ApnsProvider, app: OpenApp, sent: list[Notification]
) -> dict[str, Outcome]:
    """The outcomes by id; each exactly once."""
    found: dict[str, Outcome] = {}

    def done(each: Notification, outcome: Outcome) -> None:
        assert each.id not in found
        found[each.id] = outcome

    await provider.send(app, sent, done)
    assert found.keys() == {each.id for each in sent}
    return found


def counted(outcomes: dict[str, Outcome]) -> Counter[tuple[str, str]]:
    return Counter((outcome.status, outcome.reason) for outcome in outcomes.values())


async def test_goaway_every_few_streams_costs_nobody_anything(apple: Apple) -> None:
    apple.lab.goaway_after = 20
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    sent = [notification(token) for _ in range(200)]
    assert counted(await send(provider, app, sent)) == {("accepted", ""): 200}
    arrived = {each.push.collapse_id for each in apple.lab.phones.arrivals(token)}
    assert arrived == {each.collapse_id for each in sent}
    assert apple.lab.connections_opened >= 10


@pytest.mark.parametrize("action", ["drop", "deliver_and_drop", "goaway"])
async def test_streams_of_a_broken_connection_are_sent_again(apple: Apple, action: str) -> None:
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    await send(provider, app, [notification(token)])
    apple.lab.faults.order(Fault(action, times=3))  # type: ignore[arg-type]
    sent = [notification(token) for _ in range(100)]
    assert counted(await send(provider, app, sent)) == {("accepted", ""): 100}
    # What had arrived when the answer was lost replaces itself on the phone.
    shown = Counter(each.push.collapse_id for each in apple.lab.phones.screen(token).shown)
    assert set(shown.values()) == {1}
    assert {each.collapse_id for each in sent} <= shown.keys()


async def test_what_has_expired_is_not_sent_again(apple: Apple) -> None:
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    apple.lab.faults.order(Fault("drop"))
    found = await send(provider, app, [notification(token, expiration=int(time.time()) - 1)])
    assert counted(found) == {("retry", "connection_lost"): 1}
    assert apple.lab.phones.arrivals(token) == []


async def test_as_many_streams_as_the_server_allows_on_several_connections(apple: Apple) -> None:
    """The pretend APNs ends a connection that opens more streams than it may."""
    apple.lab.streams = 10
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    await send(provider, app, [notification(token) for _ in range(20)])
    apple.lab.faults.order(Fault(times=10_000, delay_s=0.2))
    began = time.monotonic()
    found = await send(provider, app, [notification(token) for _ in range(80)])
    assert counted(found) == {("accepted", ""): 80}
    # Two rounds of 40, or one and a bit where a fresh connection was given more before its SETTINGS
    # had come; one connection alone would need eight.
    assert 0.2 <= time.monotonic() - began < 1.4
    assert 2 <= apple.lab.connections_opened <= MAX_CONNECTIONS


async def test_a_connection_that_went_silent_is_left_behind(
    apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "_DEADLINE_S", 0.5)
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    await send(provider, app, [notification(token)])
    opened = apple.lab.connections_opened
    apple.lab.faults.order(Fault("hang", times=3))
    found = await send(provider, app, [notification(token) for _ in range(3)])
    assert counted(found) == {("retry", "deadline_exceeded"): 3}
    assert counted(await send(provider, app, [notification(token)])) == {("accepted", ""): 1}
    assert apple.lab.connections_opened == opened + 1


async def test_one_that_hangs_does_not_cost_a_connection_that_answers(
    apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "_DEADLINE_S", 0.5)
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    await send(provider, app, [notification(token)])
    opened = apple.lab.connections_opened
    apple.lab.faults.order(Fault("hang"))
    found = await send(provider, app, [notification(token) for _ in range(10)])
    assert counted(found) == {("accepted", ""): 9, ("retry", "deadline_exceeded"): 1}
    await send(provider, app, [notification(token)])
    assert apple.lab.connections_opened == opened


# Somewhere in the second half of a token's 40 minutes.
SECOND_HALF = 2400 * 750_000 + 60 + 1500.0


async def test_a_token_that_apple_calls_expired_is_renewed_once(apple: Apple) -> None:
    apple.here = lambda: SECOND_HALF
    apple.ahead = 2400
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    found = await send(provider, app, [notification(token) for _ in range(5)])
    assert counted(found) == {("accepted", ""): 5}
    refused = apple.lab.answers[403, "ExpiredProviderToken"]
    assert 1 <= refused <= 5
    # From now on it knows.
    await send(provider, app, [notification(token)])
    assert apple.lab.answers[403, "ExpiredProviderToken"] == refused
    assert not apple.lab.answers[429, "TooManyProviderTokenUpdates"]


async def test_a_clock_that_is_hopelessly_wrong_is_ours_to_fix(apple: Apple) -> None:
    apple.here = lambda: SECOND_HALF
    apple.ahead = 3 * 3600
    token, app, provider = apple.lab.register(APP), apple.app_by_key(), apple.provider()
    (outcome,) = (await send(provider, app, [notification(token)])).values()
    assert outcome == Outcome("failed", "ExpiredProviderToken", ours_to_fix=True)
    assert apple.lab.answers[403, "ExpiredProviderToken"] == 2


async def test_apps_of_one_key_share_connections_certificates_never_do(apple: Apple) -> None:
    other = "com.example.other"
    provider = apple.provider()
    tokens = {app: apple.lab.register(app) for app in (APP, other)}
    for pk, name in enumerate((APP, other)):
        app = apple.app_by_key(name, pk)
        found = await send(provider, app, [notification(tokens[name], name)])
        assert counted(found) == {("accepted", ""): 1}
    assert apple.lab.connections_opened == 1
    by_certificate = [apple.app_by_certificate(name, pk) for pk, name in enumerate((APP, other))]
    # Side by side and in turn: a connection of the other's would be refused (TopicDisallowed).
    for _ in range(3):
        answers = await asyncio.gather(
            *(
                send(provider, app, [notification(tokens[app.app], app.app) for _ in range(20)])
                for app in by_certificate
            )
        )
        assert [counted(found) for found in answers] == [{("accepted", ""): 20}] * 2
    assert apple.lab.connections_opened == 3


async def test_a_certificate_that_apple_refuses_is_ours_to_fix(apple: Apple) -> None:
    token, app, provider = apple.lab.register(APP), apple.app_by_certificate(APP), apple.provider()
    apple.revoke_last()
    (outcome,) = (await send(provider, app, [notification(token)])).values()
    assert outcome == Outcome("failed", "BadCertificate", ours_to_fix=True)


async def test_replaced_credentials_end_with_what_they_carry(apple: Apple) -> None:
    token, provider = apple.lab.register(APP), apple.provider()
    old, new = apple.app_by_certificate(APP), apple.app_by_certificate(APP, revision="2")
    await send(provider, old, [notification(token)])
    apple.lab.faults.order(Fault(times=10, delay_s=0.4))

    async def meanwhile() -> dict[str, Outcome]:
        await asyncio.sleep(0.1)
        return await send(provider, new, [notification(token)])

    under_way = [notification(token) for _ in range(10)]
    found, by_new = await asyncio.gather(send(provider, old, under_way), meanwhile())
    assert counted(found) == {("accepted", ""): 10}
    assert counted(by_new) == {("accepted", ""): 1}
    assert apple.lab.connections_opened == 2


async def test_unused_connections_are_closed(apple: Apple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_module, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(provider_module, "_UNUSED_S", 0.2)
    token, provider = apple.lab.register(APP), apple.provider()
    await send(provider, apple.app_by_certificate(APP), [notification(token)])
    assert len(apple.lab._connections) == 1
    async with asyncio.timeout(5):
        while apple.lab._connections:
            await asyncio.sleep(0.05)
    await send(provider, apple.app_by_certificate(APP), [notification(token)])
    assert apple.lab.connections_opened == 2
