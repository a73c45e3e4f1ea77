"""The proof of a pick: the signs of fresh blocks, whatever their noise, and the t interval beside them. Pure.

In every block d is how far the pick lies above the margin. If the median of d is at most zero, each block is positive with
probability at most one half, for any noise that is independent from block to block. Then the product over blocks of
1 + .8 s (s = 1 above, -1 else) has a mean of at most one, and it ever reaches 100 with a probability of at most 1%, at
whatever block one stops (Ville 1939; Shafer 2021, "Testing by betting"). It reaches 100 first at 8 of 8 blocks, 11 of 12, 14 of 16
and 17 of 20, so 16 blocks use .68% of the error, and adding blocks afterwards uses the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from profile_and_optimize.stats.distributions import t_isf, t_sf
from profile_and_optimize.stats.paired import floored_se

WIN, LOSS = 1.8, 0.2
# Blocks at which the product reaches 100 first, with the fewest blocks above the margin that it takes.
TABLE = ((8, 8), (12, 11), (16, 14), (20, 17))


@dataclass(frozen=True, slots=True)
class Signs:
    """`wins` and `losses`: blocks above the margin, and not above it; `lost` of the losses were begun and not
    measured. `mean` and `lower`..`upper` are of the differences before the margin is taken off, as log ratios: a t
    interval at `level` a side; None below two blocks. `p_value` is that of the t test against the margin."""

    wins: int
    losses: int
    edge: float
    level: float
    mean: float | None
    lower: float | None
    upper: float | None
    p_value: float | None
    lost: int = 0

    @property
    def blocks(self) -> int:
        """Blocks that count, lost ones among them."""
        return self.wins + self.losses

    @property
    def measured(self) -> int:
        return self.blocks - self.lost

    @property
    def e_value(self) -> float:
        return e_value(self.wins, self.losses)

    @property
    def enough(self) -> float:
        """What the product has to reach: one over the error, 100 at 1%."""
        return 1 / self.level

    @property
    def by_signs(self) -> bool:
        return self.e_value >= self.enough

    @property
    def by_interval(self) -> bool:
        return self.lower is not None and self.lower > self.edge

    @property
    def proven(self) -> bool:
        """Signs and interval of the same blocks agree."""
        return self.by_signs and self.by_interval

    def within_reach(self, left: int) -> bool:
        """Could `left` further blocks, all above the margin, still prove it?"""
        return e_value(self.wins + left, self.losses) >= self.enough


def e_value(wins: int, losses: int) -> float:
    """What a gambler who bets .8 of the stake on every block has made of 1."""
    return float(WIN**wins * LOSS**losses)


def signs_of(differences: Sequence[float], edge: float, level: float, step: float | None, lost: int = 0) -> Signs:
    """From the log ratio of every block. A block that was begun and `lost` counts as not above the margin: otherwise
    whoever loses the bad ones would prove anything (the worst of nine lost makes .4% into 2%). `step` is the smallest
    difference that the metric shows (`paired.step_of`): a block is above the margin only when it is so by more than
    that; None (the metric showed one value alone) proves nothing."""
    wins = 0 if step is None else sum(d - edge > step for d in differences)
    losses = len(differences) - wins + lost
    n = len(differences)
    if n < 2:
        return Signs(wins, losses, edge, level, None, None, None, None, lost)
    middle, se = mean(differences), floored_se(stdev(differences) / math.sqrt(n), step, n)
    if not math.isfinite(se):
        return Signs(wins, losses, edge, level, middle, None, None, None, lost)
    half, p = t_isf(level, n - 1) * se, t_sf((middle - edge) / se, n - 1)
    return Signs(wins, losses, edge, level, middle, middle - half, middle + half, p, lost)


def most_useful(blocks: int) -> int:
    """The largest number of blocks of the table that fits into `blocks`; 0 below the first."""
    return max((n for n, _ in TABLE[:3] if n <= blocks), default=0)


def least_more(wins: int, losses: int, limit: int, level: float) -> int:
    """How many blocks beyond `limit` it takes at least, all that are still to come above the margin."""
    more = 0
    while e_value(wins + max(0, limit + more - wins - losses), losses) * level < 1:
        more += 1
    return more
