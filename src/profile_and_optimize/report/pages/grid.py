"""The rows of the tables: which cells are one variant at several batched tokens, and which need a row of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profile_and_optimize.report.pages.measured import EVICTED, RACED, Measured
from profile_and_optimize.report.pages.scatter import groups
from profile_and_optimize.report.words import UNKNOWN


@dataclass(frozen=True, slots=True)
class Key:
    """A row: what its cells have in common, and the cell itself where the row holds one cell only."""

    facets: tuple[str, ...]
    cell: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """All rows of a group in order: the points of each, and its name with what stands small below it."""

    points: Mapping[Key, Sequence[Measured]]
    labels: Mapping[Key, tuple[str, str]]
    shared: str


def tabled(points: Sequence[Measured]) -> list[list[Measured]]:
    """The groups with something measured, each with the cells that came to nothing: those were never seen, so nobody knows
    on what they would have run."""
    shown = groups([p for p in points if p.status not in (RACED, EVICTED)])
    out = [found for found in shown if any(p.plotted for p in found)]
    for lost in (found for found in shown if found not in out):
        home = next((found for found in out if found[0].source == lost[0].source), None)
        if home is not None:
            home += lost
    return out


def grid_of(points: Sequence[Measured]) -> Grid:
    keys = _keyed(points)
    found: dict[Key, list[Measured]] = {}
    for p in points:
        found.setdefault(keys[p.cell, p.variant.facets], []).append(p)
    known = [k.facets for k in found if UNKNOWN not in k.facets] or [k.facets for k in found]
    differ = [i for i in range(len(known[0])) if len({f[i] for f in known}) > 1]
    shared = ", ".join(w for i, w in enumerate(known[0]) if w and i not in differ)
    return Grid(found, {k: _label(k, differ) for k in found}, shared)


def _keyed(points: Sequence[Measured]) -> dict[tuple[str, tuple[str, ...]], Key]:
    """(cell, facets) to its row. Two cells at one place, or a place that nobody knows, need rows of their own."""
    places: dict[tuple[tuple[str, ...], int | None], set[str]] = {}
    for p in points:
        places.setdefault((p.variant.facets, p.variant.mbt), set()).add(p.cell)
    crowded = {facets for (facets, _), cells in places.items() if len(cells) > 1}
    return {(p.cell, p.variant.facets): Key(p.variant.facets, p.cell if _alone(p, crowded) else "") for p in points}


def _alone(p: Measured, crowded: set[tuple[str, ...]]) -> bool:
    return p.variant.facets in crowded or p.variant.mbt is None or p.variant.hardware == UNKNOWN


def _label(key: Key, differ: Sequence[int]) -> tuple[str, str]:
    """What tells this row from the others."""
    words = " ".join(key.facets[i] for i in differ if key.facets[i])
    if key.cell:
        return key.cell, words
    return words or " ".join(w for w in key.facets if w), ""
