"""The numbers a decision rests on: the primary endpoint per block and arm, and every metric per point."""

from __future__ import annotations

import math
from collections.abc import Mapping

from profile_and_optimize.campaign.selection import Judged, Selection
from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.stats.paired import Contrast, contrasts

Table = dict[int, dict[str, float]]


def signed_log(metric_name: str, value: float | None) -> float | None:
    """log(value) turned so that more is better; None for an unknown or zero value."""
    if value is None or value <= 0:
        return None
    return math.log(value) if METRICS[metric_name].better == "higher" else -math.log(value)


def primary_of(plan: Plan, points: Mapping[str, Judged]) -> float | None:
    """Mean over the suite and the focus metrics of the signed logs: the log of a geometric mean. None if any is unknown."""
    logs = [signed_log(m, points[p.key].summary.value(m)) for p in plan.points for m in plan.primary]
    known = [v for v in logs if v is not None]
    return sum(known) / len(known) if known and len(known) == len(logs) else None


def primary_table(plan: Plan, selection: Selection, group: tuple[str, ...]) -> Table:
    """y[block][arm] of the primary endpoint over the whole blocks of one group; a block with an unknown value is left out."""
    table: Table = {}
    for block in selection.of_group(plan, group):
        row = {arm: primary_of(plan, points) for arm, points in selection.blocks[block].items()}
        known = {a: v for a, v in row.items() if v is not None}
        if len(known) == len(row):
            table[block] = known
    return table


def metric_table(plan: Plan, selection: Selection, group: tuple[str, ...], point: str, metric_name: str) -> Table:
    """As `primary_table`, for one metric at one point."""
    table: Table = {}
    for block in selection.of_group(plan, group):
        row = {
            a: signed_log(metric_name, p[point].summary.value(metric_name)) for a, p in selection.blocks[block].items()
        }
        known = {a: v for a, v in row.items() if v is not None}
        if len(known) == len(row):
            table[block] = known
    return table


def primary_contrasts(plan: Plan, selection: Selection) -> dict[str, Contrast]:
    """One contrast per arm. The A/A arm sits in every group; its contrast is over the group with the most blocks."""
    found: dict[str, Contrast] = {}
    for group in plan.groups:
        for arm, contrast in contrasts(primary_table(plan, selection, group), plan.baseline.id).items():
            if arm not in found or contrast.blocks > found[arm].blocks:
                found[arm] = contrast
    return found
