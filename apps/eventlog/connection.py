"""From the address of a Redis, or of the Sentinels that know where it is, to a client.

`redis://[user:password@]host[:port][/db]` and `rediss://…` (TLS) are redis-py's own forms.
`redis+sentinel://[user:password@]host[:port],host[:port],…/<service>[/db]` and
`rediss+sentinel://…` name the Sentinels; user and password are those of Redis, those of the
Sentinels themselves go into the query: `?sentinel_username=…&sentinel_password=…`. With TLS, a
private CA is `?ssl_ca_certs=<file>`.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.retry import Retry
from redis.sentinel import Sentinel

# Exchange waits for the webhook's answer: better «come again» than late.
_CONNECT_S: Final = 1.5
_ANSWER_S: Final = 4.0
_SENTINEL_ANSWER_S: Final = 0.5
_SENTINEL_PORT: Final = 26379


class LogUrlInvalid(ValueError):
    """The address of the event log can't be used; the text doesn't repeat it."""


def connect(url: str) -> Redis:
    """A client that connects at its first command and again whenever it must.

    Raises:
        LogUrlInvalid: the address has none of the forms above.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_S,
        "socket_timeout": _ANSWER_S,
        "socket_keepalive": True,
        "client_name": "ens-eventlog",
        # A connection that a restart has cut is made anew once. What timed out isn't repeated:
        # that would double the time.
        "retry": Retry(NoBackoff(), 1, supported_errors=(ConnectionFailed,)),
    }
    scheme = url.partition("://")[0]
    try:
        if scheme in ("redis", "rediss"):
            return Redis.from_url(url, **options)
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _by_sentinel(url, options)
    except (ValueError, TypeError):
        raise LogUrlInvalid("the address of the event log is malformed") from None
    raise LogUrlInvalid("the address of the event log has an unknown scheme")


def _by_sentinel(url: str, options: dict[str, Any]) -> Redis:
    # By hand: several hosts, one of them in brackets, some Pythons call a malformed address.
    netloc, _, rest = url.partition("://")[2].partition("/")
    parts = urlsplit(f"{url.partition('://')[0]}://sentinels/{rest}")
    login, _, hosts = netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    query = dict(parse_qsl(parts.query))
    if not service or not hosts:
        raise LogUrlInvalid("the address of the event log names no service or no Sentinel")
    if parts.scheme == "rediss+sentinel":
        options |= {"ssl": True, "ssl_ca_certs": query.get("ssl_ca_certs")}
    sentinel_options = options | {
        "socket_connect_timeout": _SENTINEL_ANSWER_S,
        "socket_timeout": _SENTINEL_ANSWER_S,
        "username": query.get("sentinel_username"),
        "password": query.get("sentinel_password"),
    }
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        [_host_and_port(host) for host in hosts.split(",")], sentinel_kwargs=sentinel_options
    )
    login_options = {"username": unquote(user) or None, "password": unquote(password) or None}
    client: Redis = sentinels.master_for(service, db=int(db or 0), **options, **login_options)
    return client


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise LogUrlInvalid("the address of the event log names no Sentinel")
    return parts.hostname, parts.port or _SENTINEL_PORT
