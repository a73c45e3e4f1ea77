"""What a campaign will cost, stated before it starts, and the number of blocks a budget buys. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.plan import MAX_ARMS_IN_BLOCK, Plan
from profile_and_optimize.stats.sequential import FIRST_LOOK, first_look

SAFE = 1.05
# As far as the looks are tabled; a plan for more would leave its early looks next to nothing to spend.
MOST = 12
# Rounds after the first hold few arms; together they cost about half of it.
RACE_SHARE = 1.5
# A few quiet A/A runs may show next to no noise by luck; a race that believed them would drop arms too soon.
LEAST_RACE_SD, MOST_RACE_SD = 0.005, 0.5


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one round (a block of every group), of the race before it, and of a campaign to a DRAFT and a VERDICT."""

    round_s: float
    sessions_per_round: int
    race_s: float = 0.0

    def of(self, blocks: int) -> float:
        return self.race_s + self.round_s * blocks

    def words(self, blocks: int) -> str:
        """`blocks` is the most the plan allows."""
        first = first_look(blocks)
        race = f"the race about {_minutes(self.race_s)}, then " if self.race_s else ""
        return (
            f"{race}one block {_minutes(self.round_s)} ({self.sessions_per_round} server starts); looks from block {first} on: a DRAFT "
            f"takes {first} blocks, {_minutes(self.of(first))}; a VERDICT between that and {blocks} blocks, {_minutes(self.of(blocks))}"
        )


def round_cost(plan: Plan, session_s: Mapping[str, float]) -> Cost:
    """From the measured seconds of one session per arm. Before a race nobody knows the finalists: the two costliest count."""
    if not plan.race_rounds or plan.raced:
        arms = [a for group in plan.groups for a in group]
        return Cost(SAFE * sum(session_s[a] for a in arms), len(arms))
    entrants = sorted((session_s[a.id] for a in plan.candidates), reverse=True)
    blocks = -(-len(entrants) // (MAX_ARMS_IN_BLOCK - 1))
    race = sum(entrants) + blocks * session_s[plan.baseline.id]
    fixed = [session_s[plan.baseline.id], *([session_s[plan.twin.id]] if plan.twin else [])]
    finalists = entrants[: MAX_ARMS_IN_BLOCK - len(fixed)]
    return Cost(SAFE * (sum(fixed) + sum(finalists)), len(fixed) + len(finalists), SAFE * RACE_SHARE * race)


def affordable_blocks(cost: Cost, budget_s: float) -> int:
    """Whole rounds that fit after the race; at least 3, because the first look is at block 3."""
    return max(FIRST_LOOK, min(MOST, int((budget_s - cost.race_s) // cost.round_s))) if cost.round_s > 0 else FIRST_LOOK


def seconds_per_session(plan: Plan, admissions: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Measured seconds of one session per arm, starts taken warm.

    The A/A arm is the baseline started a second time, so the two starts give what a filled compile cache saves;
    arms that took longer than that warm start are taken to save as much.
    """
    base = admissions[plan.baseline.id]
    warm = admissions[plan.twin.id]["start_s"] if plan.twin else base["start_s"]
    saved = max(0.0, base["start_s"] - warm)
    out = {}
    for arm in plan.arms:
        found = admissions[arm.id]
        probe = found["probe_s"] or base["probe_s"]
        start = max(min(found["start_s"], warm), found["start_s"] - saved)
        out[arm.id] = start + found["stop_s"] + sum(probe.values())
    return out


def freeze(
    draft: Plan,
    failed: Collection[str],
    admissions: Mapping[str, Mapping[str, Any]],
    node_sd: float | None,
    checkpoints: Mapping[str, Mapping[str, Any]],
) -> tuple[Plan, Cost]:
    """The plan that a draft becomes once every arm was admitted or has failed, and what its blocks cost.

    `node_sd`: the noise of one session as this node's earlier A/A arms showed it, which a race then expects.
    `checkpoints` are the kept records of what the arms serve in the model's place, by arm.
    """
    draft = replace(draft, arms=tuple(_digested(a, checkpoints) for a in draft.arms))
    alive = draft.less(frozenset(a.id for a in draft.arms if a.id in failed))
    cost = round_cost(alive, seconds_per_session(alive, admissions))
    # What admission took, not the wall clock since the folder was made: that may be yesterday.
    spent = sum(admissions[a.id]["total_s"] for a in alive.arms)
    blocks = draft.blocks if draft.blocks > 0 else affordable_blocks(cost, draft.budget_s - spent)
    race_sd = min(max(node_sd, LEAST_RACE_SD), MOST_RACE_SD) if node_sd else draft.race_sd
    return replace(alive, blocks=blocks, gap_limit_s=max(draft.gap_limit_s, 3 * cost.round_s), race_sd=race_sd), cost


def _digested(arm: Arm, checkpoints: Mapping[str, Mapping[str, Any]]) -> Arm:
    found = checkpoints.get(arm.id)
    return arm if found is None else replace(arm, checkpoint_digest=found["digest"])


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
