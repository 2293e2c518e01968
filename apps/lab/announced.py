"""Which mails were announced on a phone, told from its pushes alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from apps.lab.phone import Push


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that was sent; `at` is the Unix time of its arrival in Exchange."""

    user: str = field(repr=False)
    subject: str = field(repr=False)
    at: float = 0.0


def first_arrivals(pushes: Iterable[Push], mails: Sequence[Mail]) -> dict[str, float]:
    """When each mail was first announced on a phone, by subject; a mail that wasn't is absent.

    An announcement without a subject ("New mail", when Exchange told no more in time) stands for
    the oldest mail of the user that no other announcement is about.
    """
    found: dict[str, float] = {}
    first: dict[str, float] = {}
    told: set[str] = set()
    subjects = {mail.subject for mail in mails}
    for push in pushes:
        if push.kind != "announcement":
            continue
        at = first.setdefault(push.item, push.at)
        if push.body in subjects:
            found.setdefault(push.body, at)
            told.add(push.item)
        elif push.body:
            told.add(push.item)  # a mail of somebody else's run
    plain = sorted(at for item, at in first.items() if item not in told)
    unmatched = [mail.subject for mail in mails if mail.subject not in found]
    return found | dict(zip(unmatched, plain, strict=False))
