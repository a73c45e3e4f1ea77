"""The geometry of the forest plot: where each arm's interval lies on a common axis. No drawing here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from profile_and_optimize.report.arms import BASELINE, FAILED, ArmView

WIDTH, ROW, TOP, BOTTOM = 1080.0, 40.0, 30.0, 46.0
LEFT, RIGHT = 190.0, 760.0
# An arm far outside (a lost lever at -50%) would squeeze the others into a line; it gets an arrow and its number instead.
OFF_SCALE = 2.5
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_TENFOLD = math.log(10)
_WIDEST = 100.0  # a log ratio beyond which a share is no longer worked out


@dataclass(frozen=True)
class Tick:
    x: float
    text: str


@dataclass(frozen=True)
class Mark:
    """One row. Positions are None where there is nothing to draw; `clip` says that the interval leaves the axis."""

    arm: ArmView
    y: float
    name: str
    shape: str
    x: float | None
    x_low: float | None
    x_high: float | None
    clip: str
    predicted: tuple[float, float] | None
    dots: tuple[tuple[float, str], ...]
    note: str


@dataclass(frozen=True)
class Forest:
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    zero: float
    margin: tuple[float, float]
    margin_text: str
    ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Axis:
    """Log ratios from `low` to `high` onto LEFT..RIGHT."""

    low: float
    high: float

    def x(self, log_ratio: float) -> float:
        share = (min(self.high, max(self.low, log_ratio)) - self.low) / (self.high - self.low)
        return round(LEFT + share * (RIGHT - LEFT), 2)

    def holds(self, log_ratio: float) -> bool:
        return self.low <= log_ratio <= self.high


def forest(arms: Sequence[ArmView], margin: float) -> Forest:
    edge = math.log1p(margin)
    axis = axis_for(arms, edge)
    marks = tuple(_mark(a, i, axis) for i, a in enumerate(arms))
    bottom = TOP + ROW * len(arms)
    return Forest(
        WIDTH, bottom + BOTTOM, LEFT, RIGHT, TOP, bottom, axis.x(0.0), (axis.x(-edge), axis.x(edge)), f"±{100 * margin:g}%",
        ticks(axis), marks,
    )  # fmt: skip


def axis_for(arms: Sequence[ArmView], edge: float) -> Axis:
    """An axis that holds zero, the margin and every interval, save those of WORSE arms that would dwarf the rest."""
    spans = [(a, a.effect.lower, a.effect.upper) for a in arms if a.effect and a.state != FAILED]
    known = [(a.state, lo, hi) for a, lo, hi in spans if lo is not None and hi is not None]
    kept = [max(abs(lo), abs(hi)) for state, lo, hi in known if state != "WORSE"]
    limit = OFF_SCALE * max([4 * edge, *kept])
    inside = [v for state, lo, hi in known for v in (lo, hi) if state != "WORSE" or abs(lo) <= limit]
    # An arm of a single block has no interval, but its one difference was measured and is shown.
    inside += [
        b.log_ratio for a in arms if a.effect and a.effect.lower is None for b in a.paired if b.log_ratio >= -limit
    ]
    low, high = min([-2 * edge, *inside]), max([2 * edge, *inside])
    pad = 0.08 * (high - low) or 0.01
    return Axis(low - pad, high + pad)


def ticks(axis: Axis) -> tuple[Tick, ...]:
    """Round percentages, at most nine of them; of an axis too wide for these, round ratios."""
    step, places = round_places(axis.low, axis.high, 8)
    return tuple(Tick(axis.x(v), _tick_words(math.expm1(v), step) if step else ratio_words(v)) for v in places)


def round_places(low: float, high: float, most: int) -> tuple[float | None, tuple[float, ...]]:
    """(step, log ratios at whole multiples of it as a share), at most `most` + 1 of them.

    Two blocks of a loud machine give intervals that no step fits: then powers of ten, and the step is None.
    """
    if high < _WIDEST:
        least, top = math.expm1(low), math.expm1(high)
        step = next((s for s in STEPS if (top - least) / s <= most), None)
        if step is not None:
            whole = range(math.ceil(least / step), math.floor(top / step) + 1)
            return step, tuple(math.log1p(i * step) for i in whole if i * step > -1)
    every = math.ceil((high - low) / _TENFOLD / most)
    first, last = math.ceil(low / _TENFOLD / every), math.floor(high / _TENFOLD / every)
    return None, tuple(k * every * _TENFOLD for k in range(first, last + 1))


def ratio_words(log_ratio: float) -> str:
    """Of a power of ten."""
    power = round(log_ratio / _TENFOLD)
    return "0%" if power == 0 else f"×{10.0**power:g}" if abs(power) <= 4 else f"×1e{power}"


def _tick_words(share: float, step: float) -> str:
    return "0%" if abs(share) < step / 2 else f"{share:+.{1 if step < 0.01 else 0}%}"


def _mark(a: ArmView, i: int, axis: Axis) -> Mark:
    e = a.effect
    shown = e is not None and e.estimate is not None and a.state != FAILED
    low, mid, high = (e.lower, e.estimate, e.upper) if e is not None and shown else (None, None, None)
    clip = "" if low is None or high is None else _clip(low, high, axis)
    return Mark(
        arm=a, y=TOP + ROW * (i + 0.5), name=_short(a.id), shape=a.state, x=_at(axis, mid), x_low=_at(axis, low),
        x_high=_at(axis, high), clip=clip, predicted=_predicted(a, axis),
        dots=tuple((axis.x(b.log_ratio), f"block {b.block}: {b.text}") for b in a.paired if axis.holds(b.log_ratio)),
        note=_note(a, shown),
    )  # fmt: skip


def _at(axis: Axis, value: float | None) -> float | None:
    return None if value is None else axis.x(value)


def _clip(low: float, high: float, axis: Axis) -> str:
    return "left" if high < axis.low else "right" if low > axis.high else ""


def _predicted(a: ArmView, axis: Axis) -> tuple[float, float] | None:
    if a.predicted_range is None:
        return None
    low, high = (axis.x(math.log(v)) for v in a.predicted_range)
    return (low, high) if high > low else None


def _note(a: ArmView, shown: bool) -> str:
    """What stands in the plot in place of an interval."""
    if shown:
        return ""
    return "measured against itself: the 0% line" if a.state == BASELINE else _cut(a.reason, 84)


def _short(name: str) -> str:
    return _cut(name, 24)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
