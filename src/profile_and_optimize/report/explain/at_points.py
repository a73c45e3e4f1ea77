"""An arm against the baseline on one workload alone: what the gate "no workload lost" looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from profile_and_optimize.analysis.decide import percent
from profile_and_optimize.campaign.endpoint import metric_table
from profile_and_optimize.campaign.looks import not_lost, workload_effect
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.core.verdict import Effect
from profile_and_optimize.core.workload import Point
from profile_and_optimize.report.arms import ArmView
from profile_and_optimize.report.explain import paired
from profile_and_optimize.report.explain.effects import AA, of_pair
from profile_and_optimize.report.explain.number import Case, Number, Story
from profile_and_optimize.report.words import UNKNOWN
from profile_and_optimize.report.workloads import point_effects
from profile_and_optimize.stats.paired import contrasts
from profile_and_optimize.stats.sequential import share_of_look

LOST = {True: "not lost", False: "lost", None: "not shown either way"}


def numbers(case: Case) -> Iterator[Number]:
    """`effect.<arm>.<point>.<metric>` for every arm that the page shows one of."""
    for point in case.ev.plan.points:
        found = point_effects(case.ev, case.d, point.key)
        for arm in case.view.arms:
            if arm.role != Role.BASELINE.value and arm.cell_status not in ("failed", "raced"):
                for metric, e in zip(case.ev.plan.primary, found.get(arm.id, ()), strict=False):
                    yield from _family(case, arm, point, metric, e)


def _family(case: Case, arm: ArmView, point: Point, metric: str, e: Effect) -> Iterator[Number]:
    printed, start = METRICS[metric].printed, AA if arm.role == Role.AA.value else f"effect.{arm.id}"
    name, tell = f"{start}.{point.key}.{printed}", partial(partial, _story, case, arm, point, metric, e)
    what = f"{arm.id} at {point.key} alone"
    if e.estimate is None or e.lower is None or e.upper is None:
        yield Number(name, UNKNOWN, what, tell("estimate"))
        return
    yield Number(name, percent(e.estimate), what, tell("estimate"), (), (arm.id,))
    yield Number(f"{name}.lower", percent(e.lower), "its lower end", tell("lower"), (), (arm.id,))
    yield Number(f"{name}.upper", percent(e.upper), "its upper end", tell("upper"), (), (arm.id,))


def _story(case: Case, arm: ArmView, point: Point, metric: str, e: Effect, part: str) -> Story:
    plan = case.ev.plan
    group, y = _group(case, arm.id, point, metric, e)
    pair = paired.Pair(arm.id, plan.baseline.id, y, (point.key,), (metric,))
    refused = tuple(f"it may not be compared with {pair.base}: {x}" for x in case.d.mismatches.get(arm.id, ()))
    c = contrasts(y, pair.base).get(arm.id)
    if c is None or e.estimate is None:
        return Story((f"there is no number: {e.reason}", *refused), arms=(pair.arm, pair.base))
    share = share_of_look(c.blocks, plan.blocks, c.arms_in_block)
    meaning = "non-inferiority: the arm may lose less than this"
    test = paired.Tested(pair, c, e, plan.alpha, plan.non_inferiority, meaning, share=share)
    end = f"{LOST[not_lost(plan, e)]}: the edge of a loss is a ratio of 1 / (1 + {plan.non_inferiority:g})"
    tables = (paired.block_table(pair), paired.measured_table(pair, case.d.selection.blocks))
    return replace(
        of_pair(case, pair), formula=(*paired.formula(test, part), end, *refused), values=paired.values(test), tables=tables,
        see=(f"effect.{arm.id}", "gate.no-workload-lost"),
    )  # fmt: skip


def _group(
    case: Case, arm: str, point: Point, metric: str, e: Effect
) -> tuple[tuple[str, ...], dict[int, dict[str, float]]]:
    """The group of blocks that this effect was taken from, with its table; the A/A arm is in several."""
    plan, selection = case.ev.plan, case.d.selection
    mine = [(g, metric_table(plan, selection, g, point.key, metric)) for g in plan.groups if arm in g]
    return next(x for x in mine if workload_effect(plan, x[1], arm) == e)
