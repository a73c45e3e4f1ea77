"""What a campaign will cost, stated before it starts, and the number of blocks a budget buys. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profile_and_optimize.core.plan import Plan

SAFE = 1.05
DRAFT_BLOCKS = 3
VERDICT_BLOCKS = 8
MOST = 40


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one round (a block of every group), and of a campaign to a DRAFT and to a VERDICT."""

    round_s: float
    sessions_per_round: int

    def of(self, blocks: int) -> float:
        return self.round_s * blocks

    def words(self) -> str:
        return (
            f"one block {_minutes(self.round_s)} ({self.sessions_per_round} server starts); a DRAFT takes {DRAFT_BLOCKS} blocks, "
            f"{_minutes(self.of(DRAFT_BLOCKS))}; a VERDICT on small effects about {VERDICT_BLOCKS} blocks, "
            f"{_minutes(self.of(VERDICT_BLOCKS))}"
        )


def round_cost(plan: Plan, session_s: Mapping[str, float]) -> Cost:
    """From the measured seconds of one session per arm."""
    arms = [a for group in plan.groups for a in group]
    return Cost(SAFE * sum(session_s[a] for a in arms), len(arms))


def affordable_blocks(cost: Cost, budget_s: float) -> int:
    """Whole rounds that fit; at least 2, because a single block has no interval at all."""
    return max(2, min(MOST, int(budget_s // cost.round_s))) if cost.round_s > 0 else 2


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
