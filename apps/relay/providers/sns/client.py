"""A boto3 client that knows what it is told and nothing else.

boto3 looks for its settings in the environment, in `~/.aws`, and asks the machine's metadata
service for credentials; it takes proxies and CA bundles from the environment. None of that is a
deployment's word.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any, Final

import boto3
import botocore.session
import certifi
from botocore.config import Config
from botocore.loaders import Loader

from apps.relay.providers.sns.account import SnsAccount

# How many calls run side by side, altogether and over the connections of one client.
THREADS: Final = 16
_CONNECT_S: Final = 3.0
_READ_S: Final = 4.0
_lock = threading.Lock()

# Every variable with its default value, without a name in the environment or in a file.
_VARIABLES: Final = {
    name: (None, None, default, convert)
    for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
} | {
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


def make_client(account: SnsAccount, endpoint_url: str | None = None) -> Any:
    """A client for SNS in the account's region; may be used from several threads.

    Args:
        account: whose key it signs with.
        endpoint_url: another address than Amazon's, for tests.
    """
    # Clients may be shared by threads, but not made by several at once.
    with _lock:
        return _session().client(
            "sns",
            region_name=account.region,
            endpoint_url=endpoint_url,
            aws_access_key_id=account.access_key_id,
            aws_secret_access_key=account.secret_access_key,
            verify=certifi.where(),
            config=Config(
                proxies={},
                ignore_configured_endpoint_urls=True,
                connect_timeout=_CONNECT_S,
                read_timeout=_READ_S,
                max_pool_connections=THREADS,
                # Repeating is the caller's business, who knows how long it makes sense.
                retries={"total_max_attempts": 1, "mode": "standard"},
            ),
        )


@cache
def _session() -> boto3.Session:
    """One for all: it keeps the descriptions of Amazon's services, which take long to read."""
    session = botocore.session.Session(session_vars=_VARIABLES)
    # Not `~/.aws/models`, which could redefine what SNS is.
    loader = Loader(
        extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False
    )
    session.register_component("data_loader", loader)
    return boto3.Session(botocore_session=session)
