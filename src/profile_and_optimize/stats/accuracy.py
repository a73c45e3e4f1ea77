"""Accuracy with its interval. The paired gate is `stats.noninferiority`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profile_and_optimize.stats.distributions import beta_ppf


@dataclass(frozen=True, slots=True)
class Score:
    """Share of right answers with its Clopper-Pearson 95% interval (Clopper and Pearson 1934)."""

    right: int
    n: int
    lower: float
    upper: float

    @property
    def share(self) -> float:
        return self.right / self.n


def score(right: Sequence[bool]) -> Score | None:
    """None when nothing was asked."""
    n, k = len(right), sum(right)
    if n == 0:
        return None
    lower = beta_ppf(0.025, k, n - k + 1) if k else 0.0
    upper = beta_ppf(0.975, k + 1, n - k) if k < n else 1.0
    return Score(k, n, lower, upper)
