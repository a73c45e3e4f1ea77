"""Absolute figures of the baseline and a candidate, which stand beside the ratio: from the atlas rows, in printed units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.core.metrics import OUT_RATE, TPOT, TTFT, Metric
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.report.words import UNKNOWN, decimals_for, interval_words, number, plain

SHOWN = (OUT_RATE, TTFT, TPOT)
QUANTILE = "p50"
LABELS = {OUT_RATE.name: "output", TTFT.name: "TTFT p50", TPOT.name: "TPOT p50"}


@dataclass(frozen=True, slots=True)
class Absolute:
    """One metric of both sides at one point. `baseline` and `candidate` are atlas estimates over the whole blocks, with 95%
    intervals, in the metric's printed unit; the median of a latency. None: unknown."""

    metric: Metric
    baseline: Mapping[str, Any] | None
    candidate: Mapping[str, Any] | None
    point: str = ""

    @property
    def decimals(self) -> int:
        return decimals_for([e["estimate"] for e in (self.baseline, self.candidate) if e])

    @property
    def arrow(self) -> str:
        """ "370 -> 413 tok/s"; a side that is not known is named so."""
        sides = (e["estimate"] if e else None for e in (self.baseline, self.candidate))
        return f"{' -> '.join(number(v, self.decimals) for v in sides)} {self.metric.unit}"

    @property
    def words(self) -> tuple[str, str]:
        """Of baseline and candidate: "370 (361 to 380)"."""
        one, two = (_one(e, self.decimals) for e in (self.baseline, self.candidate))
        return one, two


def _one(estimate: Mapping[str, Any] | None, decimals: int) -> str:
    if estimate is None:
        return UNKNOWN
    value, interval = interval_words(estimate, decimals)
    return f"{value} ({interval})"


def absolutes(plan: Plan, rows: Sequence[Mapping[str, Any]], candidate: str) -> tuple[Absolute, ...]:
    """Throughput, TTFT and TPOT at every point of the plan, in the plan's order; `rows` are those of `analysis.atlas`."""
    by = {(r["cell"], r["workload"], r["concurrency"], r["request_rate"]): r["metrics"] for r in rows}
    found = []
    for p in plan.points:
        slots = p.concurrency if p.request_rate is None else None
        sides = [by.get((a, p.workload.name, slots, p.request_rate), {}) for a in (plan.baseline.id, candidate)]
        found += [Absolute(m, _estimate(sides[0], m), _estimate(sides[1], m), p.key) for m in SHOWN]
    return tuple(found)


def headline_figure(plan: Plan, found: Sequence[Absolute]) -> Absolute | None:
    """The absolute figures of the ratio that the campaign is judged by; None where it is a mean over metrics or points."""
    if len(plan.primary) != 1 or len(plan.points) != 1:
        return None
    return next((a for a in found if a.metric.name == plan.primary[0] and a.baseline and a.candidate), None)


def _estimate(metrics: Mapping[str, Any], m: Metric) -> Mapping[str, Any] | None:
    value: Mapping[str, Any] | None = metrics.get(m.printed)
    return value if m is OUT_RATE or value is None else value[QUANTILE]


def side_by_side(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, str, str], ...]:
    """(point, metric with its unit, baseline, candidate) as text, of a plan with one candidate; empty with several or none."""
    if len(plan.candidates) != 1:
        return ()
    found = absolutes(plan, rows, plan.candidates[0].id)
    return tuple((plain(f.point), f"{LABELS[f.metric.name]} {f.metric.unit}", *f.words) for f in found)
