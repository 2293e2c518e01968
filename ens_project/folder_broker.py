"""Celery's filesystem broker, made safe for a reader that is quicker than the writer.

kombu's own writes a message into the file that readers already see, and they take it without the
lock the writer holds: a worker that meets an empty file ends with a JSONDecodeError. Here a message
appears whole or not at all. For the embedded default only.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Writes under a name that no reader takes, then renames."""

    def _put(  # type: ignore[override] # kombu's own two disagree
        self, queue: str, payload: Any, **_kwargs: Any
    ) -> None:
        folder = Path(self.data_folder_out)
        # The names must be kombu's: readers take `<time>_<id>.<queue>.msg`, oldest first.
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        unfinished = folder / f"{name}.part"
        try:
            unfinished.write_bytes(dumps(payload).encode())
            unfinished.replace(folder / name)
        except OSError as error:
            raise ChannelError(f"can't write a message ({type(error).__name__})") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        try:
            return super()._get(queue)
        except ValueError:
            # Left by a writer that died: one poke less, and others come.
            raise Empty from None


class Transport(filesystem.Transport):
    """kombu's transport with the channel above."""

    Channel = Channel
