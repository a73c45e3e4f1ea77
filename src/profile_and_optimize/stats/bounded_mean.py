"""Is the mean of values in [-1, 1] below a margin? A p-value and bounds that keep their word at any n, ties and all.

Give the n observed values and one more, the worst that could be (+1), random weights that are uniform on the simplex
(Dirichlet with all parameters 1); p is the probability that the weighted mean reaches the margin. Gaffke (2005) and
Learned-Miller and Thomas (2019, arXiv:1905.06208) give it for bounded variables; for values 0 and 1 it is Clopper
and Pearson's exact test, and with nothing but zeros it is (1 - margin)^n. That it is never too small is proven for 0 and 1
and conjectured beyond; for -1, 0, 1 `bench/accuracy_gate.py` computes the error exactly over sizes and rates.

Values of unequal weight (clusters of questions) are tested as sum of w_j (v_j - margin): each summand, in units of the
largest weight, lies where that of a value of full weight lies, and the one more value has the largest weight.

The probability is that of a sum of gamma variables, sum of k_j (v_j - margin) G_j >= 0, and is computed without draws
from its Laplace transform along the vertical line through its saddle point, so that small ones keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from profile_and_optimize.stats.distributions import normal_ppf

WORST = 1.0
# The line may stand anywhere between 0 and the first pole; near its saddle point the integrand is smooth and short.
HALVINGS = 40
STEP, REACH = 0.04, 11.0
EVALUATIONS = 60
CLOSE = 1e-9


@dataclass(frozen=True)
class Values:
    """Distinct values in [-1, 1] and how often each was seen. Counts need not be whole: a sample scaled up to plan with.

    `weights` are shares of the largest weight that there can be, above 0 and up to 1; without any, all weigh the same."""

    values: tuple[float, ...]
    counts: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.values):
            raise ValueError("every value needs a weight, or none")
        if wrong := [w for w in self.weights if not 0 < w <= 1]:
            raise ValueError(f"weight {wrong[0]!r} must be above 0 and at most 1")
        if len(self.values) != len(self.counts) or any(c <= 0 for c in self.counts):
            raise ValueError("every value needs a count above zero")
        bad = [v for v in self.values if not -WORST <= v <= WORST]
        if bad:
            raise ValueError(f"{bad[0]!r} lies outside of [-1, 1]")

    @cached_property
    def n(self) -> float:
        return math.fsum(self.counts)

    @cached_property
    def each(self) -> tuple[float, ...]:
        """The weight of every value."""
        return self.weights or (1.0,) * len(self.values)

    @cached_property
    def weight(self) -> float:
        """Of all observations together; `n` where all weigh the same."""
        return math.fsum(w * c for w, c in zip(self.each, self.counts, strict=True))

    @cached_property
    def mean(self) -> float:
        terms = zip(self.values, self.each, self.counts, strict=True)
        return math.fsum(v * w * c for v, w, c in terms) / self.weight

    def mirrored(self) -> Values:
        return Values(tuple(-v for v in self.values), self.counts, self.weights)

    def scaled(self, factor: float) -> Values:
        """The same rates in another number of observations."""
        return Values(self.values, tuple(c * factor for c in self.counts), self.weights)


def values_of(observed: Sequence[float], weights: Sequence[float] = ()) -> Values:
    """Equal but for rounding counts as equal, so that the order of a sum does not make two values of one. Weights of 1 alone
    are none."""
    if all(w == 1 for w in weights):
        found, counts = np.unique(np.round(np.asarray(observed, float), 12), return_counts=True)
        return Values(tuple(found.tolist()), tuple(map(float, counts)))
    both = np.round(np.column_stack([np.asarray(observed, float), np.asarray(weights, float)]), 12)
    rows, counts = np.unique(both, axis=0, return_counts=True)
    return Values(tuple(rows[:, 0].tolist()), tuple(map(float, counts)), tuple(rows[:, 1].tolist()))


@lru_cache(maxsize=1 << 14)
def p_below(seen: Values, margin: float) -> float:
    """p-value of H0: the true mean is at least `margin`. 1 where nothing was seen, or nothing below the margin."""
    if margin >= WORST:
        return 1.0 if margin == WORST and all(v == WORST for v in seen.values) else 0.0
    weights = np.array([*seen.each, 1.0])
    return _reaches(weights * (np.array([*seen.values, WORST]) - margin), np.array([*seen.counts, 1.0]))


def p_above(seen: Values, margin: float) -> float:
    """p-value of H0: the true mean is at most `margin`."""
    return p_below(seen.mirrored(), -margin)


@lru_cache(maxsize=1 << 12)
def upper_bound(seen: Values, level: float) -> float:
    """The true mean lies above this with probability at most `level`: the margin whose p-value is `level`."""
    wanted = normal_ppf(level)
    low, high, at_low, at_high = min(seen.values), WORST, 8.0, -38.0
    side = 0
    # The secant on the normal scale, where the p-value is nearly straight; an end that stays twice is weighed down (Illinois).
    for turn in range(EVALUATIONS):
        share = (at_low - wanted) / (at_low - at_high) if turn else _first_guess(seen, wanted, low, high)
        middle = low + (high - low) * min(max(share, 1e-3), 1 - 1e-3)
        off = normal_ppf(min(max(p_below(seen, middle), 1e-300), 1 - 1e-15))
        if abs(off - wanted) < CLOSE or high - low < CLOSE:
            return middle
        if off > wanted:
            low, at_low, at_high = middle, off, (at_high + wanted) / 2 if side > 0 else at_high
            side = 1
        else:
            high, at_high, at_low = middle, off, (at_low + wanted) / 2 if side < 0 else at_low
            side = -1
    return high


def _first_guess(seen: Values, wanted: float, low: float, high: float) -> float:
    """Where a normal mean of the same spread, with one more value of the worst, would have it; as a share of the way."""
    squares = math.fsum((v * w) ** 2 * c for v, w, c in zip(seen.values, seen.each, seen.counts, strict=True)) + 1
    at = seen.mean + (1 - wanted * math.sqrt(squares)) / (seen.weight + 1)
    return (at - low) / (high - low) if high > low else 0.5


def lower_bound(seen: Values, level: float) -> float:
    return -upper_bound(seen.mirrored(), level)


def _reaches(c: np.ndarray, k: np.ndarray) -> float:
    """P(sum c_j Gamma(k_j) >= 0) = 1/(2 pi i) of the integral of exp(K(s))/s along Re s = saddle, K(s) = -sum k log(1 - c s)."""
    if c.min() >= 0:
        return 1.0
    below = float((c * k).sum()) < 0
    s = _saddle(c, k, c.max() if below else c.min())
    curved = float((k * c**2 / (1 - c * s) ** 2).sum()) + 1 / s**2
    top = -float((k * np.log1p(-c * s)).sum()) - math.log(abs(s))
    x = np.arange(0.0, REACH, STEP)
    y, weight = np.sinh(x) / math.sqrt(curved), np.cosh(x) / math.sqrt(curved)
    z = s + 1j * y
    log = -np.log(z / s) - math.log(abs(s)) - top
    for c_j, k_j in zip(c, k, strict=True):
        log -= k_j * np.log(1 - c_j * z)
    parts = np.exp(log).real * weight
    tail = math.exp(top) * STEP / math.pi * float(parts.sum() - parts[0] / 2)
    return min(max(tail if below else 1 - tail, 0.0), 1.0)


def _saddle(c: np.ndarray, k: np.ndarray, end: float) -> float:
    """Between 0 and 1/end, where the derivative of K(s) - log|s| changes its sign; that derivative grows throughout."""
    inner, outer = 1e-13 / end, (1 - 1e-13) / end
    low, high = min(inner, outer), max(inner, outer)
    for _ in range(HALVINGS):
        s = (low + high) / 2
        if float((k * c / (1 - c * s)).sum()) < 1 / s:
            low = s
        else:
            high = s
    return (low + high) / 2
