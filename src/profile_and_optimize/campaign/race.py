"""The race: many candidates in blocks of four with the baseline in each, losers leaving after every round.

Everything follows from the plan and the race's trials, so `replay` gives the runner its next block, the report its
story and verify the same finalists again. Races issue no call; no trial of theirs enters the confirmation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from profile_and_optimize.campaign.endpoint import primary_of
from profile_and_optimize.campaign.selection import Judged, first_usable, one_start_up
from profile_and_optimize.core.plan import MAX_ARMS_IN_BLOCK, Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.stats.race import Prior, Standing, posterior, standing


@dataclass(frozen=True, slots=True)
class Round:
    """Blocks of one round (number to arm ids, in the order drawn) and where the arms stood after it; None while it runs.
    `values` are what was measured in each block: the primary endpoint by arm, on the log scale."""

    number: int
    blocks: Mapping[int, tuple[str, ...]]
    standing: Standing | None
    values: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Race:
    """`next_block` is the first block that is not finished; None when the race is over and `finalists` stand."""

    rounds: tuple[Round, ...]
    next_block: int | None
    finalists: tuple[str, ...]

    def arms_of(self, block: int) -> tuple[str, ...]:
        return next((arms for r in self.rounds for b, arms in r.blocks.items() if b == block), ())

    @property
    def last(self) -> Standing | None:
        return next((r.standing for r in reversed(self.rounds) if r.standing), None)


def replay(plan: Plan, trials: Iterable[Judged], fell: Mapping[str, int], given_up: Mapping[int, str]) -> Race:
    """The race as the trials so far leave it. A block that was given up counts with the arms it has.

    `fell`: arms that failed for good, and the race block in which they did. Earlier rounds stay as they were drawn.
    """
    by_block: dict[int, list[Judged]] = {}
    for t in trials:
        if t.key.stage is Stage.RACE:
            by_block.setdefault(t.key.block, []).append(t)
    alive = tuple(a.id for a in plan.candidates)
    rounds: list[Round] = []
    values: list[dict[str, float]] = []
    first = 1
    for number in range(1, plan.race_rounds + 1):
        alive = tuple(a for a in alive if fell.get(a, first) >= first)
        blocks = dict(enumerate(_draw(plan, number, alive), start=first))
        for block, arms in blocks.items():
            standing_arms = tuple(a for a in arms if fell.get(a, block + 1) > block)
            row = _row(plan, by_block.get(block, []), standing_arms)
            if len(row) < len(standing_arms) and block not in given_up:
                return Race((*rounds, Round(number, blocks, None)), block, ())
            values.append(row)
        first += len(blocks)
        out = {a for a, block in fell.items() if block < first}
        now = _standing(plan, values, out, number)
        measured = dict(zip(blocks, values[len(values) - len(blocks) :], strict=True))
        rounds.append(Round(number, blocks, now, measured))
        if now is None:
            return Race(tuple(rounds), None, ())
        # Arms without a single value yet are neither good nor bad: they stay in.
        alive = tuple(a for a in alive if a in now.survivors or a not in now.estimates)
        if now.decided:
            break
    last = rounds[-1].standing if rounds else None
    return Race(tuple(rounds), None, last.finalists if last else ())


def _draw(plan: Plan, number: int, alive: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The arms of each block of a round, in random order, the baseline among them."""
    rng = random.Random(f"{plan.seed}/race/{number}")
    shuffled = sorted(alive)
    rng.shuffle(shuffled)
    room = MAX_ARMS_IN_BLOCK - 1
    for i in range(0, len(shuffled), room):
        arms = [plan.baseline.id, *shuffled[i : i + room]]
        rng.shuffle(arms)
        yield tuple(arms)


def _row(plan: Plan, members: list[Judged], arms: tuple[str, ...]) -> dict[str, float]:
    """The primary endpoint of every arm of a block that has all its points."""
    chosen = one_start_up(first_usable(plan, members))
    row = {}
    for arm in arms:
        points = chosen.get(arm, {})
        if all(p.key in points for p in plan.points):
            value = primary_of(plan, points)
            if value is not None:
                row[arm] = value
    return row


def _standing(plan: Plan, values: list[dict[str, float]], out: set[str], number: int) -> Standing | None:
    """None while no block holds the baseline and an arm that is still there."""
    rows = [{a: y for a, y in row.items() if a not in out} for row in values]
    rows = [row for row in rows if plan.baseline.id in row and len(row) > 1]
    if not rows:
        return None
    found = posterior(rows, plan.baseline.id, Prior(plan.race_sd))
    return standing(found, plan.baseline.id, math.log1p(plan.margin), plan.seed + number)
