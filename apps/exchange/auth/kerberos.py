"""Kerberos tickets for a given user name and password.

On Windows SSPI fetches and keeps them. Elsewhere libkrb5 does, which needs the Python packages
`gssapi` and `krb5` (requirements-kerberos.txt); without them Kerberos is `kerberos_unavailable`.
Tickets live in memory, are asked for once and used for every login of their connection, and are
destroyed with it: pyspnego alone would ask a domain controller for each login and keep them all.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import spnego
from spnego.exceptions import CredentialsExpiredError, InvalidCredentialError, SpnegoError

from apps.exchange.credentials import Credentials
from apps.exchange.errors import CredentialsRefused, ExchangeError, LoginImpossible

# Shorter than any ticket lives (hours), and short enough for a password that was changed.
_FRESH_S: Final = 30 * 60.0

# RFC 4120, section 7.5.9, as libkrb5 numbers them.
_BASE: Final = -1765328384
# The account: unknown is not among them, since no password was tried.
_REFUSED: Final = frozenset(
    _BASE + code
    for code in (
        1,  # KDC_ERR_NAME_EXP
        12,  # KDC_ERR_POLICY: hours or workstations
        18,  # KDC_ERR_CLIENT_REVOKED: locked out or disabled
        23,  # KDC_ERR_KEY_EXPIRED: the password must be changed
        24,  # KDC_ERR_PREAUTH_FAILED: wrong password
        31,  # KRB_AP_ERR_BAD_INTEGRITY: the same, from a KDC that wants no pre-authentication
    )
)
# KRB5_KDC_UNREACH, KRB5_REALM_CANT_RESOLVE: nobody answers, or name servers don't.
_AWAY: Final = frozenset({-1765328228, -1765328164})
# SEC_E_LOGON_DENIED; SEC_E_NO_AUTHENTICATING_AUTHORITY
_DENIED_WINDOWS: Final = -2146893044
_AWAY_WINDOWS: Final = -2146893039


class Tickets:
    """One user's; for any thread. `close` destroys them."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._got_at = 0.0
        self._busy = threading.Lock()
        self._destroy: Callable[[], None] | None = None
        self._cache = ""

    @property
    def held(self) -> bool:
        """Whether there are some from an earlier login."""
        return self._destroy is not None

    def context(self, host: str) -> spnego.ContextProxy:
        """What speaks Kerberos to the service HTTP/host.

        Raises:
            CredentialsRefused: the domain controller says so.
            LoginImpossible: `kerberos_unavailable`, or `kerberos_failed`: user or service is not
                known in a realm that we know, or the clocks differ; `kdc_unreachable` (transient).
        """
        try:
            return self._context(host)
        except ImportError:
            raise LoginImpossible("kerberos_unavailable") from None
        except SpnegoError as error:
            raise self.meaning_of(error) from None

    def _context(self, host: str) -> spnego.ContextProxy:
        given = self._credentials
        user: Any
        if sys.platform == "win32":
            user = spnego.Password(given.username, given.password)
        else:
            user = spnego.KerberosCCache(self._cache_name())
        return spnego.client(user, hostname=host, service="HTTP", protocol="kerberos")

    def meaning_of(self, error: SpnegoError) -> ExchangeError:
        """What a failure means for whoever wanted to log in; its text names accounts."""
        # A ticket that was refused is not kept.
        self._got_at = 0.0
        base = error.base_error
        number = getattr(base, "winerror", None) or getattr(base, "min_code", None)
        if number is not None:
            # gssapi counts them as unsigned.
            return _meaning(number - 2**32 if number >= 2**31 else number)
        if isinstance(error, InvalidCredentialError | CredentialsExpiredError):
            return CredentialsRefused()
        return LoginImpossible("login_failed")

    def close(self) -> None:
        """Destroy them."""
        with self._busy:
            self._drop()

    def _drop(self) -> None:
        self._got_at = 0.0
        destroy, self._destroy = self._destroy, None
        if destroy is not None:
            destroy()

    def _cache_name(self) -> str:
        with self._busy:
            if self._destroy is None or time.monotonic() - self._got_at > _FRESH_S:
                self._drop()
                self._fetch()
                self._got_at = time.monotonic()
            return self._cache

    def _fetch(self) -> None:
        """Ask for a ticket-granting ticket (RFC 4120, section 3.1)."""
        import krb5

        try:
            ours = krb5.init_context()
            principal = krb5.parse_name_flags(ours, _principal(krb5, ours, self._credentials))
            options = krb5.get_init_creds_opt_alloc(ours)
            krb5.get_init_creds_opt_set_canonicalize(options, True)
            krb5.get_init_creds_opt_set_forwardable(options, False)
            password = self._credentials.password.encode(errors="replace")
            got = krb5.get_init_creds_password(ours, principal, options, password=password)
            cache = krb5.cc_new_unique(ours, b"MEMORY")
            self._destroy = partial(krb5.cc_destroy, ours, cache)
            self._cache = f"MEMORY:{(cache.name or b'').decode()}"
            krb5.cc_initialize(ours, cache, got.client)
            krb5.cc_store_cred(ours, cache, got)
        except krb5.Krb5Error as error:
            raise _meaning(error.err_code) from None


def available() -> bool:
    """Whether this installation can speak Kerberos at all."""
    if sys.platform == "win32":
        return True
    try:
        import gssapi  # noqa: F401
        import krb5  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def _principal(krb5: Any, context: Any, credentials: Credentials) -> bytes:
    """`user@REALM` for `user@realm`, `DOMAIN\\user` and `user`.

    A realm is spelt in capitals. The short name of a domain says nothing of its realm, unless it
    is the first label of the default realm (krb5.conf). With another one a stranger of the same
    name could be logged in as, so it is not tried.

    Raises:
        LoginImpossible: `kerberos_failed`: a domain that is none of ours.
    """
    ours = krb5.get_default_realm(context).decode()
    domain, _, name = credentials.username.rpartition("\\")
    if not domain:
        name, _, domain = credentials.username.partition("@")
    if "." not in domain and domain.upper() in ("", ours.partition(".")[0].upper()):
        domain = ours
    if not related(domain, ours):
        raise LoginImpossible("kerberos_failed")
    return f"{_escaped(name)}@{_escaped(domain.upper())}".encode()


def related(realm: str, ours: str) -> bool:
    """Whether a realm is ours, or above or below it in the tree of names.

    Users name realms, and libkrb5 asks DNS where a realm's controllers are: those of any realm
    could be any machine and port that somebody would like ENS to talk to.
    """
    realm, ours = f".{realm.upper()}", f".{ours.upper()}"
    return realm == ours or realm.endswith(ours) or (realm.count(".") > 1 and ours.endswith(realm))


def _escaped(name: str) -> str:
    return "".join(f"\\{each}" if each in "\\/@" else each for each in name)


def _meaning(number: int) -> ExchangeError:
    if number in _REFUSED or number == _DENIED_WINDOWS:
        return CredentialsRefused()
    if number in _AWAY or number == _AWAY_WINDOWS:
        return LoginImpossible("kdc_unreachable", transient=True)
    return LoginImpossible("kerberos_failed")
