"""What is said to a directory server, and to whom: TLS always, within bounds, the next when one is
away, nobody else by referral."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from apps.administrators.directory import ask, child
from apps.administrators.directory.ask import DirectoryAway
from tests.administrators.directory import slapd
from tests.administrators.directory.conftest import GRACE, PASSWORD, use
from tests.administrators.directory.slapd import Slapd


class Listener:
    """A TCP server that keeps what it hears, and answers the first message with `answer`."""

    def __init__(self, answer: bytes = b"") -> None:
        self.heard = b""
        self.visitors = 0
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visitors += 1
            threading.Thread(target=self._talk, args=(visitor,), daemon=True).start()

    def _talk(self, visitor: socket.socket) -> None:
        with visitor:
            visitor.settimeout(15)
            first = True
            try:
                while got := visitor.recv(65536):
                    self.heard += got
                    if self._answer and first:
                        visitor.sendall(self._answer)
                    first = False
            except OSError:
                pass

    def close(self) -> None:
        self._socket.close()


def extended_response(code: int) -> bytes:
    """An LDAP ExtendedResponse to the message of id 1 (RFC 4511, 4.12)."""
    return bytes([0x30, 0x0C, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0A, 0x01, code, 4, 0, 4, 0])


@pytest.fixture
def silent() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.mark.parametrize("code", [2, 52, 0], ids=["refused", "unavailable", "agreed-but-no-TLS"])
@pytest.mark.parametrize("direct", [False, True])
def test_where_starttls_is_stripped_no_password_leaves_us(
    directory: Slapd, settings: Any, code: int, direct: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ask, "_START_S", 2.0)
    thief = Listener(extended_response(code))
    use(
        settings,
        ldap_urls=[f"ldap://127.0.0.1:{thief.port}"],
        ldap_ca_file=directory.ca_file,
        ldap_bind_name="" if direct else slapd.SERVICE,
        ldap_user_bind=f"uid={{name}},{slapd.PEOPLE}",
        ldap_timeout_seconds=1.0,
    )
    with pytest.raises(DirectoryAway):
        ask.sign_in("grace", PASSWORD)
    thief.close()
    assert b"1.3.6.1.4.1.1466.20037" in thief.heard  # StartTLS was asked for
    assert PASSWORD.encode() not in thief.heard
    assert slapd.SERVICE_PASSWORD.encode() not in thief.heard
    assert b"contoso" not in thief.heard


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_certificate_that_nobody_vouches_for_is_refused(
    directory: Slapd, settings: Any, scheme: str
) -> None:
    port = directory.tls_port if scheme == "ldaps" else directory.plain_port
    use(settings, ldap_urls=[f"{scheme}://127.0.0.1:{port}"], ldap_ca_file=None)
    with pytest.raises(DirectoryAway):
        ask.sign_in("grace", PASSWORD)


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_certificate_of_another_host_is_refused(
    directory: Slapd, settings: Any, scheme: str
) -> None:
    port = directory.tls_port if scheme == "ldaps" else directory.plain_port
    urls = [f"{scheme}://localhost:{port}"]
    use(settings, ldap_urls=urls, ldap_ca_file=directory.ca_file)
    with pytest.raises(DirectoryAway):
        ask.sign_in("grace", PASSWORD)


def test_the_next_server_is_asked_and_remembered(directory: Slapd, settings: Any) -> None:
    nobody = f"ldaps://127.0.0.1:{slapd.free_port()}"
    use(settings, ldap_urls=[nobody, directory.ldaps], ldap_ca_file=directory.ca_file)
    assert ask.sign_in("grace", PASSWORD).outcome == "found"
    assert ask._last_good == [directory.ldaps]


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_server_that_hangs_stops_nobody(
    directory: Slapd, settings: Any, silent: Listener, scheme: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ask, "_START_S", 3.0)
    urls = [f"{scheme}://127.0.0.1:{silent.port}", directory.ldaps]
    use(settings, ldap_urls=urls, ldap_ca_file=directory.ca_file, ldap_timeout_seconds=1.0)
    ticks, over = [0], threading.Event()

    def tick() -> None:
        while not over.wait(0.05):
            ticks[0] += 1

    other = threading.Thread(target=tick)
    other.start()
    began = time.monotonic()
    assert ask.sign_in("grace", PASSWORD).outcome == "found"
    took = time.monotonic() - began
    over.set()
    other.join()
    assert took < 30
    assert ticks[0] > 5  # the other threads of this process went on meanwhile
    began = time.monotonic()
    ask.sign_in("grace", PASSWORD)
    assert silent.visitors == 1  # now the good one is asked first


class Tunnel(Listener):
    """Leads its first visitor to another port, and lets the ones after that wait for ever."""

    def __init__(self, port: int) -> None:
        self._to = port
        super().__init__()

    def _talk(self, visitor: socket.socket) -> None:
        if self.visitors > 1:
            return super()._talk(visitor)
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            back = threading.Thread(target=_pour, args=(server, visitor), daemon=True)
            back.start()
            _pour(visitor, server)
            back.join(15)
        return None


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while got := source.recv(65536):
            sink.sendall(got)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_who_guesses_is_counted_where_the_server_takes_its_time_over_wrong_passwords(
    directory: Slapd, settings: Any, scheme: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ask, "_START_S", 2.0)
    tunnel = Tunnel(directory.tls_port if scheme == "ldaps" else directory.plain_port)
    urls = [f"{scheme}://127.0.0.1:{tunnel.port}"]
    use(settings, ldap_urls=urls, ldap_ca_file=directory.ca_file, ldap_timeout_seconds=1.0)
    assert ask.sign_in("grace", PASSWORD).outcome == "nobody"
    assert tunnel.visitors == 2
    tunnel.close()


def test_a_referral_leads_nowhere(directory: Slapd, settings: Any, silent: Listener) -> None:
    directory.add(
        f"dn: ou=elsewhere,{slapd.SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\n"
        f"ou: elsewhere\nref: ldap://127.0.0.1:{silent.port}/ou=elsewhere,{slapd.SUFFIX}\n\n"
    )
    try:
        assert ask.sign_in("grace", PASSWORD).outcome == "found"
        base = f"ou=elsewhere,{slapd.SUFFIX}"
        urls = {"ldap_urls": [directory.ldaps], "ldap_ca_file": directory.ca_file}
        use(settings, ldap_user_base=base, **urls)
        assert ask.sign_in("grace", PASSWORD).outcome != "found"
    finally:
        control = f"dn: ou=elsewhere,{slapd.SUFFIX}\ncontrol: 2.16.840.1.113730.3.4.2 true\n"
        directory._run("ldapmodify", f"{control}changetype: delete\n")
    assert silent.visitors == 0


def test_a_wrong_service_account_is_tried_once(directory: Slapd, settings: Any) -> None:
    use(
        settings,
        ldap_urls=[directory.ldaps, directory.starttls],
        ldap_ca_file=directory.ca_file,
        ldap_bind_name=f"cn=other,{slapd.SUFFIX}",
    )
    with pytest.raises(DirectoryAway) as caught:
        ask.sign_in("grace", PASSWORD)
    assert str(caught.value) == "bind failed (AuthenticationError)"


def test_without_a_service_account_people_look_themselves_up(
    directory: Slapd, settings: Any
) -> None:
    urls = {"ldap_urls": [directory.ldaps], "ldap_ca_file": directory.ca_file}
    use(settings, ldap_bind_name="", ldap_user_bind=f"uid={{name}},{slapd.PEOPLE}", **urls)
    found = ask.sign_in("grace", PASSWORD)
    assert (found.outcome, found.name, found.groups) == ("found", "grace", (0,))
    assert ask.sign_in("grace", "wrong").outcome == "nobody"
    for name in (f"grace,{slapd.PEOPLE}", "grace+cn=Grace", "*", "", "\0"):
        assert ask.sign_in(name, PASSWORD).outcome == "nobody", name


def test_a_server_may_want_a_name_before_anything(tmp_path: Any, settings: Any) -> None:
    strict = Slapd(tmp_path / "strict", about_nobody="disallow bind_anon")
    strict.start()
    try:
        strict.add(slapd.tree() + slapd.person("grace", PASSWORD))
        urls = {"ldap_urls": [strict.ldaps], "ldap_ca_file": strict.ca_file}
        use(settings, ldap_bind_name="", ldap_user_bind=f"uid={{name}},{slapd.PEOPLE}", **urls)
        assert ask.sign_in("grace", PASSWORD).outcome == "found"
        assert ask.sign_in("grace", "wrong").outcome == "nobody"
        assert ask.ask(strict.ldaps, verb="test").outcome == "found"
    finally:
        strict.stop()


@pytest.mark.parametrize("name", ["*", "gr*", "grace)(cn=*", "*)(uid=*", "\\67race", "grace\0"])
def test_what_is_typed_as_a_name_changes_no_filter(directory: Slapd, name: str) -> None:
    assert ask.sign_in(name, PASSWORD).outcome == "nobody"


def test_a_bind_without_a_password_is_not_even_tried(directory: Slapd) -> None:
    assert directory_takes_empty_passwords(directory)
    for password in ("", "\0", f"\0{PASSWORD}"):
        assert ask.sign_in("grace", password).outcome == "nobody"


def directory_takes_empty_passwords(server: Slapd) -> bool:
    """Whether the tests' server is as careless as this test needs it."""
    import subprocess

    words = [slapd.binary("ldapwhoami"), "-x", "-H", f"ldap://127.0.0.1:{server.plain_port}"]
    done = subprocess.run([*words, "-D", f"uid=grace,{slapd.PEOPLE}", "-w", ""], check=False)
    return done.returncode == 0


def test_a_name_that_two_people_have_is_nobodys(directory: Slapd, settings: Any) -> None:
    directory.add(slapd.person("grace2", PASSWORD, uid="grace"))
    try:
        assert ask.sign_in("grace", PASSWORD).outcome == "several"
    finally:
        directory.delete(f"uid=grace2,{slapd.PEOPLE}")


# --- Active Directory's attributes, on the same server -------------------------------------------


@pytest.fixture
def active(directory: Slapd, settings: Any) -> Slapd:
    use(
        settings,
        ldap_kind="active-directory",
        ldap_urls=[directory.ldaps],
        ldap_ca_file=directory.ca_file,
        ldap_user_filter="(objectClass=adPerson)",
    )
    return directory


def grace(server: Slapd, what: str) -> None:
    server.change(f"uid=grace,{slapd.PEOPLE}", what)


def test_active_directory_knows_people_by_object_guid(active: Slapd) -> None:
    found = ask.sign_in("grace", PASSWORD)
    assert (found.outcome, found.uid, found.enabled) == ("found", GRACE, True)
    again = ask.look(found.uid)
    assert (again.outcome, again.name) == ("found", "grace")
    assert ask.look("00000000-0000-4000-8000-000000000000").outcome == "nobody"


@pytest.mark.parametrize(
    "change",
    [
        "replace: userAccountControl\nuserAccountControl: 514",
        "replace: accountExpires\naccountExpires: 116444736000000000",
        "delete: userAccountControl",
    ],
    ids=["disabled", "expired", "unreadable"],
)
def test_what_active_directory_has_disabled_is_disabled(active: Slapd, change: str) -> None:
    grace(active, change)
    assert not ask.sign_in("grace", PASSWORD).enabled


@pytest.mark.parametrize("never", ["0", "9223372036854775807", "999999999999999999"])
def test_what_does_not_expire_is_enabled(active: Slapd, never: str) -> None:
    grace(active, f"replace: accountExpires\naccountExpires: {never}")
    assert ask.sign_in("grace", PASSWORD).enabled


def test_active_directory_is_asked_for_members_of_members() -> None:
    """OpenLDAP has no such rule, so the words of the question must do."""
    asked = child.Question("sign_in", "ldaps://x", "dc=x", "sAMAccountName", True, "(a=b)")
    text = child.group_filter(asked, "CN=Grace (H\\, jr),DC=x", "grace")
    # The brackets and the backslash of the DN are data, not syntax.
    assert text == ("(member:1.2.840.113556.1.4.1941:=CN=Grace \\28H\\5c, jr\\29,DC=x)")


def test_who_binds_by_principal_name_is_looked_up_by_it(active: Slapd, settings: Any) -> None:
    """One person's principal name may begin like the account name of another."""
    asked = child.Question(
        *("sign_in", "ldaps://x", "dc=x", "sAMAccountName", True, "(a=b)"),
        user_bind="{name}@contoso.example",
        name="grace",
    )
    assert child.person_filter(asked) == "(&(userPrincipalName=grace@contoso.example)(a=b))"
