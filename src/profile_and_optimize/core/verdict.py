"""What may be said of an arm, and how firmly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Call(StrEnum):
    BETTER = "BETTER"
    WORSE = "WORSE"
    SAME = "SAME"
    UNKNOWN = "UNKNOWN"


class Tier(StrEnum):
    DRAFT = "DRAFT"
    VERDICT = "VERDICT"


# The calls that fail a build, by the words of `--fail-if`.
FAIL_IF: dict[str, frozenset[Call]] = {
    "worse": frozenset({Call.WORSE}),
    "not-better": frozenset({Call.WORSE, Call.SAME, Call.UNKNOWN}),
    "unknown": frozenset({Call.UNKNOWN}),
}

# e to this power is still a number; beyond it there is none to write down.
MOST_LOG = 700.0


def ratio_minus_one(log_ratio: float) -> float:
    """exp(x) - 1, as documents hold ratios (0.05 is 5% better); a log ratio beyond 700 counts as 700."""
    return math.expm1(min(log_ratio, MOST_LOG))


@dataclass(frozen=True, slots=True)
class Effect:
    """An arm against the baseline on one endpoint, as a log ratio turned so that positive is better.

    `lower`..`upper` is the interval at one-sided error `level` on each side; all None when fewer than two
    blocks hold the pair. `stated` is the error a side over all looks of the campaign together, of which `level` is this
    look's part: what the interval can be trusted to, since the campaign stopped where it did by looking; None where there
    is one look. `blocks` is n. `p_value` is one-sided against the margin.
    """

    arm: str
    estimate: float | None
    lower: float | None
    upper: float | None
    level: float
    blocks: int
    p_value: float | None
    call: Call
    reason: str
    blocks_needed: int | None = None
    stated: float | None = None

    @property
    def error(self) -> float:
        """One-sided, over all looks."""
        return self.level if self.stated is None else self.stated

    def __post_init__(self) -> None:
        known = [v is not None for v in (self.estimate, self.lower, self.upper)]
        if any(known) and not all(known):
            raise ValueError(f"{self.arm}: an estimate comes with its interval or not at all")
        if self.call is not Call.UNKNOWN and not all(known):
            raise ValueError(f"{self.arm}: {self.call} without an interval")
