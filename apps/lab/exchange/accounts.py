"""The people of the demo."""

from __future__ import annotations

from .model import Mailbox

DOMAIN = "EXAMPLE"
_PEOPLE = (
    ("anna", "Anna Adler", "anna-lab-1", ("a.adler@example.com",)),
    ("ben", "Ben Berger", "ben-lab-2", ()),
    ("carla", "Carla Conti", "carla-lab-3", ()),
    ("dora", "Dora Dahl", "dora-lab-4", ()),
)


def demo_mailboxes() -> list[Mailbox]:
    """Anna, Ben, Carla and Dora at example.com, with passwords that are no secret."""
    return [
        Mailbox(f"{user}@example.com", name, user, DOMAIN, password, aliases)
        for user, name, password, aliases in _PEOPLE
    ]
