"""Addresses that somebody names to make ENS call itself, and a listener that notices if it does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PATH = "/EWS/Exchange.asmx"

# `{port}` is the canary's. What some resolver, parser or network takes for loopback, this machine,
# a cloud's metadata service or a private network.
HOSTILE_URLS = (
    # loopback, written in every way that inet_aton(3) or a browser knows
    "https://127.0.0.1:{port}/EWS/Exchange.asmx",
    "HTTPS://127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://127.1:{port}/EWS/Exchange.asmx",
    "https://127.0.1:{port}/EWS/Exchange.asmx",
    "https://127.255.255.254:{port}/EWS/Exchange.asmx",
    "https://2130706433:{port}/EWS/Exchange.asmx",
    "https://0x7f000001:{port}/EWS/Exchange.asmx",
    "https://0x7f.0.0.1:{port}/EWS/Exchange.asmx",
    "https://0177.0.0.1:{port}/EWS/Exchange.asmx",
    "https://017700000001:{port}/EWS/Exchange.asmx",
    "https://127.0.0.1.:{port}/EWS/Exchange.asmx",
    "https://127%2e0%2e0%2e1:{port}/EWS/Exchange.asmx",
    "https://%31%32%37.0.0.1:{port}/EWS/Exchange.asmx",
    # this machine
    "https://0:{port}/EWS/Exchange.asmx",
    "https://0.0.0.0:{port}/EWS/Exchange.asmx",
    "https://[::]:{port}/EWS/Exchange.asmx",
    # names of it
    "https://localhost:{port}/EWS/Exchange.asmx",
    "https://LocalHost:{port}/EWS/Exchange.asmx",
    "https://localhost.:{port}/EWS/Exchange.asmx",
    "https://mail.localhost:{port}/EWS/Exchange.asmx",
    # IPv6, and IPv4 inside of it: mapped, compatible, translated, NAT64, 6to4, Teredo
    "https://[::1]:{port}/EWS/Exchange.asmx",
    "https://[0:0:0:0:0:0:0:1]:{port}/EWS/Exchange.asmx",
    "https://[::1%25lo]:{port}/EWS/Exchange.asmx",
    "https://[::ffff:127.0.0.1]:{port}/EWS/Exchange.asmx",
    "https://[::ffff:7f00:1]:{port}/EWS/Exchange.asmx",
    "https://[::127.0.0.1]:{port}/EWS/Exchange.asmx",
    "https://[::ffff:0:127.0.0.1]:{port}/EWS/Exchange.asmx",
    "https://[64:ff9b::127.0.0.1]:{port}/EWS/Exchange.asmx",
    "https://[64:ff9b::7f00:1]:{port}/EWS/Exchange.asmx",
    "https://[64:ff9b:1::7f00:1]:{port}/EWS/Exchange.asmx",
    "https://[2002:7f00:1::]:{port}/EWS/Exchange.asmx",
    "https://[2001:0:7f00:1::80ff:fffe]:{port}/EWS/Exchange.asmx",
    # metadata services and link-local
    "https://169.254.169.254/EWS/Exchange.asmx",
    "https://[::ffff:169.254.169.254]/EWS/Exchange.asmx",
    "https://100.100.100.200/EWS/Exchange.asmx",
    "https://168.63.129.16/EWS/Exchange.asmx",
    "https://[fd00:ec2::254]/EWS/Exchange.asmx",
    "https://[fe80::1%25eth0]/EWS/Exchange.asmx",
    # private networks, without leave
    "https://10.0.0.1/EWS/Exchange.asmx",
    "https://192.168.1.1/EWS/Exchange.asmx",
    "https://[fc00::1]/EWS/Exchange.asmx",
    # two readers, two hosts
    "https://mail.example.com@127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://mail.example.com:443@127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://127.0.0.1:{port}\\@mail.example.com/EWS/Exchange.asmx",
    "https://127.0.0.1:{port}#@mail.example.com/EWS/Exchange.asmx",
    "https://127.0.0.1:{port}?@mail.example.com/EWS/Exchange.asmx",
    "https://mail.example.com\t@127.0.0.1:{port}/EWS/Exchange.asmx",
    "https://127.0.0.1:{port}/\r\nHost: mail.example.com",
    "https:127.0.0.1:{port}/EWS/Exchange.asmx",
    "https:///127.0.0.1:{port}/EWS/Exchange.asmx",
    "//127.0.0.1:{port}/EWS/Exchange.asmx",
    # IDNA: what normalizes to digits, dots and names of this machine
    "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/EWS/Exchange.asmx",
    "https://127\u30020\u30020\u30021:{port}/EWS/Exchange.asmx",
    "https://\uff11\uff12\uff17.0.0.1:{port}/EWS/Exchange.asmx",
    "https://loc\u00adalhost:{port}/EWS/Exchange.asmx",
    "https://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/EWS/Exchange.asmx",
    # other schemes
    "http://127.0.0.1:{port}/EWS/Exchange.asmx",
    "ftp://127.0.0.1:{port}/EWS/Exchange.asmx",
    "gopher://127.0.0.1:{port}/_EHLO",
    "dict://127.0.0.1:{port}/d:ens",
    "ldap://127.0.0.1:{port}/",
    "smb://127.0.0.1:{port}/c$",
    "telnet://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "unix:/run/docker.sock",
)


@dataclass
class Canary:
    """Who listens on loopback at one port, by IPv4 and IPv6, and how many came."""

    port: int
    calls: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def urls(self) -> list[str]:
        """The hostile addresses, with this canary's port."""
        return [url.replace("{port}", str(self.port)) for url in HOSTILE_URLS]

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            self.calls += 1
            with suppress(OSError):
                caller.close()


@contextmanager
def canary(port: int = 0) -> Iterator[Canary]:
    """At 127.0.0.1 and ::1, on this port or a free one."""
    first = socket.create_server(("127.0.0.1", port))
    made = Canary(first.getsockname()[1], 0, [first])
    with suppress(OSError):
        made._sockets.append(socket.create_server(("::1", made.port), family=socket.AF_INET6))
    threads = [
        threading.Thread(target=made._listen, args=[listener], daemon=True)
        for listener in made._sockets
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        for listener in made._sockets:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join(5)
