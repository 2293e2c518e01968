"""The page that does something with many devices, in a browser: its parts, its bar, its way on."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.test import Client
from playwright.sync_api import Page, Route, expect

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.devices.models import Device
from apps.lab.live import browser
from tests.console.fleet import make_device
from tests.console.people import BASE, World, signed_in

HOST = "https://console.example"
DEVICES = f"{BASE}devices/device/"


class Wire:
    """Answers a browser's requests by Django itself; the second part of a bulk gets lost once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.parts = 0

    def __call__(self, route: Route) -> None:
        asked = route.request
        path = urlsplit(asked.url)
        if path.path.endswith("/bulk/"):
            self.parts += 1
            if self.parts == 2:
                route.abort()
                return
        answer = self._client.generic(
            asked.method,
            f"{path.path}?{path.query}",
            asked.post_data_buffer or b"",
            content_type=asked.headers.get("content-type", ""),
        )
        body = b"".join(answer) if answer.streaming else answer.content  # type: ignore[attr-defined]
        sent = ("Content-Type", "Content-Security-Policy")
        kept = {name: answer[name] for name in sent if name in answer}
        route.fulfill(status=answer.status_code, headers=kept, body=body)


@pytest.mark.slow
# The browser is answered on a connection of its own, which sees what is committed.
@pytest.mark.django_db(transaction=True)
def test_what_was_lost_on_the_way_is_done_when_one_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = browser.find()
    if path is None:
        pytest.skip("no Chromium on PATH")

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    for number in range(60):
        make_device(world.mine, f"{number}@example.com", state="asleep")
    make_device(world.mine, "awake@example.com")
    wire = Wire(signed_in(world.people[Role.HELP_DESK]))
    with browser.opened(path) as chromium:
        page = chromium.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.route("**/*", wire)
        _choose_all(page)
        page.locator("#bulk button[type=submit]").click()
        status = page.locator("#bulk-status")
        expect(status).to_contain_text("Stopped after 25")
        assert Device.objects.filter(state="blocked").count() == 25
        page.get_by_role("button", name="Go on").click()
        expect(status).to_have_text("Done: 60 of 60.")
        expect(page.get_by_role("link", name="Back to the devices")).to_be_visible()
        assert page.locator("progress").get_attribute("value") == "60"
    assert not wrong
    assert wire.parts == 4
    assert Device.objects.filter(state="blocked").count() == 60
    assert AuditEntry.objects.filter(action="device.block").count() == 60


def _choose_all(page: Page) -> None:
    """All pages of the table, by its own «select all»."""
    page.goto(f"{HOST}{DEVICES}?state__exact=asleep")
    page.check("#action-toggle")
    page.locator(".actions .question a").click()
    page.select_option("select[name=action]", "bulk_block")
    page.locator("#changelist-actions button[type=submit]").first.click()
    expect(page.locator("#bulk")).to_contain_text("60 devices.")
