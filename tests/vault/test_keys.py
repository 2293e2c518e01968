from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps as django_apps
from django.core.management import CommandError, call_command
from django.db.migrations.state import ProjectState
from django.db.models.signals import post_migrate

from apps.vault import keys
from apps.vault.lookup import lookup_hmac
from apps.vault.master import MasterKeyInvalid
from apps.vault.models import VaultKey
from apps.vault.urlmac import sign
from apps.vault.wrapping import UnwrapFailed
from tests.vault.processes import SETUP, migrate, run, run_at_once

pytestmark = pytest.mark.django_db


def test_migrating_makes_one_key_of_each_kind() -> None:
    rows = VaultKey.objects.values_list("kind", "number")
    assert sorted(rows) == [("lookup", 1), ("url_mac", 1)]
    lookup, url_mac = (keys.load(kind) for kind in VaultKey.Kind)
    assert len(lookup[1]) == len(url_mac[1]) == 32
    assert lookup[1] != url_mac[1]


def test_migrating_again_changes_no_key() -> None:
    before = list(VaultKey.objects.order_by("pk").values())
    call_command("migrate", verbosity=0)
    assert list(VaultKey.objects.order_by("pk").values()) == before


@pytest.mark.django_db(transaction=True)
def test_flushing_makes_new_keys_and_forgets_the_old_ones() -> None:
    before = lookup_hmac("d", "v"), sign("m")
    call_command("flush", interactive=False, verbosity=0)
    after = lookup_hmac("d", "v"), sign("m")
    assert before[0] != after[0] and before[1] != after[1]


def test_migrating_back_to_nothing_makes_no_key() -> None:
    VaultKey.objects.all().delete()
    # Other apps' receivers hear the same signal, and can't do with so little.
    mine = [
        receiver
        for receiver in post_migrate._live_receivers(django_apps.get_app_config("vault"))[0]
        if receiver.__module__ == "apps.vault.apps"
    ]
    assert len(mine) == 1
    mine[0](using="default", apps=ProjectState().apps)
    assert not VaultKey.objects.exists()


def test_a_key_copied_to_another_row_does_not_open() -> None:
    lookup = VaultKey.objects.get(kind=VaultKey.Kind.LOOKUP)
    VaultKey.objects.filter(kind=VaultKey.Kind.URL_MAC).update(wrapped=lookup.wrapped)
    with pytest.raises(UnwrapFailed):
        keys.load(VaultKey.Kind.URL_MAC)


def test_no_key_at_all_is_said() -> None:
    VaultKey.objects.all().delete()
    with pytest.raises(keys.VaultKeyMissing, match=r"run `manage\.py migrate`"):
        keys.load(VaultKey.Kind.LOOKUP)


def test_no_master_key_ends_the_migration_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> bytes:
        raise MasterKeyInvalid("master key file x does not exist")

    VaultKey.objects.all().delete()
    monkeypatch.setattr(keys, "wrap", fail)
    with pytest.raises(CommandError, match="master key file x does not exist"):
        keys.make_missing("default")


def test_two_processes_at_the_same_instant_make_one_key(tmp_path: Path) -> None:
    migrate(tmp_path)
    program = (
        "from apps.vault import keys, lookup, models, urlmac\n"
        "keys.make_missing('default')\n"
        "print(lookup.lookup_hmac('d', 'v'), urlmac.sign('m'))"
    )
    run(tmp_path, "-c", SETUP + "from apps.vault.models import *; VaultKey.objects.all().delete()")
    first, second = run_at_once(tmp_path, program, count=2)
    assert first == second != ""


def test_the_loser_of_the_race_takes_the_winners_key(monkeypatch: pytest.MonkeyPatch) -> None:
    winner = keys.load(VaultKey.Kind.LOOKUP)
    monkeypatch.setattr("django.db.models.query.QuerySet.exists", lambda _self: False)
    keys.make_missing("default")
    assert keys.load(VaultKey.Kind.LOOKUP) == winner
