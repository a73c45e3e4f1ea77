"""Is there a steady state, and from which request on? MSER-5 on the TPOT of the requests, then a trend check.

MSER-5 (White, Cobb and Spratt 2000): means of batches of five, and the truncation that minimises the squared standard
error of the mean of what remains. It finds a start-up that ends. A drift that goes on only pushes it to the end of what
it may drop, hence the trend check on the rest, which comes first: a drift is no lack of requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profile_and_optimize.stats.distributions import t_ppf

STEADY_STATE = "steady"
NO_STEADY_STATE = "no steady state"
TOO_FEW = "too few to tell"
BATCH = 5
FEWEST = 20
TREND_LEVEL = 0.01
TREND_CHANGE = 0.05
RESOLUTION = 1e-6  # of the TPOT; what differs by less is rounding, and the earliest truncation of equals is taken


@dataclass(frozen=True, slots=True)
class Steady:
    """`drop` first requests, in order of issue, belong to the start-up. Where no end of it was seen, nothing is dropped.

    `reason` says with numbers why the `answer` is steady, no steady state, or too few to tell.
    """

    drop: int
    answer: str
    reason: str

    def __post_init__(self) -> None:
        if self.answer not in (STEADY_STATE, NO_STEADY_STATE, TOO_FEW) or self.drop < 0:
            raise ValueError(f"{self.answer!r} with {self.drop} requests dropped is not an answer about a steady state")

    def to_json(self) -> dict[str, Any]:
        return {"drop": self.drop, "answer": self.answer, "reason": self.reason}


def find_steady(tpots: Sequence[float] | np.ndarray) -> Steady:
    """Of the TPOT of every request in order of issue, in any unit; NaN for a request that has none."""
    series = np.asarray(tpots, dtype=np.float64)
    places = np.flatnonzero(~np.isnan(series))
    known = series[places]
    if len(known) < FEWEST:
        return Steady(0, TOO_FEW, f"{len(known)} requests with a TPOT, at least {FEWEST} are needed")
    batches = len(known) // BATCH
    cut = mser(known[: batches * BATCH].reshape(batches, BATCH).mean(axis=1))
    # At the end of what it may drop, it has seen no end of the start-up, and nothing says where to cut.
    at_end = cut == batches // 2
    drop = int(places[cut * BATCH]) if cut and not at_end else 0
    change, t, limit = trend(places[cut * BATCH :], known[cut * BATCH :])
    words = f"TPOT changes by {change:+.1%} over the last {len(known) - cut * BATCH} of {len(known)} requests"
    numbers = f"{words} (t {t:.1f}, limits {TREND_CHANGE:.0%} and t {limit:.1f})"
    if abs(change) > TREND_CHANGE and abs(t) > limit:
        return Steady(drop, NO_STEADY_STATE, numbers)
    if at_end:
        at = f"MSER-5 is smallest at the end of the first half ({cut * BATCH} of {len(known)} requests)"
        return Steady(0, TOO_FEW, f"{at}, so the start-up may reach beyond it")
    return Steady(drop, STEADY_STATE, numbers)


def mser(means: np.ndarray) -> int:
    """The number of batches to drop, of at most half: where the sum of squares of the rest over its count squared is least."""
    half = len(means) // 2
    rest = len(means) - np.arange(half + 1)
    shifted = means - means[-1]  # sums of squares of nearly equal numbers lose their digits
    sums, squares = (np.cumsum(x[::-1])[::-1][: half + 1] for x in (shifted, shifted**2))
    statistic = np.maximum(squares - sums**2 / rest, 0.0) / rest**2
    equal = statistic <= statistic.min() + (RESOLUTION * means.mean()) ** 2 / len(means)
    return int(np.argmax(equal))


def trend(places: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """(relative change over the window, t of the slope, two-sided limit of t at 1%) of a least-squares line."""
    x, y = places - places.mean(), values - values.mean()
    slope, df = float(x @ y) / float(x @ x), len(values) - 2
    limit = t_ppf(1 - TREND_LEVEL / 2, df)
    change = slope * float(places[-1] - places[0]) / float(values.mean())
    if not abs(change) > RESOLUTION:
        return 0.0, 0.0, limit
    error = math.sqrt(max(0.0, float(y @ y) - slope * float(x @ y)) / df / float(x @ x))
    return change, slope / error if error > 0 else math.copysign(math.inf, slope), limit


def common_drop(found: Iterable[Steady]) -> int:
    """One rule for all arms of a block: the largest start-up of any; 0 of none."""
    return max((s.drop for s in found), default=0)
