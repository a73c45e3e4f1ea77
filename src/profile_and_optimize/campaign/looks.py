"""The looks of a campaign: after every round of blocks, what each arm may be called. Pure; running, deciding and
verifying all ask here, so that a campaign stops on the same answer that its report gives.

An arm's call is that of the first look that gave one, with the interval of that look; without one, it is the last
look's. The looks' levels are shared out by `stats.sequential`, over arms by Holm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from profile_and_optimize.campaign.endpoint import Table, metric_table, primary_table
from profile_and_optimize.campaign.selection import Selection
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.stats.paired import Contrast, calls, contrasts, effect_of, single
from profile_and_optimize.stats.sequential import share_of_look


@dataclass(frozen=True, slots=True)
class Step:
    """One look: the contrasts it saw, the share of its level that each arm could use, who had won before, and what it
    says of each arm by itself, were it the only one."""

    blocks: int
    contrasts: Mapping[str, Contrast]
    shares: Mapping[str, float]
    won: tuple[str, ...]
    alone: Mapping[str, Effect]


@dataclass(frozen=True, slots=True)
class Looks:
    """`effects` of the candidates, and of the pairs among them that are compared, as the looks so far leave them;
    `decided_at` the number of blocks at which a call fell. `steps` are the looks one by one."""

    effects: Mapping[str, Effect]
    decided_at: Mapping[str, int]
    steps: tuple[Step, ...] = ()

    def undecided(self, arms: Iterable[str]) -> tuple[str, ...]:
        return tuple(a for a in arms if a not in self.decided_at)


def looks(plan: Plan, selection: Selection) -> Looks:
    """Every look that the whole blocks allow, in order."""
    return looks_at(plan, [(group, seen(selection, primary_table(plan, selection, group))) for group in plan.groups])


def seen(selection: Selection, table: Table) -> Table:
    """The blocks that the looks see: of a campaign whose blocks count for a proof as well, the first ones."""
    return table if selection.looked is None else {b: table[b] for b in sorted(table)[: selection.looked]}


def looks_at(plan: Plan, tables: Sequence[tuple[tuple[str, ...], Table]]) -> Looks:
    """As `looks`, from the groups with their tables y[block][arm] of the primary endpoint."""
    # A contrast of two candidates is one more claim that could be wrong, so it is counted as one.
    pairs = {rival_name(a, b): (a, b) for a, b in plan.rivals}
    candidates = [*(a.id for a in plan.candidates), *pairs]
    effects = calls({}, candidates, alpha=plan.alpha, margin=plan.margin)
    decided: dict[str, int] = {}
    steps: list[Step] = []
    for n in range(1, max((len(t) for _, t in tables), default=0) + 1):
        found: dict[str, Contrast] = {}
        for group, table in tables:
            # A group that stopped earlier keeps the blocks it has: its arms' calls have fallen, or will not.
            first = {b: table[b] for b in sorted(table)[:n]}
            found |= {a: c for a, c in contrasts(first, plan.baseline.id).items() if a in group and a in candidates}
            found |= _between(first, {n: p for n, p in pairs.items() if set(p) <= set(group)})
        shares = {a: share_of_look(c.blocks, plan.blocks, c.arms_in_block) for a, c in found.items()}
        won = [a for a in decided if effects[a].call is Call.BETTER]
        fresh = calls(found, candidates, alpha=plan.alpha, margin=plan.margin, shares=shares, won=won)
        doubt = _doubt(plan, [{b: t[b] for b in sorted(t)[:n]} for _, t in tables if t])
        fresh = {a: _doubted(e, doubt) for a, e in fresh.items()}
        steps.append(Step(n, found, shares, tuple(won), fresh))
        for arm in candidates:
            if arm not in decided:
                effects[arm] = _joined(effects[arm], fresh[arm]) if n > plan.blocks else fresh[arm]
                if effects[arm].call is not Call.UNKNOWN:
                    decided[arm] = effects[arm].blocks
    return Looks(effects, decided, tuple(steps))


def pick_of(plan: Plan, effects: Mapping[str, Effect]) -> str:
    """The BETTER arm with the largest estimate; the incumbent when there is none. Among quantized checkpoints the vendor's
    is the incumbent: one of ours takes its place only when shown to be better than that one too. `effects` may hold those of
    rivals by `rival_name`."""
    arms = {a.id for a in plan.candidates}
    better = {a: e.estimate or 0.0 for a, e in effects.items() if e.call is Call.BETTER and a in arms}
    if not better:
        return plan.baseline.id
    best = max(better, key=lambda a: (better[a], a))
    if plan.vendor not in better or best == plan.vendor or not plan.arm(best).checkpoint:
        return best
    against = effects.get(rival_name(best, plan.vendor))
    return best if against is not None and against.call is Call.BETTER else plan.vendor


def rival_name(ours: str, theirs: str) -> str:
    """What the contrast of two candidates is called among the effects; no cell can have this id."""
    return f"{ours} over {theirs}"


def _between(table: Table, pairs: Mapping[str, tuple[str, str]]) -> dict[str, Contrast]:
    """The contrasts of candidates with each other, by name."""
    found = {name: contrasts(table, theirs).get(ours) for name, (ours, theirs) in pairs.items()}
    return {name: replace(c, arm=name) for name, c in found.items() if c is not None}


def _doubt(plan: Plan, tables: Sequence[Table]) -> str:
    """Why a look may call nobody BETTER: its own blocks show no A/A arm, or one that differs from the baseline; else "".

    Judged at the look: a disturbance that more blocks drown would let the call stand that it made.
    """
    if plan.twin is None:
        return "no A/A arm was run, and without one nothing is called BETTER"
    twins = [_twin(plan, t) for t in tables]
    if vetoed(twins):
        return "vetoed: the baseline differed from itself in the blocks of this look"
    return "" if all(e.lower is not None for e in twins) else "the A/A arm has no interval yet"


def _doubted(e: Effect, doubt: str) -> Effect:
    return replace(e, call=Call.UNKNOWN, reason=doubt, blocks_needed=None) if doubt and e.call is Call.BETTER else e


def _twin(plan: Plan, table: Table) -> Effect:
    assert plan.twin is not None
    found = contrasts(table, plan.baseline.id).get(plan.twin.id)
    return single(found, plan.twin.id, alpha=plan.alpha, margin=plan.margin)


def _joined(before: Effect, now: Effect) -> Effect:
    """Beyond the planned blocks the levels are small: the interval of the last planned look, which holds as well, may be
    the narrower one. All looks hold together, so the ends may be taken from either."""
    if now.call is not Call.UNKNOWN or before.lower is None or now.lower is None:
        return now
    if before.upper is None or now.upper is None or now.estimate is None:
        return now
    lower, upper = max(before.lower, now.lower), min(before.upper, now.upper)
    return replace(now, lower=lower, upper=upper) if lower <= now.estimate <= upper else now


def aa_effects(plan: Plan, selection: Selection) -> list[Effect]:
    """The baseline against itself in every group that has blocks."""
    if plan.twin is None:
        return []
    return [_twin(plan, primary_table(plan, selection, group)) for group in plan.groups]


def vetoed(effects: Iterable[Effect]) -> bool:
    """Did the baseline differ from itself?"""
    return any(e.lower is not None and e.upper is not None and not e.lower <= 0 <= e.upper for e in effects)


def workload_effects(plan: Plan, selection: Selection, arm: str) -> dict[tuple[str, str], Effect]:
    """The arm on each workload and focus metric against the non-inferiority margin, at the level of the look it is at."""
    group = next(g for g in plan.groups if arm in g)
    return {
        (point.key, metric): workload_effect(
            plan, seen(selection, metric_table(plan, selection, group, point.key, metric)), arm
        )
        for point in plan.points
        for metric in plan.primary
    }


def workload_effect(plan: Plan, table: Table, arm: str) -> Effect:
    """Beyond the planned blocks, the interval of the last planned look holds as well and may be the narrower one."""
    blocks = sorted(table)
    planned = _against_loss(plan, {b: table[b] for b in blocks[: plan.blocks]}, arm)
    return planned if len(blocks) <= plan.blocks else _joined(planned, _against_loss(plan, table, arm))


def _against_loss(plan: Plan, table: Table, arm: str) -> Effect:
    c = contrasts(table, plan.baseline.id).get(arm)
    share = share_of_look(c.blocks, plan.blocks, c.arms_in_block) if c else 1.0
    return effect_of(c, arm, plan.alpha * share, math.log1p(plan.non_inferiority), plan.alpha, plan.alpha)


def not_lost(plan: Plan, e: Effect) -> bool | None:
    """Is the arm at most the non-inferiority margin worse? None where it is not shown either way.

    The margin is that of the ratio turned down: 3% is a factor of 1/1.03.
    """
    return not_lost_between(plan, e.lower, e.upper)


def not_lost_between(plan: Plan, lower: float | None, upper: float | None) -> bool | None:
    """As `not_lost`, from the ends of an interval."""
    if lower is None or upper is None:
        return None
    edge = -math.log1p(plan.non_inferiority)
    return True if lower > edge else False if upper < edge else None


def wants_more(plan: Plan, selection: Selection, group: tuple[str, ...]) -> bool:
    """May another block of this group still change an answer, and is it within what was planned or added?"""
    have = len(selection.of_group(plan, group))
    if have >= (selection.limit if selection.looked is None else selection.looked):
        return False
    found = looks(plan, selection)
    mine = [a.id for a in plan.candidates if a.id in group and a.id not in selection.failed]
    mine += [rival_name(*p) for p in plan.rivals if set(p) <= {*mine}]
    if have == 0 or found.undecided(mine):
        return bool(mine)
    better = [a for a in mine if a in group and found.effects[a].call is Call.BETTER]
    if better and vetoed(aa_effects(plan, selection)):
        return have < plan.blocks
    unclear = [a for a in better if None in [not_lost(plan, e) for e in workload_effects(plan, selection, a).values()]]
    return bool(unclear) and have < plan.blocks
