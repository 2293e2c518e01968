"""One login by NTLM or Kerberos: what we say first, and what to each of the server's challenges.

Everything here may wait for a domain controller: it belongs into a thread.

NTLM: https://learn.microsoft.com/openspecs/windows_protocols/ms-nthi/ ; Kerberos travels in
`Negotiate` (RFC 4559), as Kerberos alone: NTLM is never hidden inside, for who offers it says so.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final, Literal

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from apps.exchange.auth.kerberos import Tickets
from apps.exchange.credentials import Credentials
from apps.exchange.errors import CredentialsRefused, LoginImpossible

Way = Literal["negotiate", "ntlm"]

# What pyspnego takes for the hashes of a password, as good as the password itself: who has stolen
# them must not log in with them from outside, by way of us.
_HASHES: Final = re.compile(r"[0-9A-Fa-f]{32}:[0-9A-Fa-f]{32}\s*")

_NAMES: Final[dict[Way, str]] = {"negotiate": "Negotiate", "ntlm": "NTLM"}


class Login:
    """A login of one user on one connection.

    Args:
        way: the scheme.
        credentials: user name and password.
        host: the server's name as in its URL; Kerberos knows it as HTTP/host.
        tickets: Kerberos tickets of this user, kept between logins.
    """

    def __init__(
        self,
        way: Way,
        credentials: Credentials,
        host: str,
        tickets: Tickets,
    ) -> None:
        self._way = way
        self._credentials = credentials
        self._host = host
        self._tickets = tickets
        self._context: spnego.ContextProxy | None = None
        self._spoken = 0

    @property
    def last_word(self) -> bool:
        """Whether what was said last may let us in, and so takes the request along."""
        return self._way == "negotiate" or self._spoken > 1

    def begin(self, bindings: GssChannelBindings | None) -> str:
        """The first Authorization; `bindings` are those of the TLS connection, None for none.

        Raises:
            CredentialsRefused: the domain controller says so.
            LoginImpossible: there is no way to log in by this scheme, or not now.
        """
        if self._way == "negotiate":
            self._context = self._tickets.context(self._host)
        elif _HASHES.fullmatch(self._credentials.password):
            raise CredentialsRefused
        else:
            self._context = spnego.client(
                self._credentials.username,
                self._credentials.password,
                hostname=self._host,
                service="HTTP",
                protocol="ntlm",
            )
        return self._say(None, bindings)

    def go_on(self, challenge: bytes, bindings: GssChannelBindings | None) -> str:
        """The next Authorization.

        Raises:
            CredentialsRefused: there was nothing more to say, and the server isn't content.
            LoginImpossible: `login_failed`: the server's challenge makes no sense.
        """
        if not challenge or self._context is None or self._context.complete:
            raise CredentialsRefused
        return self._say(challenge, bindings)

    def end(self, token: bytes) -> None:
        """Take what a content server says last: by Kerberos it proves itself, too.

        Raises:
            LoginImpossible: `login_failed`: it doesn't.
        """
        if token and self._context is not None and not self._context.complete:
            try:
                self._context.step(token)
            except Exception:  # noqa: BLE001 - a malformed token raises whatever
                raise LoginImpossible("login_failed") from None

    def _say(self, challenge: bytes | None, bindings: GssChannelBindings | None) -> str:
        assert self._context is not None
        try:
            said = self._context.step(challenge, channel_bindings=bindings)
        except SpnegoError as error:
            raise self._tickets.meaning_of(error) from None
        except Exception:  # noqa: BLE001 - a malformed challenge raises whatever, naming accounts
            raise LoginImpossible("login_failed") from None
        if not said:
            raise LoginImpossible("login_failed")
        self._spoken += 1
        return f"{_NAMES[self._way]} {b64encode(said).decode()}"
