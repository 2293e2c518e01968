from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from apps.keypairs import service
from apps.keypairs.models import KeyPair, OpenedJwe
from apps.keypairs.policy import KeyPairSettings
from apps.keypairs.service import (
    JweRefused,
    NoKeyReady,
    PublicKey,
    current_public_key,
    open_jwe,
    rotate,
)
from apps.keypairs.tasks import rotate as rotate_task
from apps.tenants.groups import create_group
from apps.tenants.inherited import override
from apps.tenants.models import OrganizationGroup
from apps.vault.wrapping import UnwrapFailed
from tests.keypairs.devices import claims, encrypt, number
from tests.vault.processes import SETUP, migrate, run, run_at_once

Wait = Callable[..., None]
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def refused(og: OrganizationGroup, compact: str) -> str:
    """The code with which a JWE is refused, or `opened`."""
    try:
        with transaction.atomic():
            open_jwe(og, compact)
    except JweRefused as error:
        assert str(error) == error.code
        return error.code
    return "opened"


# --- the public key and its rotation ---------------------------------------------------------


def test_a_new_group_has_no_key_until_the_first_rotation(og: OrganizationGroup) -> None:
    with pytest.raises(NoKeyReady):
        current_public_key(og)
    rotate_task()
    key = current_public_key(og)
    assert key.jwk == {
        "kty": "RSA", "n": key.jwk["n"], "e": "AQAB",
        "kid": key.kid, "alg": "RSA-OAEP-256", "use": "enc",
    }  # fmt: skip
    assert number(key.jwk["n"]).bit_length() == 2048


def test_the_next_pair_waits_and_takes_over_without_a_rotation(
    og: OrganizationGroup, wait: Wait
) -> None:
    rotate()
    assert KeyPair.objects.filter(og=og).count() == 2
    first = current_public_key(og)
    wait(hours=5.9)
    assert current_public_key(og) == first
    wait(hours=0.2)
    second = current_public_key(og)
    assert second.kid != first.kid
    rotate()
    assert current_public_key(og) == second
    wait(hours=6)
    assert current_public_key(og).kid not in (first.kid, second.kid)


def test_a_rotation_that_has_nothing_to_do_makes_nothing(key: PublicKey) -> None:
    before = list(KeyPair.objects.order_by("pk").values())
    rotate()
    assert list(KeyPair.objects.order_by("pk").values()) == before


def test_a_spent_pair_is_destroyed_with_what_it_opened(
    og: OrganizationGroup, key: PublicKey, wait: Wait
) -> None:
    compact = encrypt(key.jwk, claims())
    assert refused(og, compact) == "opened"
    wait(hours=7.9)
    rotate()
    assert KeyPair.objects.filter(kid=key.kid).exists()
    wait(hours=0.2)
    assert refused(og, compact) == "jwe_expired_key"
    rotate()
    assert not KeyPair.objects.filter(kid=key.kid).exists()
    assert OpenedJwe.objects.count() == 0
    assert refused(og, compact) == "jwe_unknown_key"


def test_what_was_opened_is_remembered_until_its_time_is_stale(
    og: OrganizationGroup, key: PublicKey, wait: Wait
) -> None:
    compact = encrypt(key.jwk, claims())
    assert refused(og, compact) == "opened"
    wait(minutes=9.9)
    rotate()
    assert refused(og, compact) == "jwe_replayed"
    wait(minutes=11)
    rotate()
    assert OpenedJwe.objects.count() == 0
    assert refused(og, compact) == "jwe_stale"


def test_after_a_long_standstill_the_next_rotation_begins_anew(
    og: OrganizationGroup, key: PublicKey, wait: Wait
) -> None:
    wait(days=3)
    with pytest.raises(NoKeyReady):
        current_public_key(og)
    rotate()
    assert current_public_key(og).kid != key.kid


def test_each_group_has_pairs_of_its_own_size_and_age(wait: Wait, og: OrganizationGroup) -> None:
    child = create_group("Strict", og)
    override(child, KeyPairSettings, bits=3072, hours_current=1, hours_accepted_after=1)
    rotate()
    ours, theirs = current_public_key(og), current_public_key(child)
    assert number(theirs.jwk["n"]).bit_length() == 3072
    assert (ours.expires_at - theirs.expires_at).total_seconds() == 6 * 3600
    assert refused(og, encrypt(theirs.jwk, claims())) == "jwe_unknown_key"
    assert refused(child, encrypt(theirs.jwk, claims())) == "opened"


def test_a_group_below_may_not_weaken_its_keys(og: OrganizationGroup) -> None:
    child = create_group("Lax", og)
    override(og, KeyPairSettings, bits=3072)
    with pytest.raises(ValueError, match="wider"):
        override(child, KeyPairSettings, bits=2048)
    with pytest.raises(ValueError, match="not one of the choices"):
        override(child, KeyPairSettings, bits=1024)


def test_the_private_key_is_wrapped_for_its_row_only(og: OrganizationGroup, key: PublicKey) -> None:
    first, second = KeyPair.objects.order_by("number")
    KeyPair.objects.filter(pk=first.pk).update(wrapped_private=second.wrapped_private)
    with pytest.raises(UnwrapFailed):
        refused(og, encrypt(key.jwk, claims()))


def test_the_public_key_costs_one_query_and_reads_no_private_key(
    og: OrganizationGroup, key: PublicKey
) -> None:
    with CaptureQueriesContext(connection) as queries:
        current_public_key(og)
    assert len(queries) == 1
    assert "wrapped_private" not in queries[0]["sql"]


# --- opening ---------------------------------------------------------------------------------


def test_a_jwe_opens_once(og: OrganizationGroup, key: PublicKey) -> None:
    sent = claims(email="anna@example.com", nested={"ä": ["😀", 1.5, None]})
    compact = encrypt(key.jwk, sent)
    with transaction.atomic():
        assert open_jwe(og, compact) == sent
    assert refused(og, compact) == "jwe_replayed"
    assert refused(og, encrypt(key.jwk, sent)) == "jwe_replayed", "the id counts, not the text"
    assert refused(og, encrypt(key.jwk, claims())) == "opened"


def test_no_other_spelling_of_the_same_jwe_opens(og: OrganizationGroup, key: PublicKey) -> None:
    """The last characters of 256 bytes and of 16 in base64url have four bits to spare."""
    compact = encrypt(key.jwk, claims())
    assert refused(og, compact) == "opened"
    parts = compact.split(".")
    for part in (1, 4):
        for last in BASE64URL:
            other = [*parts[:part], parts[part][:-1] + last, *parts[part + 1 :]]
            assert refused(og, ".".join(other)) in ("jwe_replayed", "jwe_not_opened")


def test_the_id_stands_nowhere_in_the_database(og: OrganizationGroup, key: PublicKey) -> None:
    assert refused(og, encrypt(key.jwk, claims(jti="anna@example.com"))) == "opened"
    assert "anna" not in json.dumps(list(OpenedJwe.objects.values()), default=str)


def test_a_caller_that_rolls_back_has_not_opened(og: OrganizationGroup, key: PublicKey) -> None:
    compact = encrypt(key.jwk, claims())
    with pytest.raises(KeyError), transaction.atomic():
        open_jwe(og, compact)
        raise KeyError
    assert refused(og, compact) == "opened"


def test_a_replay_leaves_the_callers_transaction_whole(
    og: OrganizationGroup, key: PublicKey
) -> None:
    compact = encrypt(key.jwk, claims())
    assert refused(og, compact) == "opened"
    with transaction.atomic():
        with pytest.raises(JweRefused):
            open_jwe(og, compact)
        assert OrganizationGroup.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_needs_the_callers_transaction() -> None:
    og = create_group("Example")
    with pytest.raises(TransactionManagementError):
        open_jwe(og, "x")


@pytest.mark.parametrize("size", [3072, 4096])
def test_larger_keys_open_too(og: OrganizationGroup, size: int) -> None:
    override(og, KeyPairSettings, bits=size)
    rotate()
    assert refused(og, encrypt(current_public_key(og).jwk, claims())) == "opened"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(-590, "opened"), (590, "opened"), (-610, "jwe_stale"), (610, "jwe_stale")],
)
def test_time_of_the_jwe(og: OrganizationGroup, key: PublicKey, seconds: int, code: str) -> None:
    assert refused(og, encrypt(key.jwk, claims(iat=int(time.time()) + seconds))) == code


@pytest.mark.parametrize("iat", [0, -1, 10**18, 10**4000, -(10**4000)], ids="abcde")
def test_absurd_times_are_stale(og: OrganizationGroup, key: PublicKey, iat: int) -> None:
    assert refused(og, encrypt(key.jwk, claims(iat=iat))) == "jwe_stale"


def test_a_stale_jwe_is_not_remembered(og: OrganizationGroup, key: PublicKey) -> None:
    assert refused(og, encrypt(key.jwk, claims(iat=1))) == "jwe_stale"
    assert OpenedJwe.objects.count() == 0


@pytest.mark.parametrize("kid", ["", "x", "0" * 32, "ä" * 32, "a'; --", "K" * 600])
def test_unknown_key_ids(og: OrganizationGroup, key: PublicKey, kid: str) -> None:
    header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": kid}
    assert refused(og, encrypt(key.jwk, claims(), header)) == "jwe_unknown_key"


def test_a_key_id_has_one_spelling(og: OrganizationGroup, key: PublicKey) -> None:
    for kid in (key.kid.upper(), key.kid + " "):
        header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": kid}
        assert refused(og, encrypt(key.jwk, claims(), header)) == "jwe_unknown_key"


def test_the_library_is_not_reached_by_a_refused_header(
    og: OrganizationGroup, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("decrypted")

    monkeypatch.setattr(service.jwe, "decrypt", fail)
    header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": key.kid, "zip": "DEF"}
    assert refused(og, encrypt(key.jwk, claims(), header)) == "jwe_header_forbidden"


# --- several processes -----------------------------------------------------------------------


def test_processes_that_open_the_same_jwe_at_the_same_instant(tmp_path: Path) -> None:
    migrate(tmp_path)
    jwk = json.loads(
        run(
            tmp_path,
            "-c",
            SETUP + "import json\n"
            "from apps.tenants.groups import create_group\n"
            "from apps.keypairs.service import current_public_key, rotate\n"
            "og = create_group('x'); rotate()\n"
            "print(json.dumps(current_public_key(og).jwk))",
        )
    )
    jwes = [encrypt(jwk, claims()) for _ in range(20)]
    program = (
        "from django.db import transaction\n"
        "from apps.tenants.models import OrganizationGroup\n"
        "from apps.keypairs.service import JweRefused, open_jwe\n"
        "og = OrganizationGroup.objects.get()\n"
        "for number, compact in enumerate(JWES):\n"
        "    try:\n"
        "        with transaction.atomic(): open_jwe(og, compact)\n"
        "        print(number)\n"
        "    except JweRefused as refused:\n"
        "        assert refused.code == 'jwe_replayed', refused\n"
    ).replace("JWES", repr(jwes))
    first, second = run_at_once(tmp_path, program, count=2)
    assert sorted(map(int, first.split() + second.split())) == list(range(20))


def test_processes_that_rotate_at_the_same_instant_make_one_pair_each(tmp_path: Path) -> None:
    migrate(tmp_path)
    run(
        tmp_path,
        "-c",
        SETUP + "from apps.tenants.groups import create_group\n"
        "for name in 'abc': create_group(name)",
    )
    run_at_once(tmp_path, "from apps.keypairs.service import rotate; rotate()", count=2)
    counted = run(
        tmp_path,
        "-c",
        SETUP + "from apps.keypairs.models import KeyPair\n"
        "from django.db.models import Count\n"
        "print([n for _, n in KeyPair.objects.values_list('og').annotate(Count('pk'))])",
    )
    assert counted == "[2, 2, 2]\n"
