"""The proxy spreads connections, skips the dead, and can be cut and restored."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from apps.lab.stand.ports import free_port
from apps.lab.stand.tcp_proxy import TcpProxy


class Echo:
    """A server that answers every line with its own name before it."""

    def __init__(self, name: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._name = name.encode()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(ConnectionResetError), connection, connection.makefile("rwb") as file:
            for line in file:
                file.write(self._name + b" " + line)
                file.flush()

    def close(self) -> None:
        # A thread waits in accept; closing alone would leave the port open until it returns.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def servers() -> Iterator[list[Echo]]:
    found = [Echo("one"), Echo("two")]
    yield found
    found[1].close()


@pytest.fixture
def proxy(servers: list[Echo]) -> Iterator[TcpProxy]:
    proxy = TcpProxy(free_port(), [server.port for server in servers])
    proxy.start()
    yield proxy
    proxy.stop()


def ask(proxy: TcpProxy) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.sendall(b"hello\n")
        return client.makefile("rb").readline()


def test_connections_are_spread_and_a_dead_server_is_passed_over(
    servers: list[Echo], proxy: TcpProxy
) -> None:
    assert {ask(proxy) for _ in range(2)} == {b"one hello\n", b"two hello\n"}
    servers[0].close()
    assert {ask(proxy) for _ in range(4)} == {b"two hello\n"}


def test_a_server_that_is_taken_out_is_asked_nothing_new(
    servers: list[Echo], proxy: TcpProxy
) -> None:
    both = {b"one hello\n", b"two hello\n"}
    proxy.take_out(servers[0].port)
    assert {ask(proxy) for _ in range(4)} == {b"two hello\n"}
    proxy.put_back(servers[0].port)
    assert {ask(proxy) for _ in range(4)} == both
    servers[0].close()


def test_a_cut_line_resets_refuses_and_comes_back(servers: list[Echo], proxy: TcpProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.sendall(b"hello\n")
        assert client.recv(100).endswith(b"hello\n")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    proxy.restore()
    assert ask(proxy).endswith(b"hello\n")
    servers[0].close()
