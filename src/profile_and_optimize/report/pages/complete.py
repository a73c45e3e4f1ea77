"""The completeness page: what is missing, failed, partial or left out, why, and how to get it. Nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profile_and_optimize.report.pages.fit import wrap
from profile_and_optimize.report.pages.measured import EVICTED, FAILED, PARTIAL, RACED, SILENT, Measured
from profile_and_optimize.report.pages.model import Line, TextPage
from profile_and_optimize.report.pages.source import Source
from profile_and_optimize.report.words import UNKNOWN, count, plain

# In ems of the printed size, and lines a page.
WIDTH, LINES = 62.0, 58
MOST_NAMED, MOST_LETTERS = 60, 600
TITLE = "Report completeness"


def complete_pages(s: Source, points: Sequence[Measured], coverage: str) -> list[TextPage]:
    blocks = (
        _coverage(points, coverage),
        ("Missing", list(s.missing) or ["Nothing: all that was planned is there."]),
        _cells("Failed cells", points, FAILED),
        ("Server starts", list(s.starts)),
        ("Earlier campaigns", list(s.earlier)),
        _partial(points),
        _evicted(points),
        ("Pages left out", [f"{o.page}: {o.reason}. To get it: {o.how}." for o in s.omitted]),
        ("Unknown", list(_unknown(points))),
        ("Typed by whoever rendered this, not derived from the evidence", [f"{k} {v}" for k, v in s.options.typed]),
        ("Check it", [s.stamp.verify] if s.stamp.verify else []),
    )
    lines = [line for head, said in blocks if said for line in _block(head, said)]
    pages = _paged(lines)
    return [
        TextPage(TITLE + (f" (part {i} of {len(pages)})" if len(pages) > 1 else ""), p) for i, p in enumerate(pages, 1)
    ]


def _block(head: str, said: Sequence[str]) -> list[Line]:
    shown, gone = said[:MOST_NAMED], len(said) - MOST_NAMED
    lines = [Line(head, "head")]
    for text in [*shown, *([f"... and {gone} more; atlas.jsonl names each."] if gone > 0 else [])]:
        first, *rest = wrap(_short(plain(text)), WIDTH)
        lines += [Line(first), *(Line("   " + r) for r in rest)]
    return [*lines, Line("")]


def _short(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} ... (cut)"


def _paged(lines: Sequence[Line]) -> list[tuple[Line, ...]]:
    """A head is never the last line of a page."""
    pages: list[tuple[Line, ...]] = []
    rest = list(lines)
    while rest:
        cut = len(rest) if len(rest) <= LINES else LINES
        while cut < len(rest) and cut > 1 and rest[cut - 1].style == "head":
            cut -= 1
        pages.append(tuple(rest[:cut]))
        rest = rest[cut:]
    return pages


def _coverage(points: Sequence[Measured], coverage: str) -> tuple[str, list[str]]:
    raced = _named(points, RACED)
    told = [coverage]
    both = sum(p.left and p.right for p in points)
    either = sum(p.plotted for p in points) - both
    told.append(
        f"{count(both, 'point')} in both columns of panes, {either} in one only, because the other number is unknown."
    )
    if raced:
        told.append(
            f"{count(len(raced), 'cell')} left in the race: explored, never measured in blocks, and so not plotted."
        )
    return "Coverage", told


def _named(points: Iterable[Measured], status: str) -> list[str]:
    return list(dict.fromkeys(p.cell for p in points if p.status == status))


def _cells(head: str, points: Sequence[Measured], status: str) -> tuple[str, list[str]]:
    """A cell with its reason; where only some of its points are concerned, these."""
    out = []
    for cell in _named(points, status):
        mine = [p for p in points if p.cell == cell]
        hit = [p for p in mine if p.status == status]
        where = "" if len(hit) == len(mine) else f" at {', '.join(_places(hit))}"
        out.append(f"{cell}{where}: {hit[0].reason or 'no reason was recorded'}")
    return head, out


def _partial(points: Sequence[Measured]) -> tuple[str, list[str]]:
    out = []
    for cell in _named(points, PARTIAL):
        hit = [p for p in points if p.cell == cell and p.status == PARTIAL]
        without = [p for p in hit if not p.plotted]
        some = (
            f"not every request completed at {', '.join(_places([p for p in hit if p.plotted]))}; "
            if len(without) < len(hit)
            else ""
        )
        none = f"nothing measured at {', '.join(_places(without))}; " if without else ""
        out.append(f"{cell}: {some}{none}{hit[0].reason or 'its blocks are not whole'}")
    return "Partial cells", out


def _places(points: Sequence[Measured]) -> list[str]:
    several = len({p.workload for p in points}) > 1
    return list(
        dict.fromkeys(
            (f"{p.workload} " if several else "") + (p.load.words if p.load else "an unknown load") for p in points
        )
    )


def _evicted(points: Sequence[Measured]) -> tuple[str, list[str]]:
    cells = _named(points, EVICTED)
    if not cells:
        return "Evicted cells", []
    why = next(p.reason for p in points if p.status == EVICTED)
    said = f"{count(len(cells), 'MTP context cell')} evicted: counted here, not among the atlas cells, and not plotted ({why})."
    return "Evicted cells", [said, *(", ".join(cells[i : i + 3]) for i in range(0, len(cells), 3))]


def _unknown(points: Sequence[Measured]) -> Iterable[str]:
    """Which facets of measured cells nobody knows; such cells stand in a row, a colour or a marker of their own."""
    shown = [p for p in points if p.status not in SILENT and p.plotted]
    told = (
        ("max_num_batched_tokens", lambda p: p.variant.mbt is None), ("hardware", lambda p: p.variant.hardware == UNKNOWN),
        ("tensor parallelism", lambda p: p.variant.tp == UNKNOWN), ("EP or TP", lambda p: p.variant.strategy == UNKNOWN),
        ("MTP", lambda p: p.variant.spec == UNKNOWN),
        ("the number of GPUs, so that throughput is not divided", lambda p: p.variant.basis == "whole"),
        ("the load, so that no table holds them", lambda p: p.load is None),
    )  # fmt: skip
    every = {p.cell for p in shown}
    for name, is_unknown in told:
        cells = {p.cell for p in shown if is_unknown(p)}
        if cells:
            yield f"{'every cell' if cells == every else count(len(cells), 'cell')}: {name}"
