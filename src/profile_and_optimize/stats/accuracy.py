"""Accuracy with its interval, and the paired gate: is the arm's loss of right answers below a margin?"""

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


@dataclass(frozen=True, slots=True)
class PairedLoss:
    """Questions only the baseline got right (`lost`) or only the arm (`won`); `upper` bounds the net loss as a share: the
    bound of the share lost from above minus that of the share won from below."""

    lost: int
    won: int
    n: int
    upper: float
    most_lost: float
    least_won: float


def paired_loss(baseline: Sequence[bool], arm: Sequence[bool], *, level: float = 0.05) -> PairedLoss | None:
    """Upper one-sided confidence bound of the net loss (lost - won) / n on the same questions; None without pairs.

    The share of lost questions is bounded by Clopper-Pearson at half the level and that of won ones from below at the
    other half; their difference bounds the net loss by Bonferroni, exactly conservative at any n.
    """
    n = len(baseline)
    if n == 0 or n != len(arm):
        return None
    lost = sum(b and not a for b, a in zip(baseline, arm, strict=True))
    won = sum(a and not b for b, a in zip(baseline, arm, strict=True))
    most_lost = beta_ppf(1 - level / 2, lost + 1, n - lost) if lost < n else 1.0
    least_won = beta_ppf(level / 2, won, n - won + 1) if won else 0.0
    return PairedLoss(lost, won, n, most_lost - least_won, most_lost, least_won)
