"""How far a quantile of a sample can be from the true one, by order statistics: no assumption on the distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profile_and_optimize.stats.distributions import binom_ppf


@dataclass(frozen=True, slots=True)
class QuantileInterval:
    """`low` and `high` in the unit of the sample; None where no observation bounds that side at this level."""

    low: float | None
    high: float | None
    level: float
    n: int


def quantile_interval(values: Sequence[float], q: float, level: float = 0.95) -> QuantileInterval:
    """Bounds that hold the true q-quantile with at least that probability, each side taking half of the error.

    The number of observations below the true quantile is Binomial(n, q): David and Nagaraja, Order Statistics, section 7.1.
    299 is the least n whose p99 has an upper bound at one-sided 95%, and 368 the least at the default here.
    """
    if not 0 < q < 1 or not 0 < level < 1:
        raise ValueError(f"quantile {q} and level {level} must lie between 0 and 1")
    ordered, n, tail = sorted(values), len(values), (1 - level) / 2
    if not n:
        return QuantileInterval(None, None, level, 0)
    # x(k) <= quantile has probability P(B >= k), and x(k) >= quantile P(B <= k - 1): the largest and smallest k that do.
    k_low, k_high = binom_ppf(tail, n, q), binom_ppf(1 - tail, n, q) + 1
    low = ordered[k_low - 1] if k_low >= 1 else None
    return QuantileInterval(low, ordered[k_high - 1] if k_high <= n else None, level, n)
