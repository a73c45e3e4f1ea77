"""What an explanation is made of: numbers with names, and the story behind one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profile_and_optimize.analysis.atlas import rows as atlas_rows
from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.looks import Looks, looks
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.cost import unused_trials
from profile_and_optimize.report.view import View, view

Cell = float | int | str | None
Key = str | tuple[str, str | int | float]


@dataclass(frozen=True)
class Case:
    """A run with its decision and everything that its report shows. `unused` is why a trial file does not count."""

    ev: Evidence
    d: Decision
    view: View
    rows: Sequence[Mapping[str, Any]]
    looks: Looks
    unused: Mapping[str, str]

    @staticmethod
    def of(ev: Evidence, d: Decision) -> Case:
        unused = {u.source: u.reason for u in unused_trials(ev, d)}
        return Case(ev, d, view(ev, d), atlas_rows(ev, d), looks(ev.plan, d.selection), unused)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a derived file holds a number: keys from the top; pairs (key, value) pick the one element of a list that has
    them all. A file of JSON lines is the list of its lines."""

    file: str
    path: tuple[Key, ...]
    value: Cell

    @property
    def words(self) -> str:
        return ".".join(k if isinstance(k, str) else f"[{k[0]}={k[1]}]" for k in self.path).replace(".[", "[")


@dataclass(frozen=True, slots=True)
class Value:
    """A value on the way, under the symbol that the formula has for it. None is unknown."""

    symbol: str
    value: Cell
    note: str


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """A trial file that a number rests on, or that does not count and why."""

    path: str
    note: str


@dataclass(frozen=True, slots=True)
class Record:
    """One request as it was recorded; `by_hand` is what follows from it, with the times filled in."""

    trial: str
    index: int
    fields: Mapping[str, int | None]
    by_hand: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """What a number follows from. `formula` are lines with their symbols filled in; `files` are evidence files other than
    trials; `arms` those whose context and command matter, at `points` (all where none is named); `see` names of numbers
    that have to do with it."""

    formula: tuple[str, ...]
    values: tuple[Value, ...] = ()
    tables: tuple[Table, ...] = ()
    trials: tuple[Rest, ...] = ()
    unused: tuple[Rest, ...] = ()
    records: tuple[Record, ...] = ()
    files: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    see: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Number:
    """One number under a name. `text` is how the report prints it, `tell` gives its story.

    `places` are where derived files store it; `marks` words that stand in every line of a page that prints it, None where
    its text alone would not tell it from others. `same_as` names the number that it is another name of. A `fine` one is
    left out of the list of everything; no page prints one that is `stored` only."""

    name: str
    text: str
    meaning: str
    tell: Callable[[], Story] = field(repr=False, compare=False)
    places: tuple[Place, ...] = ()
    marks: tuple[str, ...] | None = None
    same_as: str = ""
    fine: bool = False
    stored: bool = False


def rests(trials: Sequence[Judged], note: Callable[[Judged], str]) -> tuple[Rest, ...]:
    return tuple(Rest(trial_path(t.key), note(t)) for t in trials)


def left_out(case: Case, wanted: Callable[[Judged], bool]) -> tuple[Rest, ...]:
    """Attempts on disk that do not count, with the reason."""
    paths = [trial_path(t.key) for t in case.ev.trials if wanted(t)]
    return tuple(Rest(p, case.unused[p]) for p in paths if p in case.unused)


def shown(value: float | None) -> str:
    """A value on the way with enough digits to go on from."""
    return "unknown" if value is None else f"{value:.10g}"
