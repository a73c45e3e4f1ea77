"""What a campaign will cost, stated before it starts, and the number of blocks a budget buys. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profile_and_optimize.core.plan import MAX_ARMS_IN_BLOCK, Plan
from profile_and_optimize.stats.sequential import FIRST_LOOK, first_look

SAFE = 1.05
MOST = 40
# Rounds after the first hold few arms; together they cost about half of it.
RACE_SHARE = 1.5


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


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
