"""The second page: for three loads, output throughput and mean TTFT of every variant at every max_num_batched_tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from profile_and_optimize.report.pages.fit import cut
from profile_and_optimize.report.pages.grid import Grid, Key, grid_of, tabled
from profile_and_optimize.report.pages.measured import FULL, PARTIAL, Load, Measured, Value, unit_of
from profile_and_optimize.report.pages.model import HeatCell, HeatPage, HeatTable, rounded
from profile_and_optimize.report.pages.scatter import chunks, lines_of, mbts_of, middle, part_words, workloads_of

LOADS = (8.0, 16.0, 32.0)
COLUMNS, CELLS, PLACES = 6, 40, 4
MISSING = HeatCell("missing", "", None, "missing")
ELSEWHERE = HeatCell("", "", None, "elsewhere")
Place = tuple[str, Load]
Pairs = tuple[tuple[HeatTable, ...], ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a table shows of a point."""

    title: str
    output: bool

    def of(self, p: Measured) -> Value | None:
        return p.output if self.output else p.ttft


@dataclass(frozen=True, slots=True)
class Group:
    """Points that may stand in one table. `every` holds all values of a (place, quantity), for its shades; `blocks` is n
    where all numbers have the same."""

    points: Sequence[Measured]
    grid: Grid
    places: Sequence[Place]
    pair: tuple[Quantity, Quantity]
    every: Mapping[tuple[Place, Quantity], Sequence[float]]
    blocks: int | None


def heat_pages(points: Sequence[Measured], heads: Sequence[str]) -> list[HeatPage]:
    """Cells that left in the race or were evicted are counted on the completeness page instead."""
    pages: list[HeatPage] = []
    for members in tabled(points):
        group = _group(members)
        parts = _by_load(group) if by_load(group.grid) else _by_tokens(group)
        for i, (places, pairs) in enumerate(parts, 1):
            pages.append(_page(group, places, part_words(i, len(parts)), pairs, () if pages else heads))
    return pages


def by_load(grid: Grid) -> bool:
    """Where every row is one cell, which has its own batched tokens, the columns are better used for the loads."""
    return all(k.cell and len({p.variant.mbt for p in found}) == 1 for k, found in grid.points.items())


def _by_tokens(group: Group) -> list[tuple[Sequence[Place], Pairs]]:
    """The seed's layout: a pair of tables for every load, a column for each max_num_batched_tokens."""
    rows, tables = fitting(len(group.grid.points), len(group.places))
    shares = product(
        chunks(list(group.grid.points), rows), chunks(_columns(group.points), COLUMNS), chunks(group.places, tables)
    )
    return [
        (places, tuple(tuple(_table(group, keys, mbts, at, q) for q in group.pair) for at in places))
        for keys, mbts, places in shares
    ]


def fitting(rows: int, places: int) -> tuple[int, int]:
    """(rows, pairs of tables) that fit on a page and can be read: the seed's three of up to 20 rows; more of short ones."""
    if rows <= 8:
        return 8, max(3, min(6, int(9.2 / (0.55 + 0.26 * rows))))
    return {1: 60, 2: 30}.get(places, 20), 3


def _by_load(group: Group) -> list[tuple[Sequence[Place], Pairs]]:
    """One pair of tables, a row for each cell and a column for each load; the right one is named by the left one's rows."""
    shares = product(chunks(list(group.grid.points), CELLS), chunks(group.places, PLACES))
    return [(places, ((_loads(group, keys, places, 0), _loads(group, keys, places, 1)),)) for keys, places in shares]


def _loads(group: Group, keys: Sequence[Key], places: Sequence[Place], which: int) -> HeatTable:
    several = len({w for w, _ in group.places}) > 1
    quantity = group.pair[which]
    rows = [group.grid.points[k] for k in keys]
    return HeatTable(
        title=quantity.title, columns=tuple((f"{w}\n" if several else "") + x.words for w, x in places),
        rows=() if which else tuple(_named(group.grid.labels[k], r[0].variant.mbt) for k, r in zip(keys, rows, strict=True)),
        cells=tuple(
            tuple(_cell(_there(r, at), Key(k.facets), quantity, group, at) for at in places)
            for k, r in zip(keys, rows, strict=True)
        ),
    )  # fmt: skip


def _named(label: tuple[str, str], mbt: int | None) -> tuple[str, str]:
    tokens = "batched tokens unknown" if mbt is None else f"{mbt} batched tokens"
    return label[0], f"{label[1]}, {tokens}" if label[1] else tokens


def _group(members: Sequence[Measured]) -> Group:
    unit = unit_of(members[0].variant.basis)
    pair = Quantity(f"output tok/s {unit}", True), Quantity("mean TTFT, ms", False)
    places = [(w, x) for w in workloads_of(members) for x in tabled_loads([p for p in members if p.workload == w])]
    every: dict[tuple[Place, Quantity], list[float]] = {(at, q): [] for at in places for q in pair}
    for p in members:
        for q in pair:
            value = q.of(p)
            if p.status == FULL and value and p.load and ((p.workload, p.load), q) in every:
                every[(p.workload, p.load), q].append(value.at)
    ns = {v.n for p in members for q in pair if (v := q.of(p))}
    return Group(members, grid_of(members), places, pair, every, next(iter(ns)) if len(ns) == 1 else None)


def tabled_loads(points: Sequence[Measured]) -> list[Load]:
    """All loads if there are at most three; else those of the seed that were measured, else the ends and the middle."""
    loads = sorted({p.load for p in points if p.load is not None})
    usual = [x for x in loads if not x.open_loop and x.size in LOADS]
    return loads if len(loads) <= 3 else usual or middle(loads)


def _columns(points: Sequence[Measured]) -> list[int | None]:
    """Batched tokens of the cells that were measured; of a failed cell alone they may be unknown without a column."""
    return mbts_of([p for p in points if p.plotted])


def _page(
    group: Group,
    places: Sequence[Place],
    part: str,
    pairs: Pairs,
    heads: Sequence[str],
) -> HeatPage:
    names = list(dict.fromkeys(w for w, _ in places))
    loads = ", ".join(dict.fromkeys(x.words for _, x in places))
    title = f"{names[0]}: every variant at {loads}" if len(names) == 1 else f"Every variant at every workload, {loads}"
    shown = [p for p in group.points if p.workload in names]
    return HeatPage(
        title=title + part, lines=(*heads, *lines_of(shown), *([f"All rows: {group.grid.shared}."] if group.grid.shared else [])),
        pairs=pairs, note=_note(group),
    )  # fmt: skip


def _note(group: Group) -> str:
    others = sorted({p.load for p in group.points if p.load is not None} - {x for _, x in group.places})
    columns, within = ("loads", "column") if by_load(group.grid) else ("max_num_batched_tokens", "table")
    said = [f"Columns: {columns}. Darker is better, by the logarithm, within one {within}."]
    if group.blocks == 1:
        said.append("n = 1 everywhere: a single block or run has no interval.")
    else:
        n = "n blocks (one has no interval)" if group.blocks is None else f"n = {group.blocks} blocks everywhere"
        said.append(f"Small: half-width of the 95% interval; {n}.")
    said.append("Gray: no number to compare, and why.")
    if others:
        said.append(f"Measured too, not in these tables: {', '.join(x.words for x in others)}.")
    without = sum(p.load is None for p in group.points)
    return " ".join(said + ([f"{without} without a known load."] if without else []))


def _table(group: Group, keys: Sequence[Key], mbts: Sequence[int | None], at: Place, quantity: Quantity) -> HeatTable:
    several = len({w for w, _ in group.places}) > 1
    return HeatTable(
        title=(f"{cut(at[0], 12.0)}   " if several else "") + f"{at[1].words}   {quantity.title}",
        columns=tuple("unknown" if m is None else str(m) for m in mbts),
        rows=tuple(group.grid.labels[k] for k in keys),
        cells=tuple(tuple(_cell(_at(group.grid.points[k], k, m, at), k, quantity, group, at) for m in mbts) for k in keys),
    )  # fmt: skip


def _there(row: Sequence[Measured], at: Place) -> list[Measured]:
    return [p for p in row if (p.workload, p.load) == at]


def _at(row: Sequence[Measured], key: Key, mbt: int | None, at: Place) -> list[Measured]:
    """Points of a row in a column; a cell that came to nothing came to nothing in every column."""
    mine = _there(row, at)
    found = [p for p in mine if p.variant.mbt == mbt]
    return mine if not found and key.cell and not any(p.plotted for p in row) else found


def _cell(found: Sequence[Measured], key: Key, quantity: Quantity, group: Group, at: Place) -> HeatCell:
    if not found:
        return ELSEWHERE if key.cell else MISSING
    p = found[-1]
    value = quantity.of(p)
    if p.status == FULL and value is not None:
        place = shade(value.at, group.every[at, quantity], quantity.output)
        return HeatCell(number_words(value.at), _sub(value, len(found), group.blocks), place, "")
    if p.status == PARTIAL and value is not None:
        return HeatCell(number_words(value.at), PARTIAL, None, PARTIAL)
    state = p.status if p.status != FULL else "unknown"
    return HeatCell(state, "", None, state)


def _sub(value: Value, runs: int, blocks: int | None) -> str:
    """Half-width, and n unless it is the same everywhere; of several runs of another tool, the last is shown."""
    n = "" if value.n == blocks else f"n={value.n}"
    if runs > 1:
        return f"last of {runs}"
    if value.span is None:
        return n
    half = 100 * max(value.span[1] / value.at - 1, 1 - value.span[0] / value.at)
    return f"±{half:.1f}% {n}".rstrip() if half < 9.95 else f"±{half:.0f}% {n}".rstrip()


def shade(value: float, every: Sequence[float], high_is_good: bool) -> float:
    low, high = min(every), max(every)
    if low == high:
        return 0.5
    place = math.log(value / low) / math.log(high / low)
    return rounded(min(1.0, max(0.0, place if high_is_good else 1 - place)))


def number_words(value: float) -> str:
    """Three to four digits: 0.312, 9.84, 45.1, 812, 2,435."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{min(digits, 6)}f}"
