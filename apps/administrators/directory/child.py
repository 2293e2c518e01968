"""One conversation with one directory server, in a process of its own.

The LDAP library holds Python's interpreter lock while it connects and shakes hands, and has no
time-out there: a directory server that hangs would stop every thread of a web process, webhook
included. So `ask.py` starts this file, hands it a question on standard input, and ends it when its
time is over. For the same reason it imports neither Django nor anything of ours.

What leaves it are codes and what was found, never a server's own words: these may hold names.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

# LDAP_MATCHING_RULE_IN_CHAIN: also members of members (Microsoft, MS-ADTS 3.1.1.3.4.4.3).
IN_CHAIN: Final = "1.2.840.113556.1.4.1941"
_DISABLED: Final = 2  # ADS_UF_ACCOUNTDISABLE of userAccountControl (MS-ADTS 2.2.16)
_NEVER: Final = (0, 0x7FFF_FFFF_FFFF_FFFF)  # of accountExpires
_LOCKED_FOR_GOOD: Final = "000001010000Z"  # of pwdAccountLockedTime (draft-behera-ldap-ppolicy)
_SAFE: Final = re.compile(rb"[A-Za-z0-9@._ =,-]")
# The stage in which somebody's password is with the server.
PERSON: Final = "person"
# What a server may say to who gives no name: it is there, and wants one (RFC 4511, A.1). Of them
# 48 is inappropriateAuthentication, 8 strongerAuthRequired.
_NOT_FOR_NOBODY: Final = (7, 8, 48, 49, 50, 53)
# Nobody has so many; a second one already means that a name is not unique.
_MOST: Final = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one server.

    `verb`: `sign_in` (with `name` and `password`), `look` (with `uid`: what became of somebody) or
    `test` (nobody in particular). Without `bind_name` people are bound as `user_bind` says, and
    look themselves up. `seconds` bounds each single step; the whole is bounded by who asks.
    """

    verb: str
    url: str
    base: str
    name_attribute: str
    active_directory: bool
    user_filter: str
    groups: tuple[str, ...] = ()
    ca_file: str = ""
    bind_name: str = ""
    bind_password: str = field(default="", repr=False)
    user_bind: str = ""
    name: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    uid: str = ""
    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it.

    `outcome`: `found`, `nobody` (no such person, or not with this password), `several` (the name is
    not unique) or `failed`, then with the `stage` that failed and the library's word for how.
    `groups` are the places, in the question, of those groups that somebody is in; after `test`, of
    those that exist.
    """

    outcome: str
    stage: str = ""
    error: str = ""
    uid: str = ""
    name: str = field(default="", repr=False)
    display_name: str = field(default="", repr=False)
    enabled: bool = False
    groups: tuple[int, ...] = ()


def escaped(value: str | bytes) -> str:
    """A value as it may stand in a search filter (RFC 4515): all that is not plain as `\\xx`."""
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    plain = isinstance(value, str)
    return "".join(
        chr(byte) if plain and _SAFE.match(bytes([byte])) else f"\\{byte:02x}" for byte in raw
    )


def escaped_in_dn(value: str) -> str:
    """A value as it may stand in a distinguished name (RFC 4514)."""
    return "".join(
        char if char.isascii() and char.isalnum() else "".join(f"\\{b:02x}" for b in char.encode())
        for char in value
    )


def person_filter(asked: Question) -> str:
    """The filter that finds the person of the question."""
    if asked.verb == "look":
        uid = UUID(asked.uid)
        # Active Directory stores the first three parts of a GUID in little-endian order.
        one = (
            f"objectGUID={escaped(uid.bytes_le)}" if asked.active_directory else f"entryUUID={uid}"
        )
    elif asked.bind_name:
        one = f"{asked.name_attribute}={escaped(asked.name)}"
    elif _by_dn(asked):
        return asked.user_filter
    else:
        # The very name that was bound: one person's may be the account name of another.
        one = f"userPrincipalName={escaped(bind_name(asked))}"
    return f"(&({one}){asked.user_filter})"


def group_filter(asked: Question, dn: str, name: str) -> str:
    """The filter that a group passes which somebody is in."""
    if asked.active_directory:
        return f"(member:{IN_CHAIN}:={escaped(dn)})"
    whole = escaped(dn)
    return f"(|(member={whole})(uniqueMember={whole})(memberUid={escaped(name)}))"


def bind_name(asked: Question) -> str:
    """As what a person is bound where there is no service account."""
    name = escaped_in_dn(asked.name) if _by_dn(asked) else asked.name
    return asked.user_bind.replace("{name}", name)


def _by_dn(asked: Question) -> bool:
    return "=" in asked.user_bind and not asked.bind_name


class _Failed(Exception):
    def __init__(self, stage: str, error: str) -> None:
        super().__init__(stage)
        self.stage, self.error = stage, error


def talk(asked: Question) -> Answer:
    """Put the question to its server; every fault of it is in the answer."""
    try:
        return {"sign_in": _sign_in, "look": _look, "test": _test}[asked.verb](asked)
    except _Failed as fault:
        return Answer("failed", fault.stage, fault.error)


def _sign_in(asked: Question) -> Answer:
    if not asked.password or "\0" in asked.password or "\0" in asked.name:
        # LDAP takes a bind without a password for an anonymous one, and lets everybody in.
        return Answer("nobody")
    if not asked.bind_name:
        _reach(asked)
        own = _bound_as_person(asked, bind_name(asked))
        return Answer("nobody") if own is None else _person(own, asked)
    service = _bound(asked, asked.bind_name, asked.bind_password)
    found = _entries(service, asked)
    if len(found) != 1:
        return Answer("several" if found else "nobody")
    if _bound_as_person(asked, str(found[0].dn)) is None:
        return Answer("nobody")
    return _described(service, asked, found[0])


def _look(asked: Question) -> Answer:
    return _person(_bound(asked, asked.bind_name, asked.bind_password), asked)


def _test(asked: Question) -> Answer:
    if not asked.bind_name:
        _reach(asked)  # which is all we can try
        return Answer("found")
    service = _bound(asked, asked.bind_name, asked.bind_password)
    if not _search(service, asked, asked.base, 0, "(objectClass=*)", ["1.1"]):
        raise _Failed("base", "NoSuchObject")
    there = [
        place
        for place, dn in enumerate(asked.groups)
        if _search(service, asked, dn, 0, "(objectClass=*)", ["1.1"])
    ]
    return Answer("found", groups=tuple(there))


def _bound(asked: Question, name: str, password: str) -> Any:
    import bonsai

    try:
        return _connected(asked, name, password)
    except bonsai.AuthenticationError as error:
        raise _Failed("bind", type(error).__name__) from None
    except bonsai.LDAPError as error:
        raise _Failed("connect", type(error).__name__) from None


def _reach(asked: Question) -> None:
    """Connect and shake hands, as nobody: so a server that is away has been given no password."""
    import bonsai

    try:
        _connected(asked, "", "")
    except bonsai.LDAPError as error:
        if error.code not in _NOT_FOR_NOBODY:
            raise _Failed("connect", type(error).__name__) from None


def _bound_as_person(asked: Question, name: str) -> Any:
    """A connection as the person; None where the server refuses name or password."""
    import bonsai

    refusals = (
        *(bonsai.AuthenticationError, bonsai.InsufficientAccess, bonsai.UnwillingToPerform),
        *(bonsai.InvalidDN, bonsai.NoSuchObjectError),
    )
    print(PERSON, file=sys.stderr, flush=True)  # noqa: T201 - how far we were, if we are ended
    try:
        return _connected(asked, name, asked.password)
    except refusals:
        return None
    except bonsai.LDAPError as error:
        raise _Failed(PERSON, type(error).__name__) from None


def _connected(asked: Question, name: str, password: str) -> Any:
    import bonsai

    # Without ldaps:// always StartTLS: the library ends the connection when it is refused.
    client = bonsai.LDAPClient(asked.url, tls=asked.url.startswith("ldap://"))
    client.set_cert_policy("demand")
    if asked.ca_file:
        client.set_ca_cert(asked.ca_file)
    client.set_server_chase_referrals(False)
    client.set_ignore_referrals(True)
    client.set_raw_attributes(["objectGUID"])
    if name:
        client.set_credentials("SIMPLE", user=name, password=password)
    return client.connect(timeout=asked.seconds)


def _search(
    connection: Any, asked: Question, base: str, scope: int, matching: str, wanted: list[str]
) -> list[Any]:
    import bonsai

    try:
        found = connection.search(
            base, scope, matching, attrlist=wanted, timeout=asked.seconds, sizelimit=_MOST
        )
        return [entry for entry in found if isinstance(entry, bonsai.LDAPEntry)]
    except bonsai.SizeLimitError:
        return [None] * _MOST  # more than we asked for: not unique
    except (bonsai.NoSuchObjectError, bonsai.InvalidDN):
        return []
    except bonsai.LDAPError as error:
        raise _Failed("search", type(error).__name__) from None


def _entries(connection: Any, asked: Question) -> list[Any]:
    """At most two entries of people who are meant."""
    wanted = [asked.name_attribute, "displayName", "cn"]
    if asked.active_directory:
        wanted += ["objectGUID", "userAccountControl", "accountExpires"]
    else:
        wanted += ["entryUUID", "pwdAccountLockedTime"]
    if _by_dn(asked):
        return _search(connection, asked, bind_name(asked), 0, person_filter(asked), wanted)
    return _search(connection, asked, asked.base, 2, person_filter(asked), wanted)


def _person(connection: Any, asked: Question) -> Answer:
    found = _entries(connection, asked)
    if len(found) != 1:
        return Answer("several" if found else "nobody")
    return _described(connection, asked, found[0])


def _described(connection: Any, asked: Question, entry: Any) -> Answer:
    dn, name = str(entry.dn), _text(entry, asked.name_attribute)
    return Answer(
        "found",
        uid=_uid(entry, asked.active_directory),
        name=name,
        display_name=_text(entry, "displayName") or _text(entry, "cn"),
        enabled=_enabled(entry, asked.active_directory),
        groups=tuple(_memberships(connection, asked, dn, name)),
    )


def _memberships(connection: Any, asked: Question, dn: str, name: str) -> Iterator[int]:
    for place, group in enumerate(asked.groups):
        if _search(connection, asked, group, 0, group_filter(asked, dn, name), ["1.1"]):
            yield place


def _uid(entry: Any, active_directory: bool) -> str:
    value = next(iter(entry.get("objectGUID" if active_directory else "entryUUID", ())), None)
    try:
        if active_directory and isinstance(value, bytes):
            return str(UUID(bytes_le=value))
        return str(UUID(str(value)))
    except ValueError:
        raise _Failed("search", "NoIdentifier") from None


def _enabled(entry: Any, active_directory: bool) -> bool:
    """Whether the account may be used. Refused where Active Directory doesn't say so."""
    if not active_directory:
        return _text(entry, "pwdAccountLockedTime") != _LOCKED_FOR_GOOD
    try:
        control = int(_text(entry, "userAccountControl"))
        expires = int(_text(entry, "accountExpires") or 0)
    except ValueError:
        return False
    # In tenths of microseconds since 1601 (MS-DTYP 2.3.3).
    over = expires not in _NEVER and expires < _filetime(datetime.now(UTC))
    return not control & _DISABLED and not over


def _filetime(moment: datetime) -> int:
    return (moment - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10


def _text(entry: Any, attribute: str) -> str:
    value = next(iter(entry.get(attribute, ())), "")
    # The library makes numbers and dates of what looks so to it; text is what we compare.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def main() -> None:
    """Read a question from standard input, write its answer to standard output, as JSON."""
    asked = json.load(sys.stdin)
    asked["groups"] = tuple(asked["groups"])
    json.dump(asdict(talk(Question(**asked))), sys.stdout)


if __name__ == "__main__":
    main()
