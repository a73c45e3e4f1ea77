"""The pages of report.pdf as values: words, numbers and marks, all that a drawing needs and nothing of how it is drawn.

Every float is rounded to seven digits when it is made, so that pages from another processor have the same digest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from profile_and_optimize.core.names import digest_of

# Hues in the order in which they are handed out; a page that needs more is continued on another. UNKNOWN_HUE is gray.
HUES = 7
UNKNOWN_HUE = -1


def rounded(value: float) -> float:
    return float(f"{value:.7g}")


@dataclass(frozen=True, slots=True)
class Axis:
    """`ticks` are (value, text). `log`: positions go by the logarithm."""

    label: str
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """One point of a cell; intervals are None from a single block. `partial`: not every request of it completed."""

    x: float
    y: float
    x_span: tuple[float, float] | None
    y_span: tuple[float, float] | None
    label: str
    partial: bool


@dataclass(frozen=True, slots=True)
class Series:
    """One cell in one pane. `shape` is EP, TP or unknown; `fill` is full (no MTP), hollow (MTP) or half (unknown)."""

    cell: str
    hue: int
    shape: str
    fill: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Pane:
    """`lines`: the dots of a cell are joined; `bars`: intervals are drawn."""

    series: tuple[Series, ...]
    lines: bool
    bars: bool
    note: str


@dataclass(frozen=True, slots=True)
class PaneRow:
    """Two panes, each with its (x, y) axes."""

    head: str
    left: Pane
    right: Pane
    left_axes: tuple[Axis, Axis]
    right_axes: tuple[Axis, Axis]


@dataclass(frozen=True, slots=True)
class Legend:
    """`hues` are (hue, words); shapes and fills are listed only where the page holds them."""

    hues: tuple[tuple[int, str], ...]
    shapes: tuple[str, ...]
    fills: tuple[str, ...]
    partial: bool


@dataclass(frozen=True, slots=True)
class ScatterPage:
    title: str
    lines: tuple[str, ...]
    heads: tuple[str, str]
    rows: tuple[PaneRow, ...]
    legend: Legend
    note: str
    kind: str = "scatter"


@dataclass(frozen=True, slots=True)
class HeatCell:
    """`state` is "" for a measured cell, which has a `shade` from 0 (worst of its table) to 1 (best); otherwise the cell
    is gray and `text` says why. In a row of one cell, columns that are not that cell's are "elsewhere" and stay empty."""

    text: str
    sub: str
    shade: float | None
    state: str


@dataclass(frozen=True, slots=True)
class HeatTable:
    """`rows` are names, each with what stands small below it; none where the table to the left names them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    cells: tuple[tuple[HeatCell, ...], ...]


@dataclass(frozen=True, slots=True)
class HeatPage:
    """`pairs`: a row of two tables per load, or for all loads."""

    title: str
    lines: tuple[str, ...]
    pairs: tuple[tuple[HeatTable, ...], ...]
    note: str
    kind: str = "heat"


@dataclass(frozen=True, slots=True)
class ChampionRow:
    """One arm. `span` is (lower, estimate, upper) of its log ratio to the baseline, turned so that + is better."""

    engine: str
    arm: str
    state: str
    effect: str
    n: int
    what: str
    why: str
    span: tuple[float, float, float] | None
    dots: tuple[float, ...]
    is_pick: bool


@dataclass(frozen=True, slots=True)
class ChampionPage:
    """`axis` carries log ratios; `edge` is the margin on it. `left_out` says which arms stand elsewhere."""

    title: str
    tier: str
    pick: str
    sentence: str
    caveat: str
    endpoint: str
    rows: tuple[ChampionRow, ...]
    axis: Axis
    edge: float
    left_out: str
    gates: tuple[tuple[str, str, str], ...]
    command: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    kind: str = "champion"


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line: `style` is head, text or soft; a line of "" is a gap."""

    text: str
    style: str = "text"


@dataclass(frozen=True, slots=True)
class TextPage:
    title: str
    lines: tuple[Line, ...]
    kind: str = "completeness"


Page = ScatterPage | HeatPage | ChampionPage | TextPage


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stands on every page and in the file's own data. Times are Unix seconds; `window` is None without a trial."""

    campaign: str
    rendered: float
    window: tuple[float, float] | None
    evidence_root: str
    kicker: str
    verify: str
    overlay: str
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Omitted:
    page: str
    reason: str
    how: str


@dataclass(frozen=True)
class Report:
    """All pages. `cells` is how many cells the atlas has."""

    stamp: Stamp
    pages: tuple[Page, ...]
    omitted: tuple[Omitted, ...]
    coverage: str
    cells: int
    schema: int = field(default=1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @cached_property
    def digest(self) -> str:
        return digest_of(self.to_json())
