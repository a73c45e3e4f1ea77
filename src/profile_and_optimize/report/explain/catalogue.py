"""Every number of a run under its name, and finding one by name, by the beginning of names, or by what is printed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.report.explain import (
    at_points,
    cells,
    champion,
    checkpoints,
    effects,
    gates,
    proof,
    rest,
    trials,
)
from profile_and_optimize.report.explain.number import Case, Number
from profile_and_optimize.report.words import plain

MOST_NEAR = 5
_NUMBER = re.compile(
    r"([+-]?)((?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?)(%| ?[A-Za-z]{1,9}(?:/[A-Za-z]{1,9}){0,3})?"
)


def catalogue(case: Case) -> dict[str, Number]:
    """Name to number, in the order of the report. An arm may be named so that two names fall together: then ~2 follows."""
    parts = (
        champion.numbers, effects.numbers, at_points.numbers, gates.numbers, proof.proof, rest.race, cells.numbers, rest.accuracy,
        checkpoints.numbers, rest.cost, rest.planned, trials.numbers,
    )  # fmt: skip
    found: dict[str, Number] = {}
    for number in (n for part in parts for n in part(case)):
        name, turn = number.name, 1
        while name in found:
            turn += 1
            name = f"{number.name}~{turn}"
        found[name] = replace(number, name=name)
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """One number to explain, or several to choose from; `why` says what they have in common."""

    one: Number | None
    several: tuple[Number, ...]
    why: str


def find(numbers: Mapping[str, Number], asked: str | None) -> Found:
    """By exact name, else by the beginning of names, else by the printed value. Raises WrongUse naming near ones."""
    if not asked:
        return Found(None, tuple(numbers.values()), "")
    text = asked.strip().replace("\u2212", "-")
    if text in numbers:
        return Found(numbers[text], (), "")
    begins = tuple(n for name, n in numbers.items() if name.startswith(text))
    if begins:
        return Found(None, begins, f"whose names begin with {plain(text)}")
    shown = [n for n in numbers.values() if not (n.same_as or n.stored)]
    for how, prints in ((_printed, "that are printed as"), (_rounded, "that round to")):
        found = tuple(n for n in shown if how(n.text, text))
        if found:
            return Found(found[0], (), "") if len(found) == 1 else Found(None, found, f"{prints} {plain(text)}")
    raise WrongUse(
        f"no number of this run has the name or the printed value {plain(asked)[:80]!r}{_near_words(numbers, text)}", where="NUMBER",
        next="pao explain RUN, which lists them all",
    )  # fmt: skip


def _printed(shown: str, asked: str) -> bool:
    """The same text or the same digits: 11.6 and 11.6% for +11.6%, 413 tok/s for 413, 1,234 for 1234. What is typed beside the
    digits may be missing in print, but not differ; a percent sign has to be there."""
    a, b = _parts(shown), _parts(asked)
    return shown == asked or (a is not None and b is not None and a.digits == b.digits and _fits(a, b))


def _rounded(shown: str, asked: str) -> bool:
    """What is printed rounds to what is asked: 412.7 to 413, and 12.5 to 12 and to 13, since the value behind it may be either."""
    a, b = _parts(shown), _parts(asked)
    if a is None or b is None or not _fits(a, b):
        return False
    return a.decimals > b.decimals and abs(a.digits - b.digits) * 2 <= Decimal(1).scaleb(-b.decimals)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A printed number: its sign ("" where none is printed), its digits without it, and what stands behind ("%", "ms", "")."""

    sign: str
    digits: Decimal
    unit: str

    @property
    def decimals(self) -> int:
        return max(0, -int(self.digits.as_tuple().exponent))


def _parts(text: str) -> _Parts | None:
    """Of a text that is one number, with a unit or an interval in parentheses behind it or not; None for any other."""
    found = _NUMBER.fullmatch(text.partition(" (")[0].strip())
    return _Parts(found[1], Decimal(found[2].replace(",", "")), (found[3] or "").strip()) if found else None


def _fits(shown: _Parts, asked: _Parts) -> bool:
    """Is what is typed beside the digits also printed, or at least not contradicted?"""
    signs = not asked.sign or asked.sign == (shown.sign or "+")
    return (
        signs
        and (not asked.unit or not shown.unit or asked.unit == shown.unit)
        and not (asked.unit == "%" != shown.unit)
    )


def _near_words(numbers: Mapping[str, Number], text: str) -> str:
    found = _near_values(numbers, text) or difflib.get_close_matches(text, numbers, MOST_NEAR, 0.5)
    return f"; near: {', '.join(f'{name} ({plain(numbers[name].text)})' for name in found)}" if found else ""


def _near_values(numbers: Mapping[str, Number], text: str) -> list[str]:
    """Names of the numbers with the closest values, of percentages alone where one was typed; one for each text."""
    wanted = _number(text)
    if wanted is None:
        return []
    percent, asked = "%" in text, _parts(text)
    values: dict[str, tuple[float, str]] = {}
    for n in numbers.values():
        value = None if n.same_as or n.stored or (percent and "%" not in n.text) else _number(n.text)
        if value is not None:
            far = abs(value - wanted) if asked is None or asked.sign or percent else abs(abs(value) - abs(wanted))
            values.setdefault(n.text, (far, n.name))
    return [name for _, name in sorted(values.values())[:MOST_NEAR]]


def _number(text: str) -> float | None:
    """The value of a text that is one number, with or without a percent sign or a unit; None for any other."""
    words = text.split()
    try:
        value = float(words[0].rstrip("%")) if words and len(words) <= 2 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
