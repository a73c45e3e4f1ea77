"""Does what the derived files hold and print agree with what the records give now? Pure: files come in as bytes."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.evidence.reading import strict_json
from profile_and_optimize.report.explain.number import Cell, Number, Place
from profile_and_optimize.report.words import plain

PAGES = ("report.txt", "report.html", "CHAMPION.md", "HANDOFF.md", "summary.md")
# Two builds of the mathematics under us may differ in the last bits; a number that anybody changed differs by more.
ALIKE = 1e-9
LONGEST = 160
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Check:
    """One place of a derived file: what it holds, and what the records give where that differs."""

    file: str
    where: str
    agrees: bool
    held: str
    given: str

    @property
    def words(self) -> str:
        return f"{self.file} {self.where}".strip()


def checks(number: Number, given: Mapping[str, bytes], disk: Mapping[str, bytes], *, pages: bool) -> tuple[Check, ...]:
    """Every place of the files on `disk` that holds this number; files that are not there are not looked at.

    `given` are the same files as the records give them now. `pages` False: another version wrote them, and may word them
    otherwise; stored values are compared all the same."""
    found = [_stored(p, disk[p.file]) for p in number.places if p.file in disk]
    if pages:
        found += [
            c
            for name in PAGES
            if name in disk and name in given
            for c in _printed(number, name, given[name], disk[name])
        ]
    return tuple(found)


def _stored(place: Place, data: bytes) -> Check:
    try:
        held = _at(_load(place.file, data), place)
    except (ValueError, RecursionError) as e:
        return Check(place.file, place.words, False, f"unreadable: {e}", str(place.value))
    told = "nothing there" if held is _MISSING else plain(held)[:LONGEST]
    return Check(place.file, place.words, _same(held, place.value), told, str(place.value))


def _load(file: str, data: bytes) -> Any:
    if file.endswith(".jsonl"):
        return [strict_json(line) for line in data.splitlines() if line.strip()]
    return strict_json(data)


def _at(doc: Any, place: Place) -> Any:
    """What stands there; None below a None, since what is unknown as a whole has unknown parts."""
    for key in place.path:
        if doc is None:
            return None
        if isinstance(key, tuple):
            doc = [x for x in doc if isinstance(x, dict) and x.get(key[0]) == key[1]] if isinstance(doc, list) else []
            continue
        if isinstance(doc, list):
            doc = doc[0] if len(doc) == 1 else _MISSING
        doc = doc.get(key, _MISSING) if isinstance(doc, dict) else None if doc is None else _MISSING
    return doc


def _same(held: Any, given: Cell) -> bool:
    numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in (held, given)]
    if all(numbers):
        return math.isclose(held, float(given or 0), rel_tol=ALIKE, abs_tol=1e-15)
    return type(held) is type(given) and held == given


def _printed(number: Number, file: str, given: bytes, disk: bytes) -> Iterator[Check]:
    """The lines of a page that print the number; on disk it must stand as often in the line that has their place."""
    token = re.compile(rf"(?<![\w.+-]){re.escape(number.text)}(?![\w%]|\.\d)")
    ours, theirs = _lines(given), _lines(disk)
    wanted = [i for i, line in enumerate(ours) if _prints(token, number, line)]
    places = _places(ours, theirs) if wanted else {}
    for i in wanted:
        there = places.get(i, ())
        agrees = any(len(token.findall(line)) >= len(token.findall(ours[i])) for line in there)
        held = next(iter(there), "no such line")
        yield Check(file, f"line {i + 1}", agrees, _short(held, token), _short(ours[i], token))


def _prints(token: re.Pattern[str], number: Number, line: str) -> bool:
    return bool(token.search(line)) and all(m in line for m in number.marks) and 'id="data"' not in line


def _places(ours: list[str], theirs: list[str]) -> dict[int, tuple[str, ...]]:
    """Each of our lines to the lines on disk that stand in its place."""
    if ours == theirs:
        return {i: (line,) for i, line in enumerate(ours)}
    found: dict[int, tuple[str, ...]] = {}
    for _, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for i in range(a, b):
            # Blocks of equal length go line by line; in others the number may have moved to any of them.
            found[i] = (theirs[c + i - a],) if b - a == d - c else tuple(theirs[c:d])
    return found


def _short(line: str, token: re.Pattern[str]) -> str:
    """The line around the number, or its beginning where it does not hold it."""
    text, hit = plain(line), token.search(plain(line))
    start = max(0, hit.start() - LONGEST // 2) if hit else 0
    return text[start : start + LONGEST]


def _lines(data: bytes) -> list[str]:
    """With hyphens for the minus signs that the page is set in."""
    return data.decode(errors="replace").replace("\u2212", "-").split("\n")


def differing(given: Mapping[str, bytes], disk: Mapping[str, bytes]) -> list[str]:
    """Derived files on disk that are not, byte for byte, what the records give."""
    return sorted(name for name in given if name in disk and given[name] != disk[name])


def manifest_of(data: bytes | None) -> Mapping[str, Any]:
    """The manifest as an object; {} where there is none or it is damaged, which verify tells."""
    try:
        found = json.loads(data) if data else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
