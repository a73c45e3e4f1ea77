"""The champion page: the baseline against the best arms of each engine, the pick, and what keeps it from a VERDICT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profile_and_optimize.report.forest import ratio_words, round_places
from profile_and_optimize.report.html import minus
from profile_and_optimize.report.pages.axes import tick_words
from profile_and_optimize.report.pages.model import Axis, ChampionPage, ChampionRow, rounded
from profile_and_optimize.report.words import count

TOP = 3
MOST_ROWS = 16
# An arm far below would squeeze the others into a line; it gets an arrow and its number.
OFF_SCALE = 2.5


@dataclass(frozen=True, slots=True)
class Champion:
    """What the page is made of. `rows` are all arms in plan order; `margin` is a ratio; `gates` are (name, state, reason)."""

    title: str
    tier: str
    pick: str
    sentence: str
    caveat: str
    endpoint: str
    baseline: str
    margin: float
    rows: tuple[ChampionRow, ...]
    gates: tuple[tuple[str, str, str], ...]
    command: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def champion_page(c: Champion) -> ChampionPage:
    rows = shown_rows(c)
    edge = rounded(math.log1p(c.margin))
    gone = len(c.rows) - len(rows)
    left_out = f"{count(gone, 'more arm')}: in report.html and champion_select.json." if gone else ""
    return ChampionPage(
        title=c.title, tier=c.tier, pick=c.pick, sentence=minus(c.sentence), caveat=c.caveat, endpoint=c.endpoint,
        rows=tuple(map(_rounded, rows)), axis=ratio_axis(rows, edge), edge=edge, left_out=left_out, gates=c.gates,
        command=c.command, facts=c.facts,
    )  # fmt: skip


def shown_rows(c: Champion) -> list[ChampionRow]:
    """The baseline and its twin, then the best candidates of every engine, and the pick wherever it stands."""
    fixed = [r for r in c.rows if r.state in ("BASELINE", "PASSES", "VETO") or r.arm == c.baseline]
    rest = [r for r in c.rows if r not in fixed]
    best: list[ChampionRow] = []
    for engine in dict.fromkeys(r.engine for r in c.rows):
        mine = sorted((r for r in rest if r.engine == engine), key=_rank)
        best += mine[:TOP] + [r for r in mine[TOP:] if r.is_pick]
    return (fixed + best)[:MOST_ROWS]


def _rank(r: ChampionRow) -> tuple[bool, float, str]:
    return r.span is None, -(r.span[1] if r.span else 0.0), r.arm


def _rounded(r: ChampionRow) -> ChampionRow:
    span = None if r.span is None else (rounded(r.span[0]), rounded(r.span[1]), rounded(r.span[2]))
    return replace(r, effect=minus(r.effect), span=span, dots=tuple(map(rounded, r.dots)))


def ratio_axis(rows: Sequence[ChampionRow], edge: float) -> Axis:
    """Holds zero, the margin and every interval, save those of WORSE arms that would dwarf the rest."""
    spans = [(r.state, r.span) for r in rows if r.span]
    kept = [max(abs(s[0]), abs(s[2])) for state, s in spans if state != "WORSE"]
    limit = OFF_SCALE * max([4 * edge, 0.02, *kept])
    inside = [v for state, s in spans for v in (s[0], s[2]) if state != "WORSE" or abs(s[0]) <= limit]
    low, high = min([-2 * edge, *inside]), max([2 * edge, 0.004, *inside])
    pad = 0.08 * (high - low)
    return _axis(low - pad, high + pad)


def _axis(low: float, high: float) -> Axis:
    step, places = round_places(low, high, 6)
    ticks = tuple((rounded(v), _words(math.expm1(v)) if step else ratio_words(v)) for v in places)
    return Axis("against the baseline", rounded(low), rounded(high), False, ticks)


def _words(share: float) -> str:
    return "0%" if abs(share) < 1e-9 else f"{'+' if share > 0 else '−'}{tick_words(rounded(abs(100 * share)))}%"
