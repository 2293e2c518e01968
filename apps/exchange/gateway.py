"""A Secure Email Gateway in front of Exchange: it lets a request through by whose phone it is for.

ENS calls it as the phone would: each request carries headers that name the device whose credentials
it uses. What these headers are called is the gateway's affair, so the administrator writes them as
templates. Values come from phones and are hostile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_FIELD: Final = re.compile(r"\{([a-z_]*)\}")
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway wants to know, as (header, template), and how it says no, in HTTP statuses.

    `{name}` in a template stands for what the device's identity calls so.
    """

    headers: tuple[tuple[str, str], ...]
    refusals: tuple[int, ...] = (403,)

    def headers_for(self, identity: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The headers of a request for the device of this identity.

        One whose template names something that the device did not tell is left out: half an id
        must not pass for another phone's.
        """
        known = {name: _plain(value) for name, value in identity}
        return tuple(
            (name, _FIELD.sub(lambda found: known[found[1]], template))
            for name, template in self.headers
            if all(known.get(field) for field in _FIELD.findall(template))
        )


def _plain(value: str) -> str:
    """What a phone says, as it may stand in a header: one line of ASCII, not too long."""
    return "".join(one if " " <= one <= "~" else "?" for one in value).strip()[:_LONGEST]
