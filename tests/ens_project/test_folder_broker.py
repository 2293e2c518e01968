"""The filesystem broker with writers and a reader in a hurry."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from kombu import Connection

from ens_project.folder_broker import Transport

WRITERS, MESSAGES = 2, 1000
# A queue of its own for each test: kombu remembers for the whole process which ones are bound.


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    messages, control = tmp_path / "messages", tmp_path / "control"
    messages.mkdir()
    control.mkdir()
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": 0.0001,
    }
    return Connection("filesystem://", transport=Transport, transport_options=options)


def write(options: dict[str, str], number: int) -> None:
    """In a process of its own, as the web server and beat are."""
    connection = Connection("filesystem://", transport=Transport, transport_options=options)
    with connection, connection.SimpleQueue("drain") as queue:
        for count in range(MESSAGES):
            queue.put({"writer": number, "count": count})


def test_no_message_is_read_before_it_is_written(connection: Connection) -> None:
    processes = multiprocessing.get_context("spawn")
    options = connection.transport_options
    writers = [processes.Process(target=write, args=(options, n)) for n in range(WRITERS)]
    with connection, connection.SimpleQueue("drain", no_ack=True) as queue:
        for writer in writers:
            writer.start()
        found = [queue.get(timeout=20) for _ in range(WRITERS * MESSAGES)]
        for writer in writers:
            writer.join()
    pairs = {(message.payload["writer"], message.payload["count"]) for message in found}
    assert len(pairs) == WRITERS * MESSAGES


def test_a_torn_message_ends_no_reader(connection: Connection, tmp_path: Path) -> None:
    with connection, connection.SimpleQueue("torn", no_ack=True) as queue:
        (tmp_path / "messages" / "1_x.torn.msg").write_bytes(b"")
        queue.put("whole")
        assert queue.get(timeout=20).payload == "whole"
