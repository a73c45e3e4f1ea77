"""Which arm runs when, and with which prompts: all of it follows from the plan's seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from profile_and_optimize.core.plan import MAX_ARMS_IN_BLOCK, Plan
from profile_and_optimize.core.trial import Stage, TrialKey


def session_order(plan: Plan, block: int, stage: Stage = Stage.CONFIRM) -> tuple[str, ...]:
    """The arms of one block in the order in which they run. Arms that failed are skipped by the caller, so the rest keep
    their places.

    Every kind of block walks through Williams squares (Williams 1949): whole squares hold each arm equally often at every
    place and after every other arm, so neither the first place of a block nor what ran before favours anyone. Within a square,
    places differ by at most one. The seed draws the square's letters and the order of its rows.
    """
    group = plan.group_of_block(block)
    name = "order" if stage is Stage.CONFIRM else f"order/{stage}"
    if plan.order == "shuffled":  # as plans of schema 1 were drawn
        shuffled = sorted(group)
        random.Random(f"{plan.seed}/{name}/{block}").shuffle(shuffled)
        return tuple(shuffled)
    kinds = len(plan.groups)
    turn, kind = (block - 1) // kinds, (block - 1) % kinds
    square, row = divmod(turn, rows_of(len(group)))
    return list(_square(group, f"{plan.seed}/{name}/{kind}/{square}"))[row]


def rows_of(arms: int) -> int:
    """Blocks of one whole square: as many as arms, or twice as many where their number is odd."""
    return arms if arms % 2 == 0 else 2 * arms


def _square(group: tuple[str, ...], seed: str) -> Iterator[tuple[str, ...]]:
    """The rows of a Williams square. Of an odd number of arms it is two Latin squares, the second the first one's mirror."""
    rng = random.Random(seed)
    letters, n = sorted(group), len(group)
    rng.shuffle(letters)
    # 0, n-1, 1, n-2, ...: its neighbours differ by every number from 1 to n-1 once (or, n odd, once forwards or backwards).
    first = [i // 2 if i % 2 == 0 else n - 1 - i // 2 for i in range(n)]
    for part in (first,) if n % 2 == 0 else (first, first[::-1]):
        rows = [tuple(letters[(place + shift) % n] for place in part) for shift in range(n)]
        rng.shuffle(rows)
        yield from rows


def prompt_seed(plan: Plan, key: TrialKey) -> str:
    """New in every block of every stage, at every point and in every re-run of an invalid trial."""
    return f"{plan.seed}/prompts/{key.stage}/{key.block}/{key.point}/{key.attempt}"


def most_race_blocks(plan: Plan) -> int:
    """As many blocks as the race of this plan can have: every candidate in every round."""
    entrants = len(plan.candidates) + len(plan.raced)
    return plan.race_rounds * -(-entrants // (MAX_ARMS_IN_BLOCK - 1))
