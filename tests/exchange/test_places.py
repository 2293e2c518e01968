"""Places at a mail server are limited, fair, and given back whatever happens."""

from __future__ import annotations

import asyncio
import random

import pytest

from apps.exchange.places import Places


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_by_turns_among_accounts() -> None:
    places = Places(1)
    await places.take("hog")
    order: list[str] = []

    async def call(account: str) -> None:
        await places.take(account)
        order.append(account)
        places.give_back(account)

    tasks = [asyncio.create_task(call("hog")) for _ in range(50)]
    await settle()
    tasks += [asyncio.create_task(call(name)) for name in ("anna", "ben", "anna")]
    await settle()
    places.give_back("hog")
    await asyncio.gather(*tasks)
    assert order[:6] == ["hog", "anna", "ben", "hog", "anna", "hog"]
    assert places.idle


async def test_nobody_takes_more_than_a_part() -> None:
    places = Places(64)
    hogs = [asyncio.create_task(places.take("hog")) for _ in range(50)]
    await settle()
    assert sum(task.done() for task in hogs) == 4
    async with asyncio.timeout(1):
        for number in range(60):
            await places.take(f"user{number}")
    late = asyncio.create_task(places.take("late"))
    await settle()
    assert not late.done()
    places.give_back("user0")
    await settle()
    assert late.done()
    for task in hogs:
        task.cancel()
    await asyncio.gather(*hogs, return_exceptions=True)


async def test_mail_goes_before_joins_which_keep_one_place() -> None:
    places = Places(4)
    for holder in "abcd":
        await places.take(holder)
    joining_beside_mail = []

    async def call(account: str, *, joins: bool) -> None:
        await places.take(account, joins=joins)
        if places._mail:
            joining_beside_mail.append(places._joining)
        await asyncio.sleep(0.005)
        places.give_back(account, joins=joins)

    tasks = [asyncio.create_task(call(f"join{n}", joins=True)) for n in range(12)]
    await settle()
    tasks += [asyncio.create_task(call(f"mail{n}", joins=False)) for n in range(12)]
    await settle()
    for holder in "abcd":
        places.give_back(holder)
    await asyncio.gather(*tasks)
    # One place goes on for joins, and no more while mail waits.
    assert max(joining_beside_mail) == 1 and 1 in joining_beside_mail[1:]
    assert places.idle and not places._joining


async def test_who_goes_while_waiting_leaves_nothing_behind() -> None:
    places = Places(1)
    await places.take("anna")
    waiting = asyncio.create_task(places.take("ben"))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    places.give_back("anna")
    assert places.idle
    # Cancelled in the very moment in which the place is there.
    await places.take("anna")
    waiting = asyncio.create_task(places.take("ben"))
    await settle()
    places.give_back("anna")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert places.idle


@pytest.mark.parametrize("seed", range(20))
async def test_never_more_than_the_limit_and_all_get_their_turn(seed: int) -> None:
    chance = random.Random(seed)
    places = Places(chance.choice([1, 3, 8, 20]))
    under_way = finished = 0

    async def call(account: str) -> None:
        nonlocal under_way, finished
        joins = chance.random() < 0.3
        async with asyncio.timeout(chance.choice([0.002, 5.0])):
            await places.take(account, joins=joins)
        under_way += 1
        assert under_way <= places._most
        await asyncio.sleep(chance.random() / 500)
        if chance.random() < 0.2:
            places.halve()
        else:
            places.went_well(0.001)
        under_way -= 1
        places.give_back(account, joins=joins)
        finished += 1

    calls = [call(f"user{chance.randrange(8)}") for _ in range(200)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in ended if one is not None} <= {TimeoutError}
    assert finished == sum(one is None for one in ended) > 0
    assert places.idle and under_way == 0 and not places._under_way and not places._joining
