"""A gateway in front of the lab's Exchange: it refuses a phone, and lets it through again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db import transaction

from apps import clock
from apps.announce.context import load
from apps.console import words
from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.models import LogEntry
from apps.exchange.ews.server import EwsServer
from apps.history import stories
from apps.history.buffer import buffer
from apps.lab.exchange import LabExchange
from apps.lab.gateway import LabGateway
from apps.operations import device_actions
from apps.operations.device_actions import By
from apps.subscriptions import checkin, scan
from apps.subscriptions.database import in_database
from apps.subscriptions.models import RefusedCredential, Subscription, WakeUp
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from tests.subscriptions.test_joining import ANNA, Site, state

pytestmark = pytest.mark.django_db(transaction=True)
BY = By("somebody")
TOKENS = {"one": "aa" * 32, "two": "bb" * 32}


class GatewaySite(Site):
    """One organization whose Exchange stands behind a gateway; phones are `one` and `two`."""

    gateway: LabGateway

    def set_up(self) -> None:
        self.og = create_group("Example")
        host = self.gateway.url.split("/")[2]
        system = add_mail_system(self.og, "Exchange", [host], ca_pem=self.gateway.ca_pem)
        system.gateway = True
        system.save()
        self.mailbox = registry.mailbox_for(system, "anna@example.com")

    @transaction.atomic
    def phone(self, eas_id: str) -> Device:
        said = Description(
            platform="ios",
            app_id="com.example.mail",
            push_token=TOKENS[eas_id],
            ews_url=self.gateway.url,
            eas_id=eas_id,
            uem_id=f"uem of {eas_id}",
            model_name="iPhone",
        )
        made = registry.enrol(self.og, self.mailbox, said)
        assert made is not None
        return made[0]

    async def brings(self, device: Device) -> tuple[str, str]:
        """The device brings its credentials; what becomes of it."""
        device = await in_database(_fresh, device)
        entry = await in_database(self.begin, device, ANNA)
        assert await self.joiner.finish(entry) is None
        return await in_database(state, device)


def _fresh(device: Device) -> Device:
    return Device.objects.select_related("mailbox__mail_system", "og").get(id=device.id)


@pytest.fixture
async def site(live_server: Any, settings: Any) -> AsyncIterator[GatewaySite]:
    settings.ENS = settings.ENS.model_copy(
        update={
            "link_address": f"{live_server.url}/MailNotificationService/api/ens",
            "guard_exceptions": [ip_network("127.0.0.0/8")],
        }
    )
    lab, server = LabExchange(), EwsServer("0.1.0")
    lab.add_demo_accounts()
    async with lab, LabGateway(lab.url, lab.ca_pem) as gateway:
        made = GatewaySite(lab, server)
        made.gateway = gateway
        await in_database(made.set_up)
        yield made
        await server.close()


async def test_each_phone_is_shown_to_the_gateway_by_its_own_name(site: GatewaySite) -> None:
    for name in TOKENS:
        assert await site.brings(await in_database(site.phone, name)) == ("active", "")
    # A proof each; the first one asked before what Exchange offers, and subscribed as well.
    assert site.gateway.passes == {"one": 3, "two": 1}
    assert site.gateway.refusals == {}


async def test_a_refusal_blocks_that_phone_until_a_proof_passes(site: GatewaySite) -> None:
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("active", "")
    site.gateway.refuse("one")
    assert await site.brings(one) == ("blocked", "gateway")
    assert await in_database(registry.active_among, [one.id]) == set()
    told = [words.line(entry) for entry in await in_database(_story, one)]
    assert ("Blocked", "The mail gateway refuses it.") in [
        (each.text, each.detail) for each in told
    ]
    # It keeps what it needs to come again, and knocks once a check-in interval.
    one = await in_database(_fresh, one)
    assert one.secret_hash and bytes(one.push_token_sealed) and one.silent_since is not None
    answer = await in_database(checkin.instruct, one)
    assert (answer.state, answer.code, answer.do) == ("blocked", "gateway", "nothing")
    one.gateway_refused_at = clock.now() - timedelta(seconds=answer.checkin_seconds)
    assert await in_database(checkin.task_of, one) == "send_credentials"
    one.ids_sealed = None  # from before there was a gateway: it tells its ids by subscribing
    assert await in_database(checkin.task_of, one) == "subscribe"
    # Refused again: the same block, and no second line in its story.
    assert await site.brings(one) == ("blocked", "gateway")
    moves = [each for each in await in_database(_story, one) if each.kind == "moved"]
    assert [each.facts["to"] for each in moves].count("blocked") == 1
    site.gateway.admit("one")
    assert await site.brings(one) == ("active", "")
    one = await in_database(_fresh, one)
    assert one.gateway_refused_at is None and one.proved_at is not None
    # What came meanwhile is looked for.
    assert await in_database(LogEntry.objects.filter(kind="mail").exists)


async def test_a_phone_that_never_was_let_in_may_come_again(site: GatewaySite) -> None:
    site.gateway.refuse("one", status=403)
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("blocked", "gateway")
    # By a check-in, or by subscribing anew.
    one = await in_database(site.phone, "one")
    assert one.state == "joining"
    assert await site.brings(one) == ("blocked", "gateway")
    site.gateway.admit("one")
    assert await site.brings(one) == ("active", "")


async def test_other_statuses_refuse_where_the_administrator_says_so(site: GatewaySite) -> None:
    site.gateway.refuse("one", status=449)
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("refused", "not_ews")
    await in_database(_mail_system_takes, 449)
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("blocked", "gateway")


async def test_the_mailbox_is_handed_over(site: GatewaySite) -> None:
    one, two = await in_database(site.phone, "one"), await in_database(site.phone, "two")
    assert await site.brings(one) == ("active", "")
    assert await site.brings(two) == ("active", "")
    first = await in_database(Mailbox.objects.values_list("current_subscription", flat=True).get)
    site.gateway.refuse("one")
    assert await site.brings(one) == ("blocked", "gateway")
    handed = await in_database(Subscription.objects.get, id=first)
    assert handed.hand_over_by is not None and handed.state == "active"
    assert await in_database(lambda: WakeUp.objects.get().device_id) == two.id
    assert await in_database(checkin.task_of, await in_database(_fresh, two)) == "send_credentials"
    assert await site.brings(two) == ("active", "")
    now = await in_database(Mailbox.objects.values_list("current_subscription", flat=True).get)
    assert now not in (None, first)
    assert (await in_database(Subscription.objects.get, id=now)).owner_id == two.id


async def test_without_another_phone_nothing_is_kept(site: GatewaySite) -> None:
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("active", "")
    site.gateway.refuse("one")
    assert await site.brings(one) == ("blocked", "gateway")
    assert await in_database(_live) == 0
    site.gateway.admit("one")
    assert await site.brings(one) == ("active", "")
    assert await in_database(_live) == 1


async def test_a_block_of_ours_and_the_gateways_do_not_touch_each_other(site: GatewaySite) -> None:
    one, two = await in_database(site.phone, "one"), await in_database(site.phone, "two")
    site.gateway.refuse("one")
    assert await site.brings(one) == ("blocked", "gateway")
    # No administrator lifts what the gateway says.
    assert await in_database(device_actions.unblock, one, BY) == []
    assert await in_database(state, one) == ("blocked", "gateway")
    # But blocks for good what only the gateway refused; and no gateway lifts that.
    assert await in_database(_block, one) == [one.id]
    one = await in_database(_fresh, one)
    assert (one.state, one.reason) == ("blocked", "administrator")
    assert (one.secret_hash, bytes(one.push_token_sealed), one.ids_sealed) == ("", b"", None)
    site.gateway.admit("one")
    assert not await in_database(registry.refused_by_gateway, one.id, "")
    assert not await in_database(registry.proved, one.id)
    assert await in_database(device_actions.unblock, one, BY) == [one.id]
    # A refusal that comes after an administrator's block changes nothing.
    entry = await in_database(site.begin, await in_database(_fresh, two), ANNA)
    assert await in_database(_block, two) == [two.id]
    site.gateway.refuse("two")
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, two) == ("blocked", "administrator")


async def test_a_phone_whose_credentials_fail_behind_the_gateway_hears_that(
    site: GatewaySite,
) -> None:
    site.gateway.refuse("one")
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("blocked", "gateway")
    site.gateway.admit("one")
    one = await in_database(_fresh, one)
    entry = await in_database(site.begin, one, replace(ANNA, password="wrong"))
    assert await site.joiner.finish(entry) is None
    assert await in_database(state, one) == ("refused", "credentials_refused")


async def test_the_same_wrong_password_by_two_phones_is_tried_once(site: GatewaySite) -> None:
    wrong = replace(ANNA, password="wrong")
    for name in TOKENS:
        phone = await in_database(site.phone, name)
        entry = await in_database(site.begin, await in_database(_fresh, phone), wrong)
        assert await site.joiner.finish(entry) is None
        assert await in_database(state, phone) == ("refused", "credentials_refused")
    assert sum(site.lab.counters()["unauthorized"].values()) == 1


async def test_fetches_carry_the_name_of_whose_credentials_they_use(site: GatewaySite) -> None:
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("active", "")
    entries = await in_database(_claimed)
    (context,) = (await in_database(load, entries)).values()
    assert context.credentials is not None and context.endpoint.gateway is not None
    sent = context.endpoint.gateway.headers_for(context.credentials.identity)
    assert sent == (("X-Device-Id", "one"),)
    assert dict(context.credentials.identity)["uem_id"] == "uem of one"


async def test_a_phone_that_the_gateway_refuses_is_forgotten_when_it_stays_away(
    site: GatewaySite,
) -> None:
    site.gateway.refuse("one")
    one = await in_database(site.phone, "one")
    assert await site.brings(one) == ("blocked", "gateway")
    long_ago = clock.now() - timedelta(days=400)
    await in_database(Device.objects.update, last_checkin_at=long_ago)
    await in_database(scan.missed_checkins)
    assert await in_database(state, one) == (DeviceState.RETIRED, "missed_checkins")


def _story(device: Device) -> list[stories.Entry]:
    buffer.flush()
    return stories.story(device.id)


def _live() -> int:
    return Subscription.objects.exclude(state="ended").count()


def _block(device: Device) -> list[Any]:
    return device_actions.block(_fresh(device), BY, shred_now=True)


def _mail_system_takes(status: int) -> None:
    system = Mailbox.objects.select_related("mail_system").get().mail_system
    system.gateway_refusals = [403, status]
    system.save()


def _claimed() -> Any:
    return get_log().claim("mail", "test", 10, 30.0)


@pytest.mark.parametrize("offers", [{"ntlm"}, {"negotiate"}, {"ntlm", "negotiate"}])
async def test_ntlm_alone_behind_a_gateway_is_refused_by_name(
    site: GatewaySite, offers: set[str]
) -> None:
    async with (
        LabExchange(auth=frozenset(offers)) as other,
        LabGateway(other.url, other.ca_pem) as gateway,
    ):
        other.add_demo_accounts()
        site.lab, site.gateway = other, gateway
        await in_database(_moves_to, gateway)
        one = await in_database(site.phone, "one")
        assert await site.brings(one) == ("refused", "ntlm_behind_gateway")
        # Nobody's password went out, and nothing is remembered against it.
        assert other.counters()["unauthorized"] == {} and gateway.passes["one"] == 1
        assert not await in_database(RefusedCredential.objects.exists)


def _moves_to(gateway: LabGateway) -> None:
    system = Mailbox.objects.select_related("mail_system").get().mail_system
    system.hosts, system.ca_pem = [gateway.url.split("/")[2]], gateway.ca_pem
    system.save()
