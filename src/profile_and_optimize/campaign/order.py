"""Which arm runs when, and with which prompts: all of it follows from the plan's seed."""

from __future__ import annotations

import random

from profile_and_optimize.core.plan import Plan


def session_order(plan: Plan, block: int) -> tuple[str, ...]:
    """The arms of one block in random order. Arms that failed are skipped by the caller, so the rest keep their places."""
    shuffled = sorted(plan.group_of_block(block))
    random.Random(f"{plan.seed}/order/{block}").shuffle(shuffled)
    return tuple(shuffled)


def prompt_seed(plan: Plan, block: int, point: str, attempt: int) -> str:
    """New in every block, at every point and in every re-run of an invalid trial."""
    return f"{plan.seed}/prompts/{block}/{point}/{attempt}"
