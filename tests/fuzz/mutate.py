"""Changes XML as XML: what a mutator of bytes changes is refused at the first angle bracket."""

from __future__ import annotations

import random
from copy import deepcopy

from lxml import etree

from tests.fuzz.seeds import WORDS

_MOST_BYTES = 200_000


def mutate(data: bytes, chance: random.Random) -> bytes:
    """The same document with one to four changes; other bytes with some changed or repeated."""
    if chance.random() < 0.15:
        return _bytes(data, chance)
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return _bytes(data, chance)
    for _ in range(chance.randint(1, 4)):
        _change(root, chance)
    return etree.tostring(root, xml_declaration=chance.random() < 0.5, encoding="utf-8")


def _change(root: etree._Element, chance: random.Random) -> None:
    elements = [one for one in root.iter() if isinstance(one.tag, str)]
    one, other = chance.choice(elements), chance.choice(elements)
    parent = one.getparent()
    kind = chance.randrange(8)
    if kind == 0 and parent is not None:
        parent.remove(one)
    elif kind == 1 and parent is not None and len(elements) < 500:
        for _ in range(chance.choice([1, 1, 2, 40])):
            parent.append(deepcopy(one))
    elif kind == 2 and not any(above is one for above in other.iterancestors()) and one is not root:
        if other is not one:
            other.append(one)
    elif kind == 3:
        one.tag = other.tag
    elif kind == 4:
        one.text = _word(chance)
    elif kind == 5 and one.attrib:
        name = chance.choice(list(one.attrib))
        one.attrib[name] = _word(chance)
    elif kind == 6 and one.attrib:
        del one.attrib[chance.choice(list(one.attrib))]
    elif kind == 7:
        deep = one
        for _ in range(chance.choice([1, 10, 300])):
            deep = etree.SubElement(deep, one.tag)


def _word(chance: random.Random) -> str:
    word = chance.choice([*WORDS, "", "true", "0", "x" * 5000, chr(chance.randrange(32, 0xD7FF))])
    return "".join(c for c in word if c in "\t\n\r" or " " <= c <= "\ud7ff" or c >= "\ue000")


def _bytes(data: bytes, chance: random.Random) -> bytes:
    content = bytearray(data or b"<")
    for _ in range(chance.randint(1, 8)):
        at, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        piece = chance.choice(WORDS).encode("utf-8", "surrogatepass")
        kind = chance.randrange(4)
        if kind == 0:
            content[at:at] = piece
        elif kind == 1 and end - at < 2000:
            content[at:at] = content[at:end] * chance.randint(1, 4)
        elif kind == 2 and end - at < len(content):
            del content[at:end]
        elif content:
            content[at % len(content)] = chance.randrange(256)
    return bytes(content[:_MOST_BYTES])
