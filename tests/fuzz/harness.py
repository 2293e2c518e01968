"""One target under atheris (Linux): `python -m tests.fuzz.harness TARGET [corpus …] [-flag=…]`.

`python -m tests.fuzz` calls this with limits of time and memory.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["apps.exchange", "apps.keypairs.jwe", "joserfc"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.mutate import mutate


def main() -> None:
    name = sys.argv.pop(1)
    target, is_xml = TARGETS[name], name in ("notification", "answer", "autodiscover")

    def once(data: bytes) -> None:
        target(data)

    def change(data: bytes, max_size: int, seed: int) -> Any:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            return atheris.Mutate(data, max_size)
        return mutate(bytes(data), chance)[:max_size]

    atheris.Setup(sys.argv, once, **({"custom_mutator": change} if is_xml else {}))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
