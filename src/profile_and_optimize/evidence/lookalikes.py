"""A text as it is meant: full-width and look-alike letters as the plain ones, what shows nothing left out, escapes resolved.

Whoever reads a credential reads it so, and so does the program that it is pasted into often enough; patterns have to, too.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Letters of other alphabets that look like Latin ones.
_LOOKS = str.maketrans(
    "аеорсухіѕјһкмтнвгАЕОРСУХІЅЈНКМТВαεορτυνκικχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxisjhkmthbrAEOPCYXISJHKMTBaeoptuvkikxABEZHIKMNOPTYX",
)
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})|%([0-7][0-9a-fA-F])")


def needs(text: str) -> bool:
    """Whether there is anything to see differently: most text is plain."""
    return not text.isascii() or _ESCAPED.search(text) is not None


def plainly(text: str) -> tuple[str, list[int]]:
    """(the text as it is meant, the place in `text` where each of its characters begins, and one for the end)."""
    said: list[str] = []
    places: list[int] = []
    at = 0
    for m in _ESCAPED.finditer(text):
        _copy(text, at, m.start(), said, places)
        char = _meant(chr(int(m[1] or m[2], 16)))
        if char:
            said.append(char)
            places.append(m.start())
        at = m.end()
    _copy(text, at, len(text), said, places)
    return "".join(said), [*places, len(text)]


def _copy(text: str, begin: int, end: int, said: list[str], places: list[int]) -> None:
    part = text[begin:end]
    if part.isascii():
        said.append(part)
        places.extend(range(begin, end))
        return
    for at, char in enumerate(part, begin):
        plain = _meant(char)
        if plain:
            said.append(plain)
            places.append(at)


@lru_cache(maxsize=4096)
def _meant(char: str) -> str:
    """One character or none."""
    if char.isascii():
        return char
    if unicodedata.category(char) in ("Cf", "Mn", "Me") or char in "\u115f\u1160\u3164\uffa0":
        return ""
    wide = unicodedata.normalize("NFKC", char)
    return (wide if len(wide) == 1 else char).translate(_LOOKS)
