"""What shall be so on a Windows server: for each the command that shows it, and that makes it so.

Windows' own tools have no way to say "make it so": they fail when a thing is there already. So
everything is looked at first, which also makes every run repeatable.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lxml import etree

from apps.operations.install.runner import Completed, Runner, must

Argv = tuple[str, ...]
_PLAIN: Final = etree.XMLParser(resolve_entities=False, no_network=True)
_REBOOT: Final = 3010  # ERROR_SUCCESS_REBOOT_REQUIRED: done, but for a restart of the server


def there(done: Completed) -> bool:
    """The probe shows something."""
    return done.ok and bool(done.out.strip())


def missing(done: Completed) -> bool:
    """The probe shows nothing: what it asks for isn't there."""
    return not there(done)


def says(text: str) -> Callable[[Completed], bool]:
    """The probe's output is this, letter case and blanks around it aside."""
    return lambda done: done.ok and done.out.strip().casefold() == text.casefold()


def tells_of(*texts: str) -> Callable[[Completed], bool]:
    """Each of these is in the probe's output, letter case aside."""
    return lambda done: done.ok and all(text.casefold() in done.out.casefold() for text in texts)


def lists(text: str) -> Callable[[Completed], bool]:
    """This is one of the probe's words, which stand between commas."""
    return lambda done: done.ok and text.casefold() in done.out.strip().casefold().split(",")


def consists_of(text: str) -> Callable[[Completed], bool]:
    """The probe's words, which stand between commas, are these in whatever order."""
    return lambda done: done.ok and _words(done.out) == _words(text)


def _words(text: str) -> set[str]:
    return {word.strip().casefold() for word in text.split(",")}


def shows(tag: str, attributes: Mapping[str, str]) -> Callable[[Completed], bool]:
    """The probe's output is XML with an element of this name that has these attributes."""

    def is_so(done: Completed) -> bool:
        if not done.ok:
            return False
        try:
            tree = etree.fromstring(done.out.strip().encode(), _PLAIN)
        except etree.XMLSyntaxError:
            return False
        return any(
            all(found.get(name) == value for name, value in attributes.items())
            for found in tree.iter(tag)
        )

    return is_so


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that shall be so."""

    probe: Argv
    is_so: Callable[[Completed], bool]
    command: Argv
    first: Argv = ()
    """What stands in the command's way is taken away by this; it may fail."""

    def seen(self, runner: Runner) -> bool:
        """Whether it is so already."""
        return self.is_so(runner.run(self.probe))


@dataclass(frozen=True, slots=True)
class Commands:
    """A step (see steps.py) that makes several things so, in their order."""

    title: str
    wanted: Sequence[Wanted]
    runner: Runner
    code: str
    """The code of StepFailed when one of the commands fails."""
    advice: str

    def needed(self) -> bool:
        """Whether one of them isn't so."""
        return any(not one.seen(self.runner) for one in self.wanted)

    def describe(self) -> str:
        """The commands of those that aren't so, as one would type them."""
        missing = [one for one in self.wanted if not one.seen(self.runner)]
        return "\n".join(
            subprocess.list2cmdline(argv)
            for one in missing
            for argv in (one.first, one.command)
            if argv
        )

    def apply(self) -> None:
        """Run the commands of those that aren't so.

        Raises:
            StepFailed: one failed; what it said stands in the advice.
        """
        for one in self.wanted:
            if one.seen(self.runner):
                continue
            if one.first:
                self.runner.run(one.first)
            done = self.runner.run(one.command)
            if done.code != _REBOOT:
                must(done, self.code, self.advice)
