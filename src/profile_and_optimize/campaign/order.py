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
    """The same for all arms of a block, new in the next; a re-run in the same session gets new prompts too."""
    return f"{plan.seed}/prompts/{block}/{point}/{attempt}"


def warmup_seed(plan: Plan, block: int, point: str, attempt: int) -> str:
    return prompt_seed(plan, block, point, attempt) + "/warm-up"
