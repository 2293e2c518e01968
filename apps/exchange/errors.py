"""What a mail server, or the way to it, may refuse. No text here holds an address or a URL.

`code` is stable: the device API hands some of them to phones. `transient` says that the same
request may succeed later; anything else needs somebody to change something.
"""

from __future__ import annotations

from typing import Final

# Of a server that is busy and doesn't say for how long; and the longest that one is believed.
DEFAULT_BACK_OFF_S: Final = 30.0
# Of what passes within seconds: IIS' queue, another call of the same user.
BRIEF_BACK_OFF_S: Final = 5.0
MAX_BACK_OFF_S: Final = 3600.0


class ExchangeError(Exception):
    """The mail server did not do what was asked. `code` says why, `transient` what to expect."""

    default_code = "exchange_error"
    transient = False

    def __init__(self, code: str = "") -> None:
        self.code = code or self.default_code
        super().__init__(self.code)


class CredentialsRefused(ExchangeError):
    """401, or an account whose password has expired. Never try these credentials again."""

    default_code = "credentials_refused"


class CredentialsExpired(CredentialsRefused):
    """A token or certificate whose time is over. It was not sent, and nobody counts it as wrong."""

    default_code = "credentials_expired"


class LoginImpossible(ExchangeError):
    """There is no way to log in: the server doesn't offer it, or it fails before a password counts.

    Transient where only the domain controller is away.
    """

    default_code = "login_not_offered"

    def __init__(self, code: str = "", *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(code)


class Forbidden(ExchangeError):
    """403, or access denied: the credentials are good and may not do this."""

    default_code = "exchange_forbidden"


class ServerBusy(ExchangeError):
    """Throttled: 429, 503, ErrorServerBusy. `back_off_s`: seconds to leave the account alone.

    `of_host`: all accounts (503), for the server says so of itself.
    """

    default_code = "server_busy"
    transient = True

    def __init__(self, back_off_s: float, *, of_host: bool = False) -> None:
        self.back_off_s = back_off_s
        self.of_host = of_host
        super().__init__()


class TooManyConnections(ServerBusy):
    """ErrorExceededConnectionCount: more calls at once than the user's EWSMaxConcurrency."""

    default_code = "too_many_connections"


class TooManyObjects(ServerBusy):
    """ErrorTooManyObjectsOpened: the mailbox' sessions hold as much open as Exchange permits."""

    default_code = "too_many_objects"


class MailboxNotFound(ExchangeError):
    """The user or the named address has no mailbox here."""

    default_code = "mailbox_not_found"


class NonPrimaryAddress(MailboxNotFound):
    """ErrorNonPrimarySmtpAddress: the mailbox goes by `primary`, empty if Exchange didn't name it.

    Not to be told anybody: it may be somebody else's.
    """

    def __init__(self, primary: str = "") -> None:
        self.primary = primary
        super().__init__()


class MailboxMoving(ExchangeError):
    """ErrorMailboxMoveInProgress: the mailbox comes back by itself when its move is done."""

    default_code = "mailbox_moving"
    transient = True


class StoreUnavailable(ExchangeError):
    """The mailbox' database is dismounted or out of reach; nothing is wrong with the account."""

    default_code = "mailbox_store_unavailable"
    transient = True


class VersionRefused(ExchangeError):
    """The server doesn't speak the EWS version of our requests."""

    default_code = "exchange_version"


class ItemNotFound(ExchangeError):
    """The item is gone: deleted, or moved out of reach."""

    default_code = "item_not_found"


class NotThisMailbox(ExchangeError):
    """The credentials are not those of the claimed address' owner."""

    default_code = "not_this_mailbox"


class Unreachable(ExchangeError):
    """No such host, no connection, no answer in time, or a gateway that says so (502, 504)."""

    default_code = "unreachable"
    transient = True


class ProxyTrouble(Unreachable):
    """The HTTP proxy on the way is away, refuses us or the host, or its address is refused."""

    default_code = "exchange_proxy_failed"


class GatewayRefused(ExchangeError):
    """The gateway in front of the mail server does not let this device through."""

    default_code = "gateway"


class NtlmBehindGateway(ExchangeError):
    """Only NTLM or Kerberos is offered, which authenticate connections: none pass a gateway."""

    default_code = "ntlm_behind_gateway"


class TlsRefused(ExchangeError):
    """The server's certificate isn't trusted, or no TLS could be agreed. Nothing was sent."""

    default_code = "tls_refused"


class AddressForbidden(ExchangeError):
    """The address guard refuses every address of the host. No connection was made."""

    default_code = "address_forbidden"


class NotEws(ExchangeError):
    """What answered isn't Exchange Web Services, or its answer makes no sense."""

    default_code = "not_ews"


class Moved(NotEws):
    """A redirect (301, 302, 303, 307, 308). No operation follows one; Autodiscover may."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__()


class AutodiscoverFailed(ExchangeError):
    """No Autodiscover service told where the mailbox' EWS are."""

    default_code = "autodiscover_failed"

    def __init__(self, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__()


class AutodiscoverHostNotAllowed(ExchangeError):
    """Autodiscover leads to `hosts`, which the mail system doesn't list. They were not called."""

    default_code = "autodiscover_not_allowed_host"

    def __init__(self, hosts: tuple[str, ...] = ()) -> None:
        self.hosts = hosts
        super().__init__()


class SubscriptionUrlRefused(ExchangeError):
    """ErrorInvalidPushSubscriptionUrl: Exchange doesn't take this webhook URL."""

    default_code = "subscription_url_refused"


class TooManySubscriptions(ExchangeError):
    """ErrorExceededSubscriptionCount: the user's EWSMaxSubscriptions is used up for now."""

    default_code = "too_many_subscriptions"
    transient = True


class EwsError(ExchangeError):
    """Any other error of EWS. `response_code` is Exchange's own, "Unknown" if it makes no sense."""

    default_code = "ews_error"

    def __init__(self, response_code: str, *, transient: bool = False) -> None:
        self.response_code = response_code
        self.transient = transient
        super().__init__()
        self.args = (self.code, response_code)
