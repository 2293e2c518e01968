"""A Runner that starts nothing: it keeps what it was given and answers as a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from apps.operations.install.runner import Completed

Answer = Callable[[Sequence[str]], Completed | None]


class Recorder:
    """Keeps command lines and inputs; ends everything well unless `answer` says otherwise."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.commands: list[list[str]] = []
        self.inputs: list[str | None] = []
        self._answer = answer

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Completed:
        """See Runner."""
        self.commands.append(list(argv))
        self.inputs.append(input)
        return (self._answer and self._answer(argv)) or Completed(0)
