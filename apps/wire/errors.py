"""What can go wrong on the wire. No text here ever holds a URL, a header or a body.

`code` is stable and in snake_case; callers map it, logs may show it.
"""

from __future__ import annotations


class WireError(Exception):
    """A request that brought no complete answer. `code` says why."""

    default_code = "wire_failed"

    def __init__(self, code: str = "") -> None:
        self.code = code or self.default_code
        super().__init__(self.code)


class AddressRefused(WireError):
    """The address check refused every address that could have been connected; none was."""

    default_code = "address_refused"


class ConnectFailed(WireError):
    """No connection, or it broke off: `host_not_found`, `connect_failed`, `connection_lost`…"""

    default_code = "connect_failed"


class ProxyFailed(ConnectFailed):
    """No tunnel: `proxy_unreachable`, `proxy_login_refused`, `proxy_wants_other_login`…"""

    default_code = "proxy_failed"


class TlsFailed(WireError):
    """No TLS: `tls_untrusted`, `tls_pin_mismatch`, `ca_malformed`, `client_certificate_unusable`,
    or `tls_failed` for the rest.
    """

    default_code = "tls_failed"


class DeadlineExceeded(WireError):
    """The total deadline passed, wherever the request was by then."""

    default_code = "deadline_exceeded"


class ResponseTooLarge(WireError):
    """The answer's body is larger than the request allows; it was not read to its end."""

    default_code = "response_too_large"


class ProtocolFailed(WireError):
    """Not the HTTP that was expected, or a request that can't be sent: `url_malformed`…"""

    default_code = "protocol_failed"
