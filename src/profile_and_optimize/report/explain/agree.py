"""Does what the derived files hold and print agree with what the records give now? Pure: files come in as bytes."""

from __future__ import annotations

import difflib
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
    if pages and number.marks is not None:
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
    """The parts of a page that print the number; on disk it must stand as often in the part that has their place."""
    token = re.compile(rf"(?<![\w.+-]){re.escape(number.text)}(?![\w%]|\.\d)")
    ours, theirs = _parts(file, given), _parts(file, disk)
    wanted = [i for i, part in enumerate(ours) if _prints(token, number, part)]
    places = _places(ours, theirs) if wanted else {}
    for i in wanted:
        there = places.get(i, ())
        agrees = any(len(token.findall(part)) >= len(token.findall(ours[i])) for part in there)
        held = next(iter(there), "nothing in its place")
        yield Check(file, f"line {_line(ours, i, token)}", agrees, _short(held, token), _short(ours[i], token))


def _prints(token: re.Pattern[str], number: Number, part: str) -> bool:
    return bool(token.search(part)) and all(m in part for m in number.marks or ()) and 'id="data"' not in part


def _places(ours: list[str], theirs: list[str]) -> dict[int, tuple[str, ...]]:
    """Each of our parts to those on disk that stand in its place."""
    if ours == theirs:
        return {i: (part,) for i, part in enumerate(ours)}
    found: dict[int, tuple[str, ...]] = {}
    for _, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for i in range(a, b):
            # Stretches of equal length go one by one; in others the number may have moved to any part.
            found[i] = (theirs[c + i - a],) if b - a == d - c else tuple(theirs[c:d])
    return found


def _line(parts: list[str], i: int, token: re.Pattern[str]) -> int:
    """Where the number first stands in part `i`, counted in lines of the file from 1."""
    hit = token.search(parts[i])
    before = sum(part.count("\n") + 1 for part in parts[:i])
    return before + parts[i][: hit.start() if hit else 0].count("\n") + 1


def _short(part: str, token: re.Pattern[str]) -> str:
    """What stands around the number, or the beginning where it is not there."""
    text = plain(part)
    hit = token.search(text)
    start = max(0, hit.start() - LONGEST // 2) if hit else 0
    return text[start : start + LONGEST]


def _parts(file: str, data: bytes) -> list[str]:
    """Lines, of a page in HTML whole table rows; with hyphens for the minus signs that the page is set in."""
    text = data.decode(errors="replace").replace("\u2212", "-")
    return re.split(r"\n(?=<(?:tr|/|[^t/]))" if file.endswith(".html") else r"\n", text)


def differing(given: Mapping[str, bytes], disk: Mapping[str, bytes]) -> list[str]:
    """Derived files on disk that are not, byte for byte, what the records give."""
    return sorted(name for name in given if name in disk and given[name] != disk[name])


def manifest_of(data: bytes | None) -> Mapping[str, Any]:
    """The manifest as an object; {} where there is none or it is damaged, which verify tells."""
    try:
        found = strict_json(data) if data else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
