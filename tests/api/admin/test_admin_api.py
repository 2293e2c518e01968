"""The admin API: what its calls do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from openapi_spec_validator import validate

from apps.administrators import api_tokens
from apps.administrators.api_tokens import TokenRefused
from apps.administrators.models import AdminApiToken, Administrator, RoleAssignment
from apps.administrators.roles import Role
from apps.api import limits
from apps.api.admin.base import PROBLEMS
from apps.api.models import AttemptWindow
from apps.audit.models import AuditEntry
from apps.devices.models import Device, DeviceState
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants import tokens
from apps.tenants.inherited import settings_for
from apps.tenants.models import ApiToken, OrganizationGroup
from ens_project.env import BASE_DIR
from tests.api.admin.conftest import Api

GUIDE = (Path(BASE_DIR) / "docs" / "admin-api.md").read_text("utf-8")


@pytest.fixture
def root(api: Callable[..., Api], og: OrganizationGroup) -> Api:
    return api(Role.SYSTEM_ADMINISTRATOR)


def test_a_group_is_made_and_audited_with_its_token(root: Api, og: OrganizationGroup) -> None:
    made = root.post("groups", {"name": "Sales", "parent": str(og.guid)})
    assert made.status_code == 201 and made.json()["parent"] == str(og.guid)
    names = [one["name"] for one in root.get("groups").json()["items"]]
    assert names == ["Example", "Sales"]
    again = root.post("groups", {"name": "Sales", "parent": str(og.guid)})
    assert (again.status_code, again.json()["code"]) == (409, "refused")
    entry = AuditEntry.objects.get()
    assert entry.actor == "system_administrator-all by token robot"
    assert entry.address == "127.0.0.1"
    assert again["Content-Type"] == "application/problem+json"


def test_settings_are_overridden_and_reset_with_their_origin(
    root: Api, og: OrganizationGroup, sales: OrganizationGroup
) -> None:
    path = f"groups/{og.guid}/settings/subscriptions"
    assert root.call("PATCH", path, {"values": {"asleep_hours": 5}}).status_code == 200
    shown = root.get(f"groups/{sales.guid}/settings").json()["sections"]["subscriptions"]
    assert shown["asleep_hours"] == {"value": 5, "origin": str(og.guid)}
    assert shown["retire_days"] == {"value": 30, "origin": None}
    assert settings_for(sales, SubscriptionSettings).asleep_hours == 5
    refused = root.call("PATCH", path, {"values": {"asleep_hours": 1}})
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "subscriptions.asleep_hours: less than 2",
    )
    assert root.call("DELETE", path, {"names": ["asleep_hours"]}).status_code == 200
    assert settings_for(sales, SubscriptionSettings).asleep_hours == 72
    first, last = AuditEntry.objects.order_by("id")
    assert (first.before, first.after) == ({"asleep_hours": 72}, {"asleep_hours": 5})
    assert (last.before, last.after) == ({"asleep_hours": 5}, {"asleep_hours": 72})
    assert root.call("PATCH", f"groups/{og.guid}/settings/none", {"values": {}}).status_code == 404


def test_an_origin_above_is_not_told_to_who_may_not_see_it(
    api: Callable[..., Api], root: Api, og: OrganizationGroup, sales: OrganizationGroup
) -> None:
    path = f"groups/{og.guid}/settings/subscriptions"
    root.call("PATCH", path, {"values": {"asleep_hours": 5}})
    caller = api(Role.AUDITOR, sales)
    shown = caller.get(f"groups/{sales.guid}/settings").json()["sections"]["subscriptions"]
    assert shown["asleep_hours"] == {"value": 5, "origin": None}
    assert caller.get(f"groups/{sales.guid}").json()["parent"] is None


def test_tokens_are_told_once_rotated_and_revoked(root: Api, og: OrganizationGroup) -> None:
    made = root.post(f"groups/{og.guid}/tokens", {"label": "phones"}).json()
    assert tokens.authenticate(made["token"]) == og
    assert made["token"] not in root.get(f"groups/{og.guid}/tokens").content.decode()
    next_one = root.post(f"tokens/{made['id']}/rotate", {"overlap_hours": 1}).json()
    assert tokens.authenticate(made["token"]) == tokens.authenticate(next_one["token"]) == og
    ApiToken.objects.filter(pk=made["id"]).update(expires_at=timezone.now())
    assert root.post(f"tokens/{made['id']}/rotate", {"overlap_hours": 1}).status_code == 409
    assert root.post(f"tokens/{next_one['id']}/revoke").status_code == 200
    assert tokens.authenticate(next_one["token"]) is None
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["token.create", "token.rotate", "token.revoke"]
    for entry in AuditEntry.objects.all():
        assert made["token"] not in f"{entry.before}{entry.after}"


def test_head_needs_the_scope_that_get_needs(
    api: Callable[..., Api], og: OrganizationGroup
) -> None:
    blocker = api(Role.HELP_DESK, og, scopes=("devices.act",))
    reader = api(Role.AUDITOR, og, scopes=("console.read",))
    for path in ("devices", "health", f"groups/{og.guid}/tokens"):
        assert blocker.call("HEAD", path).status_code == 403
        assert reader.call("HEAD", path).status_code == 200


def test_mail_systems(api: Callable[..., Api], root: Api, og: OrganizationGroup) -> None:
    path = f"groups/{og.guid}/mail-systems"
    asked = {"name": "Exchange", "hosts": ["Mail.Example.com"]}
    assert root.post(path, asked).json()["hosts"] == ["mail.example.com"]
    assert root.post(path, asked).status_code == 409
    for hosts in (["localhost"], ["169.254.169.254"], ["a b"]):
        assert root.post(path, {"name": "X", "hosts": hosts}).status_code == 409
    own = api(Role.OG_ADMINISTRATOR, og)
    private = {"name": "Private", "hosts": ["mail.corp"], "allow_private": True}
    assert own.post(path, private).json()["code"] == "forbidden"
    assert root.post(path, private).status_code == 201
    behind = {"name": "Behind", "hosts": ["seg.example.com"], "gateway": True, "tls_floor": "1.1"}
    made = root.post(path, behind | {"gateway_headers": ["X-Id: {eas_id}"]}).json()
    assert (made["gateway"], made["tls_floor"], made["gateway_headers"]) == (
        True,
        "1.1",
        ["X-Id: {eas_id}"],
    )
    wrong = behind | {"name": "Wrong", "gateway_headers": ["Cookie: {eas_id}"]}
    assert root.post(path, wrong).status_code == 409
    assert root.post(path, behind | {"tls_floor": "0.9"}).status_code == 400
    found = {"name": "Found", "hosts": ["a.example"], "smtp_domains": ["@B.example"]}
    made = root.post(path, found).json()
    assert (made["smtp_domains"], made["autodiscover"]) == (["b.example"], True)
    assert root.post(path, found | {"name": "Y", "smtp_domains": ["a b"]}).status_code == 409


def test_devices_are_found_by_address_and_ids_that_stand_in_no_url(
    root: Api, og: OrganizationGroup, enrol: Callable[..., Device]
) -> None:
    anna = enrol(og, "anna@example.com", "ab" * 32, "uem-1")
    enrol(og, "bert@example.com", "cd" * 32, "uem-2")

    def found(**asked: Any) -> list[str]:
        return [one["id"] for one in root.post("devices/search", asked).json()["items"]]

    assert found(address="Anna@example.com") == [str(anna.id)]
    assert found(uem_id="uem-1") == [str(anna.id)]
    assert found(uem_id="uem-1", address="bert@example.com") == []
    assert len(found(state="active", group=str(og.guid))) == 2
    assert root.post("devices/search", {"adress": "x"}).status_code == 400


def test_pages_follow_one_another(
    root: Api, og: OrganizationGroup, enrol: Callable[..., Device]
) -> None:
    ids = {str(enrol(og, f"u{n}@example.com", f"{n:064x}").id) for n in range(7)}
    seen: list[str] = []
    cursor = ""
    for _ in range(4):
        page = root.get("devices", limit="3", cursor=cursor).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7 and set(seen) == ids
    for bad in ({"limit": "0"}, {"limit": "501"}, {"cursor": "x"}, {"cursor": "'; --"}):
        assert root.get("devices", **bad).status_code == 400


def test_many_devices_cost_no_more_queries(
    root: Api,
    og: OrganizationGroup,
    enrol: Callable[..., Device],
    django_assert_max_num_queries: Any,
) -> None:
    for n in range(20):
        enrol(og, f"u{n}@example.com", f"{n:064x}")
    for path in ("devices", "subscriptions", "groups", "audit"):
        root.get(path)
        with django_assert_max_num_queries(6):
            assert root.get(path).status_code == 200


def test_a_compliance_verdict_by_uem_id(
    api: Callable[..., Api], og: OrganizationGroup, enrol: Callable[..., Device]
) -> None:
    device = enrol(og, uem_id="uem-1")
    gateway = api(Role.HELP_DESK, og, scopes=("devices.act",))
    answer = gateway.post("blocks", {"uem_id": "uem-1", "shred_now": True, "reason": "gateway"})
    assert answer.json() == {"devices": [str(device.id)]}
    device.refresh_from_db()
    assert (device.state, device.reason) == (DeviceState.BLOCKED, "gateway")
    assert gateway.call("DELETE", "blocks", {"uem_id": "uem-1"}).json() == {
        "devices": [str(device.id)]
    }
    both = {"uem_id": "a", "eas_id": "b", "shred_now": True}
    assert gateway.post("blocks", both).status_code == 400
    assert gateway.post("blocks", {"shred_now": True}).status_code == 400


def test_who_sees_several_trees_names_one(
    root: Api, og: OrganizationGroup, other: OrganizationGroup
) -> None:
    answer = root.post("blocks", {"uem_id": "uem-1", "shred_now": True})
    assert answer.status_code == 400 and "group" in answer.json()["detail"]
    named = {"uem_id": "uem-1", "shred_now": True, "group": str(other.guid)}
    assert root.post("blocks", named).status_code == 200


def test_a_devices_detail_has_its_story_and_its_blocks(
    root: Api, og: OrganizationGroup, enrol: Callable[..., Device]
) -> None:
    device = enrol(og, uem_id="uem-1")
    root.post(f"devices/{device.id}/block", {"shred_now": False})
    detail = root.get(f"devices/{device.id}").json()
    assert detail["state"] == "blocked" and detail["subscription"] is None
    assert {block["kind"] for block in detail["blocks"]} == {"uem", "push-token"}
    assert root.call("DELETE", f"devices/{device.id}/block").json()["devices"]
    assert root.call("DELETE", f"devices/{device.id}").status_code == 204
    assert root.get(f"devices/{device.id}").status_code == 404


def test_persons(root: Api, og: OrganizationGroup, enrol: Callable[..., Device]) -> None:
    device = enrol(og, "anna@example.com")
    held = root.post("persons/export", {"address": "anna@example.com"}).json()
    assert held["mailboxes"][0]["devices"][0]["id"] == str(device.id)
    counts = root.post("persons/forget", {"address": "anna@example.com"}).json()
    assert counts == {"mailboxes": 1, "devices": 1, "subscriptions": 0}
    assert "anna@" not in str(list(AuditEntry.objects.values()))


def test_health_and_alerts(root: Api, api: Callable[..., Api], og: OrganizationGroup) -> None:
    assert root.get("health").json()["checks"].keys() == {"database", "event_log", "broker"}
    assert api(Role.HELP_DESK, og).get("health").json()["alerts"] == []


def test_the_audit_log_by_page_and_search(root: Api, og: OrganizationGroup) -> None:
    for name in ("One", "Two", "Three"):
        root.post("groups", {"name": name, "parent": str(og.guid)})
    page = root.get("audit", limit="2").json()
    assert [one["target"] for one in page["items"]] == ["Three", "Two"]
    rest = root.get("audit", cursor=page["next_cursor"]).json()["items"]
    assert [one["target"] for one in rest] == ["One"]
    assert len(root.get("audit", search="two").json()["items"]) == 1
    assert root.get("audit", since="yesterday").status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ('{"name": NaN}', 400),
        ('{"name": "a", "name": "b"}', 400),
        ('{"name": "\\u0000"}', 400),
        ('{"name": "a", "parent": "7"}', 400),
        ('{"name": "a", "parent": 7}', 404),
        ("[" * 100_000, 413),
        ('{"name": "' + "x" * 40_000 + '"}', 413),
    ],
)
def test_hostile_bodies(root: Api, body: str, status: int, client: Client) -> None:
    answer = client.post(
        "/MailNotificationService/api/admin/v1/groups",
        body,
        content_type="application/json",
        headers={"authorization": f"Bearer {root.token}"},
    )
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"


# --- tokens of the admin API ------------------------------------------------------------------
@pytest.fixture
def owner(og: OrganizationGroup) -> Administrator:
    made = Administrator.objects.create(username="anna")
    RoleAssignment.objects.create(administrator=made, role=Role.OG_ADMINISTRATOR, og=og)
    return made


def test_a_token_does_no_more_than_its_owner_may_at_that_moment(
    owner: Administrator, og: OrganizationGroup, sales: OrganizationGroup, other: OrganizationGroup
) -> None:
    def paths(token: str) -> Any:
        caller = api_tokens.authenticate(token)
        return caller and caller.paths("devices.act")

    _, wide = api_tokens.issue(owner, None, "wide", ["devices.act"])
    _, narrow = api_tokens.issue(owner, sales, "narrow", ["devices.act"])
    _, foreign = api_tokens.issue(owner, other, "foreign", ["devices.act"])
    assert (paths(wide), paths(narrow), paths(foreign)) == ((og.path,), (sales.path,), ())
    RoleAssignment.objects.filter(administrator=owner).update(role=Role.AUDITOR)
    assert paths(wide) == paths(narrow) == ()
    Administrator.objects.filter(pk=owner.pk).update(is_active=False)
    assert api_tokens.authenticate(wide) is None


def test_tokens_end(owner: Administrator) -> None:
    row, token = api_tokens.issue(owner, None, "robot", ["devices.act"])
    assert AdminApiToken.objects.get().token_hash != token
    _, next_one = api_tokens.rotate(row, timedelta(hours=1))
    assert api_tokens.authenticate(token) and api_tokens.authenticate(next_one)
    row.refresh_from_db()
    assert row.last_used_at is not None
    AdminApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    assert api_tokens.authenticate(token) is None
    row.refresh_from_db()
    with pytest.raises(TokenRefused):
        api_tokens.rotate(row, timedelta(hours=1))
    assert api_tokens.revoke(AdminApiToken.objects.latest("id")) is True
    assert api_tokens.authenticate(next_one) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["administrators.manage"]},
        {"scopes": ["everything"]},
        {"label": ""},
        {"expires_at": timezone.now() - timedelta(days=1)},
    ],
)
def test_tokens_that_are_not_made(owner: Administrator, wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"label": "robot", "scopes": ["devices.act"]} | wrong
    with pytest.raises(TokenRefused):
        api_tokens.issue(owner, None, **given)


def test_guessing_is_limited(
    client: Client, og: OrganizationGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.Limit, "_window", lambda _self: 1)  # which doesn't end meanwhile
    stranger = Api(client, "ensadm_guess")
    assert stranger.get("me").status_code == 401
    AttemptWindow.objects.update(attempts=limits.FAILURES.attempts)
    refused = stranger.get("me")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
    assert int(refused["Retry-After"]) >= 1


# --- the description and the guide ------------------------------------------------------------
def test_the_description_is_openapi_and_of_this_api_only(root: Api, client: Client) -> None:
    described = root.get("openapi").json()
    validate(described)
    paths = set(described["paths"])
    assert "/MailNotificationService/api/admin/v1/devices/search" in paths
    assert not any("/api/ens/" in path for path in paths)
    of_devices = client.get("/MailNotificationService/api/ens/openapi?format=json").json()
    validate(of_devices)
    assert not any("/api/admin/" in path for path in of_devices["paths"])


def test_the_guide_names_every_route_and_every_problem(root: Api) -> None:
    described = root.get("openapi").json()["paths"]
    for path, methods in described.items():
        short = re.sub(r"\{\w+\}", "<id>", path.partition("/api/admin/v1/")[2])
        for method in methods:
            assert f"`{method.upper()} {short}`" in GUIDE, (method, short)
    for code, (status, _) in PROBLEMS.items():
        assert re.search(rf"\| {status} \| `{code}` \|", GUIDE), code
    for scope in {one for one in api_tokens.SCOPES if one != "diagnostics.run"}:
        assert f"`{scope}`" in GUIDE, scope
