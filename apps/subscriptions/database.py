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


async def in_database(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking database work on the database thread and await its result."""
    call = partial(copy_context().run, _with_fresh_connection, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_thread, call)


def _with_fresh_connection(function: Callable[[], T]) -> T:
    close_old_connections()
    return function()
