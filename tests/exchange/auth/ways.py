"""Every way to log in, as a table: what the lab is to accept, and what a user brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from apps.exchange.interface import Credentials, Endpoint
from apps.lab.exchange import LabExchange

PASSWORDS = {"anna": "anna-lab-1", "ben": "ben-lab-2"}
MANY = [f"user{number:02}" for number in range(50)]


def many_password(name: str) -> str:
    return f"password-of-{name}"


def add_many(lab: LabExchange) -> None:
    for name in MANY:
        lab.add_mailbox(f"{name}@example.com", name, many_password(name))


def password_of(user: str) -> str:
    return PASSWORDS.get(user) or many_password(user)


def by_password(kind: str) -> Callable[[LabExchange, str, str], Credentials]:
    def made(_lab: LabExchange, user: str, password: str) -> Credentials:
        login = f"{user}@EXAMPLE.COM" if kind == "negotiate" else f"EXAMPLE\\{user}"
        return Credentials(kind, login, password)  # type: ignore[arg-type]

    return made


def by_token(lab: LabExchange, user: str, _password: str) -> Credentials:
    issued = lab.tokens.issue(f"{user}@example.com")
    return Credentials("oauth", token=issued.token, expires_at=issued.expires_at)


def _pem(lab: LabExchange, user: str) -> str:
    files = lab.issue_certificate(f"{user}@example.com")
    return files.certificate.read_text() + files.key.read_text()


def by_certificate(lab: LabExchange, user: str, _password: str) -> Credentials:
    return Credentials("certificate", certificate=_pem(lab, user), expires_at=2**40)


def by_both(lab: LabExchange, user: str, password: str) -> Credentials:
    return Credentials(
        "certificate", f"EXAMPLE\\{user}", password, certificate=_pem(lab, user), expires_at=2**40
    )


@dataclass(frozen=True)
class Way:
    """`own_connection`: whether the connection is the user's, and serves nobody else."""

    name: str
    accepts: frozenset[str]
    make: Callable[[LabExchange, str, str], Credentials]
    own_connection: bool = True
    has_password: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def lab(self, **options: Any) -> LabExchange:
        return LabExchange(auth=self.accepts, **(self.options | options))  # type: ignore[arg-type]

    def credentials(self, lab: LabExchange, user: str = "anna", password: str = "") -> Credentials:
        return self.make(lab, user, password or password_of(user))

    @property
    def needs_kdc(self) -> bool:
        return "negotiate" in self.accepts


def _way(name: str, accepts: str, make: Any, **options: Any) -> Way:
    return Way(name, frozenset(accepts.split()), make, **options)


# By its name in docs/compatibility.md.
WAYS = {
    way.name: way
    for way in (
        _way("Basic", "basic ntlm", by_password("basic"), own_connection=False),
        _way("NTLM", "ntlm", by_password("ntlm")),
        _way("Negotiate (Kerberos)", "negotiate ntlm", by_password("negotiate")),
        _way(
            "OAuth bearer token",
            "bearer negotiate",
            by_token,
            own_connection=False,
            has_password=False,
        ),
        _way("Client certificate", "certificate", by_certificate, has_password=False),
        _way("Client certificate and Basic", "certificate basic", by_both),
    )
}


def endpoint_of(lab: LabExchange) -> Endpoint:
    """By the name in the lab's certificate, for which the KDC knows a service."""
    url = lab.url.replace("127.0.0.1", "localhost")
    return Endpoint(url, lab.ca_pem, exceptions=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
