"""The first page: a row of panes per max_num_batched_tokens; TTFT against request rate, speed of a user against throughput."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from profile_and_optimize.report.pages.axes import axis
from profile_and_optimize.report.pages.fit import cut
from profile_and_optimize.report.pages.measured import PARTIAL, Load, Measured, Value, unit_of
from profile_and_optimize.report.pages.model import (
    HUES,
    UNKNOWN_HUE,
    Axis,
    Dot,
    Legend,
    Pane,
    PaneRow,
    ScatterPage,
    Series,
)
from profile_and_optimize.report.pages.variants import tp_words
from profile_and_optimize.report.words import UNKNOWN, count

# The seed's loads; how many panes, labelled cells and intervals a page can hold and still be read.
LABELLED = (1.0, 8.0, 32.0)
PANES, MOST_LABELLED, MOST_BARS, LONGEST = 5, 12, 12, 16.0
Hue = tuple[str, str]
Found = tuple[Measured, Value, Value]
Place = tuple[str, int | None]
Rows = Sequence[Measured]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    """What the panes of one workload have in common: their axes, left and right, and which loads have labels."""

    left: tuple[Axis, Axis]
    right: tuple[Axis, Axis]
    labels: frozenset[Load]
    one_load: bool


def groups(points: Rows) -> list[list[Measured]]:
    """Points that may stand on one page, in the order in which they appear: the same divisor, the same way of measuring."""
    out: dict[tuple[str, str], list[Measured]] = {}
    for p in points:
        out.setdefault(p.group, []).append(p)
    return list(out.values())


def scatter_pages(points: Rows, heads: Sequence[str]) -> list[ScatterPage]:
    """`heads` are the lines below the title of the first page. More than seven colours or five rows go on another page."""
    pages: list[ScatterPage] = []
    for members in groups([p for p in points if p.plotted]):
        scales = {w: _scale([p for p in members if p.workload == w]) for w in workloads_of(members)}
        parts = list(
            product(chunks(list(dict.fromkeys(map(hue_of, members))), HUES), chunks(places_of(members), PANES))
        )
        for i, (hues, places) in enumerate(parts, 1):
            pages.append(_page(members, hues, places, scales, part_words(i, len(parts)), () if pages else heads))
    return pages


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def part_words(i: int, parts: int) -> str:
    return f" (part {i} of {parts})" if parts > 1 else ""


def hue_of(p: Measured) -> Hue:
    return p.variant.hardware, p.variant.tp


def workloads_of(points: Rows) -> list[str]:
    return list(dict.fromkeys(p.workload for p in points))


def mbts_of(points: Rows) -> list[int | None]:
    """In order; the unknown ones have a place of their own at the end."""
    found = {p.variant.mbt for p in points}
    return [*sorted(m for m in found if m is not None), *([None] if None in found else [])]


def places_of(points: Rows) -> list[Place]:
    return [(w, m) for w in workloads_of(points) for m in mbts_of([p for p in points if p.workload == w])]


def _page(
    members: Rows,
    hues: Sequence[Hue],
    places: Sequence[Place],
    scales: Mapping[str, Scale],
    part: str,
    heads: Sequence[str],
) -> ScatterPage:
    shown = [p for p in members if hue_of(p) in hues and (p.workload, p.variant.mbt) in places]
    several = len(scales) > 1
    unit = unit_of(members[0].variant.basis)
    rows = [
        _row([p for p in shown if (p.workload, p.variant.mbt) == at], at, hues, scales[at[0]], several) for at in places
    ]
    what = "latency and throughput by max_num_batched_tokens"
    return ScatterPage(
        title=(f"{what[0].upper()}{what[1:]}" if several else f"{members[0].workload}: {what}") + part,
        lines=(*heads, *lines_of(shown)),
        heads=("TTFT against request throughput", f"tok/s/user against tok/s {unit}"),
        rows=tuple(r for r in rows if r.left.series or r.right.series),
        legend=_legend(shown, hues),
        note=_note(members, shown, [scales[w] for w in workloads_of(shown)], [x for r in rows for x in (r.left, r.right) if x.series]),
    )  # fmt: skip


def lines_of(points: Rows) -> tuple[str, ...]:
    """What a reader must know before comparing: the workloads' lengths, and who measured."""
    seen = dict.fromkeys(f"{p.workload} ({p.lengths})" if p.lengths else p.workload for p in points)
    said = [f"{'Workloads' if len(seen) > 1 else 'Workload'} {', '.join(seen)}."]
    source = points[0].source if points else ""
    return tuple([*said, *([f"{source}: another client, DRAFT, without intervals."] if source else [])])


def _scale(points: Rows) -> Scale:
    unit = unit_of(points[0].variant.basis)
    left, right = [p for p in points if p.left], [p for p in points if p.right]
    # Where bars are drawn, the axes hold them whole.
    bars = any(sum(p.variant.mbt == m for p in points) <= MOST_BARS for m in mbts_of(points))
    return Scale(
        (axis("request throughput, req/s (whole deployment)", _ends([p.requests for p in left], bars), 6),
         axis("mean TTFT, ms", _ends([p.ttft for p in left], bars), 5)),
        (axis("tok/s/user (1000 / median TPOT in ms)", _ends([p.user for p in right], bars), 6),
         axis(f"output tok/s {unit}", _ends([p.output for p in right], bars), 5)),
        labelled(points), len({p.load for p in points}) == 1,
    )  # fmt: skip


def _ends(values: Iterable[Value | None], bars: bool) -> list[float]:
    known = [v for v in values if v is not None]
    return [x for v in known for x in (v.at, *(v.span if bars and v.span else ()))]


def labelled(points: Rows) -> frozenset[Load]:
    """The loads with a label in the panes: the seed's, or else the ends and the middle of those there are."""
    loads = sorted({p.load for p in points if p.load is not None})
    usual = [x for x in loads if not x.open_loop and x.size in LABELLED]
    return frozenset(loads if len(loads) <= len(LABELLED) else usual or middle(loads))


def middle(loads: Sequence[Load]) -> list[Load]:
    return [loads[0], loads[len(loads) // 2], loads[-1]]


def _row(points: Rows, place: Place, hues: Sequence[Hue], scale: Scale, several: bool) -> PaneRow:
    words = "batched tokens unknown" if place[1] is None else f"{place[1]} batched tokens"
    left = [(p, p.requests, p.ttft) for p in points if p.left and p.requests and p.ttft]
    right = [(p, p.user, p.output) for p in points if p.right and p.user and p.output]
    return PaneRow(
        f"{place[0]}, {words}" if several else words, _pane(left, hues, scale, low_is_good=True),
        _pane(right, hues, scale, low_is_good=False), scale.left, scale.right,
    )  # fmt: skip


def _pane(found: Sequence[Found], hues: Sequence[Hue], scale: Scale, *, low_is_good: bool) -> Pane:
    cells: dict[str, list[Found]] = {}
    for one in found:
        cells.setdefault(one[0].cell, []).append(one)
    crowded = len(cells) > MOST_LABELLED
    named = _front(found, low_is_good) if crowded else frozenset(cells)
    series = tuple(_series(c, dots, hues, scale, c in named) for c, dots in cells.items())
    note = f"{len(cells)} cells" if crowded else ""
    return Pane(series, lines=not crowded, bars=len(found) <= MOST_BARS, note=note if found else "nothing to show here")


def _front(found: Sequence[Found], low_is_good: bool) -> frozenset[str]:
    """Cells with a point that no other beats on both axes; more is better on x, and on y unless `low_is_good`."""
    best, front = None, set()
    for p, _, y in sorted(found, key=lambda f: (-f[1].at, f[2].at if low_is_good else -f[2].at)):
        height = -y.at if low_is_good else y.at
        if best is None or height > best:
            best = height
            front.add(p.cell)
    return frozenset(front)


def _series(cell: str, found: Sequence[Found], hues: Sequence[Hue], scale: Scale, named: bool) -> Series:
    first = found[0][0]
    ordered = sorted(found, key=lambda f: (f[0].load is None, f[0].load or Load(False, 0.0)))
    dots = tuple(
        Dot(x.at, y.at, x.span, y.span, _label(p, scale) if named else "", p.status == PARTIAL) for p, x, y in ordered
    )
    return Series(cell, _hue(hue_of(first), hues), first.variant.strategy, first.variant.fill, dots)


def _label(p: Measured, scale: Scale) -> str:
    """The load; where all points have the same one, the cell."""
    if scale.one_load:
        return cut(p.cell, LONGEST)
    return p.load.short if p.load in scale.labels and p.load else ""


def _hue(hue: Hue, hues: Sequence[Hue]) -> int:
    return UNKNOWN_HUE if hue == (UNKNOWN, UNKNOWN) else list(hues).index(hue)


def _legend(shown: Rows, hues: Sequence[Hue]) -> Legend:
    return Legend(
        hues=tuple((_hue(h, hues), f"{h[0] if h[0] != UNKNOWN else 'hardware unknown'}, {tp_words(h[1])}") for h in hues),
        shapes=_there(("EP", "TP", UNKNOWN), (p.variant.strategy for p in shown)),
        fills=_there(("full", "hollow", "half"), (p.variant.fill for p in shown)),
        partial=any(p.status == PARTIAL for p in shown),
    )  # fmt: skip


def _there(order: Sequence[str], found: Iterable[str]) -> tuple[str, ...]:
    seen = set(found)
    return tuple(x for x in order if x in seen)


def _note(members: Rows, shown: Rows, scales: Sequence[Scale], drawn: Sequence[Pane]) -> str:
    """How to read the labels, and how many points lack a number of either column."""
    said = []
    labels = sorted({x for s in scales for x in s.labels if not s.one_load})
    if labels:
        kind = "concurrency or requests a second" if any(x.open_loop for x in labels) else "concurrency"
        said.append(f"Small numbers: {kind} ({', '.join(x.short for x in labels)}).")
    if any(s.one_load for s in scales):
        loads = dict.fromkeys(p.load.words if p.load else "an unknown load" for p in shown)
        said.append(f"Names: the cells, all at {' and '.join(loads)}." if len(loads) < 4 else "Names: the cells.")
    said.append("Labels that would cover others are left out.")
    if not all(x.lines for x in drawn):
        said.append(
            f"Of more than {MOST_LABELLED} cells in a pane, only those that nothing beats on both axes have labels."
        )
    one = sum(p.left != p.right for p in members)
    if one:
        said.append(f"{count(one, 'point')} of this page's kind in one column only: the other number is unknown.")
    if any(not p.source for p in shown):
        bars = any(x.bars for x in drawn)
        said.append(f"A point is a geometric mean over blocks{'; bars are 95% intervals' if bars else ''}.")
    return " ".join(said)
