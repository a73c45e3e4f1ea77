"""Which arm runs when, and with which prompts: all of it follows from the plan's seed."""

from __future__ import annotations

import random

from profile_and_optimize.core.plan import MAX_ARMS_IN_BLOCK, Plan
from profile_and_optimize.core.trial import TrialKey


def session_order(plan: Plan, block: int) -> tuple[str, ...]:
    """The arms of one block in random order. Arms that failed are skipped by the caller, so the rest keep their places."""
    shuffled = sorted(plan.group_of_block(block))
    random.Random(f"{plan.seed}/order/{block}").shuffle(shuffled)
    return tuple(shuffled)


def prompt_seed(plan: Plan, key: TrialKey) -> str:
    """New in every block of either stage, at every point and in every re-run of an invalid trial."""
    return f"{plan.seed}/prompts/{key.stage}/{key.block}/{key.point}/{key.attempt}"


def most_race_blocks(plan: Plan) -> int:
    """As many blocks as the race of this plan can have: every candidate in every round."""
    entrants = len(plan.candidates) + len(plan.raced)
    return plan.race_rounds * -(-entrants // (MAX_ARMS_IN_BLOCK - 1))
