"""Every number of a run under its name, and finding one by name, by the beginning of names, or by what is printed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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
    prints = _printing(numbers.values(), text)
    if len(prints) == 1:
        return Found(prints[0], (), "")
    if prints:
        return Found(None, prints, f"that are printed as {plain(text)}")
    raise WrongUse(
        f"no number of this run is named or printed {plain(asked)[:80]!r}{_near_words(numbers, text)}", where="NUMBER",
        next="pao explain RUN, which lists them all",
    )  # fmt: skip


def _printing(numbers: Iterable[Number], text: str) -> tuple[Number, ...]:
    """Those printed so; a sign or a unit may be missing or be there. Second names of a number are left out."""
    words = text.split()
    spelled = {text, f"+{text}", *(words[:1] if len(words) == 2 and _number(words[0]) is not None else ())}
    return tuple(n for n in numbers if not (n.same_as or n.stored) and n.text in spelled)


def _near_words(numbers: Mapping[str, Number], text: str) -> str:
    found = _near_values(numbers, text) or difflib.get_close_matches(text, numbers, MOST_NEAR, 0.5)
    return f"; near: {', '.join(f'{name} ({plain(numbers[name].text)})' for name in found)}" if found else ""


def _near_values(numbers: Mapping[str, Number], text: str) -> list[str]:
    """Names of the numbers with the closest values in the same kind of unit, percent or not; one for each text."""
    wanted = _number(text)
    if wanted is None:
        return []
    kind = "%" in text
    values: dict[str, tuple[float, str]] = {}
    for n in numbers.values():
        value = None if n.same_as or n.stored or ("%" in n.text) != kind else _number(n.text)
        if value is not None:
            values.setdefault(n.text, (abs(value - wanted), n.name))
    return [name for _, name in sorted(values.values())[:MOST_NEAR]]


def _number(text: str) -> float | None:
    """The value of a text that is one number, with or without a percent sign or a unit; None for any other."""
    words = text.split()
    try:
        value = float(words[0].rstrip("%")) if words and len(words) <= 2 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
