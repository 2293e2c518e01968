"""Lets the workers' event loop use Django's ORM, which may block, without stopping the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

# One thread: its connection stays open, and on SQLite writers would only wait for each other.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ens-database")
# Joins have their own: a flood of them, after an Exchange restart, must not hold up announcements.
_joins_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ens-joins-database")

# And so has recording what is done: what is not recorded when a process is killed is repeated.
_records_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ens-records-database")


async def in_database(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking database work on the database thread and await its result."""
    return await _run_on(_thread, partial(function, *args, **kwargs))


async def in_joins_database(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for the work of joins, which waits for nobody else's and holds up nobody else's."""
    return await _run_on(_joins_thread, partial(function, *args, **kwargs))


async def in_records_database(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for recording what is done, which does not wait for looking up what is to do."""
    return await _run_on(_records_thread, partial(function, *args, **kwargs))


async def _run_on(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    call = partial(copy_context().run, _with_fresh_connection, work)
    return await asyncio.get_running_loop().run_in_executor(thread, call)


def _with_fresh_connection(function: Callable[[], T]) -> T:
    close_old_connections()
    return function()
