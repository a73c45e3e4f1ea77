"""The test behind every call: paired log ratios over blocks, Student-t, Holm over arms.

Model: y[block, arm] = mu[arm] + beta[block] + error, so the difference of two arms inside a block is free of beta.
The variance of a difference is the larger of the arm's own sample variance and twice the residual mean square of
the whole block table (two-way layout without interaction: (A-1)(n-1) degrees of freedom). Pooling is worth a
factor of three at 3 blocks, but with arms of unequal noise the residual mean square underrates the noisy arm.
The reference distribution is therefore a Student-t whose degrees of freedom are tabled by simulation
(`pooling.json`, made by `bench/pooling_table.py`) as the smallest that keeps the stated error over arm
standard deviations up to threefold apart and random-walk drift inside the block.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.stats.distributions import t_isf, t_sf
from profile_and_optimize.stats.sequential import FIRST_LOOK, sign_flip_agrees, sign_flip_p

MOST_BLOCKS = 200
# Logs that differ by less are the same value, rounded in two ways.
SAME_VALUE = 1e-9


@dataclass(frozen=True, slots=True)
class Contrast:
    """An arm against the baseline over the blocks both are in: mean log ratio, its standard error, n and A.

    `differences` are the log ratios block by block. `se` is the larger of `own_se`, from their own sample variance, and
    `pooled_se`, from the residual mean square of all arms (0 with two arms, where there is nothing to pool), and at least
    what the metric's resolution leaves open (`floored_se`); infinite where the metric showed one value alone."""

    arm: str
    mean: float
    se: float
    blocks: int
    arms_in_block: int
    differences: tuple[float, ...] = ()
    own_se: float | None = None
    pooled_se: float | None = None

    @property
    def df(self) -> float:
        return effective_df(self.blocks, self.arms_in_block)

    def p_above(self, margin: float) -> float:
        """One-sided p-value of H0: the true log ratio is at most `margin`."""
        if not math.isfinite(self.se):
            return 1.0
        return t_sf((self.mean - margin) / self.se, self.df)

    def quantile(self, level: float) -> float:
        """Student-t at its degrees of freedom, exceeded with probability `level`."""
        return t_isf(level, self.df)

    def half_width(self, level: float) -> float:
        return self.quantile(level) * self.se


def step_of(values: Iterable[float]) -> float | None:
    """The smallest difference between two different values, as the metric's resolution shows itself; None when all are equal.

    Of a fine metric it is next to nothing. A coarse one (a client that rounds, a clock that ticks slowly) repeats its values.
    """
    ordered = np.sort(np.fromiter(values, float))
    gaps = np.diff(ordered)
    apart = gaps[gaps > SAME_VALUE]
    return float(apart.min()) if len(apart) else None


def floored_se(se: float, step: float | None, blocks: int) -> float:
    """A standard error of a mean difference is at least that of rounding both values to `step`: step / sqrt(6 n).

    Equal differences in all blocks would give 0, and with it certainty, which a coarse metric reaches by rounding alone.
    """
    return math.inf if step is None else max(se, step / math.sqrt(6 * blocks))


@cache
def _table() -> dict[str, dict[str, float]]:
    text = files("profile_and_optimize.stats").joinpath("pooling.json").read_text()
    return json.loads(text)["effective_df"]


def effective_df(blocks: int, arms: int) -> float:
    """Degrees of freedom of the pooled t, from the table; beyond it, those of the unpooled t, which are always safe."""
    if arms <= 2:
        return float(blocks - 1)
    return _table().get(str(arms), {}).get(str(blocks), float(blocks - 1))


def contrasts(table: Mapping[int, Mapping[str, float]], baseline: str) -> dict[str, Contrast]:
    """One contrast per arm from y[block][arm], a log measure where higher is better. Blocks lacking an arm are dropped whole.

    All blocks must hold the same arms (the campaign completes or excludes a block for all its arms).
    """
    blocks = sorted(table)
    arms = sorted(set().union(*(table[b] for b in blocks))) if blocks else []
    whole = [b for b in blocks if set(table[b]) == set(arms)]
    n = len(whole)
    if n < 2 or baseline not in arms:
        return {}
    y = np.array([[table[b][a] for a in arms] for b in whole])
    base = y[:, arms.index(baseline)]
    pooled, step = 2 * _residual_mean_square(y), step_of(y.ravel())
    return {a: _contrast(a, y[:, i] - base, pooled, step, len(arms)) for i, a in enumerate(arms) if a != baseline}


def _contrast(arm: str, d: np.ndarray, pooled: float, step: float | None, arms: int) -> Contrast:
    """From the arm's differences to the baseline; `pooled` is the variance of one by all arms of the blocks."""
    n = len(d)
    own_se, pooled_se = (math.sqrt(v / n) for v in (float(d.var(ddof=1)), pooled))
    se = floored_se(max(own_se, pooled_se), step, n)
    return Contrast(arm, float(d.mean()), se, n, arms, tuple(d.tolist()), own_se, pooled_se)


def _residual_mean_square(y: np.ndarray) -> float:
    n, a = y.shape
    if a <= 2:
        return 0.0
    resid = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    return float((resid**2).sum() / ((n - 1) * (a - 1)))


def holm_levels(p_values: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The one-sided level each arm is tested at: alpha/(K-j) in order of p, and no further after the first that fails."""
    levels: dict[str, float] = {}
    order = sorted(p_values, key=lambda a: (p_values[a], a))
    level, stopped = alpha / max(1, len(order)), False
    for j, arm in enumerate(order):
        if not stopped:
            level = alpha / (len(order) - j)
        levels[arm] = level
        stopped = stopped or p_values[arm] > level
    return levels


def calls(
    found: Mapping[str, Contrast],
    candidates: Sequence[str],
    *,
    alpha: float,
    margin: float,
    shares: Mapping[str, float] | None = None,
    won: Iterable[str] = (),
) -> dict[str, Effect]:
    """An Effect per candidate. `margin` is a ratio (0.01); BETTER needs the whole interval beyond log(1 + margin).

    `shares`: the part of each arm's level that this look may use (all of it where there is one look). `won` are arms
    called BETTER at an earlier look: their level has passed on to the others (Holm over looks: Ye et al. 2013, section 2).
    """
    edge = math.log1p(margin)
    share = {a: 1.0 if shares is None else shares.get(a, 0.0) for a in candidates}
    # Arms without a contrast stay in the count: dropping them after the fact would loosen the level of the rest.
    tested = {a: found[a].p_above(edge) / share[a] if a in found and share[a] > 0 else 1.0 for a in candidates}
    levels = holm_levels({**tested, **dict.fromkeys(won, 0.0)}, alpha)
    return {a: effect_of(found.get(a), a, levels[a] * share[a], edge, alpha, levels[a]) for a in candidates}


def single(found: Contrast | None, arm: str, *, alpha: float, margin: float) -> Effect:
    """One arm on its own at the level given: for the A/A arm and for descriptive endpoints."""
    return effect_of(found, arm, alpha, math.log1p(margin), alpha, alpha)


def effect_of(c: Contrast | None, arm: str, level: float, edge: float, alpha: float, stated: float) -> Effect:
    """The interval at `level` and its call; `stated` is the error a side over all looks.

    Without a contrast, or at a look without any level, there is no interval."""
    if c is None or level <= 0:
        why = "fewer than 2 blocks hold both this arm and the baseline"
        why = why if c is None else f"{c.blocks} blocks so far; the first look is after block {FIRST_LOOK}"
        return Effect(arm, None, None, None, level, c.blocks if c else 0, None, Call.UNKNOWN, why, 3, stated)
    if not math.isfinite(c.se):
        why = f"the metric showed one value alone in all {c.blocks} blocks, so its spread is unknown"
        return Effect(arm, None, None, None, level, c.blocks, 1.0, Call.UNKNOWN, why, None, stated)
    half = c.half_width(level)
    lower, upper = c.mean - half, c.mean + half
    call, reason = _call(lower, upper, edge)
    turned = c.differences if call is Call.BETTER else tuple(-d for d in c.differences)
    if call in (Call.BETTER, Call.WORSE) and not sign_flip_agrees(turned, edge, alpha):
        said = f"{call.value.lower()}, the sign-flip test does not (p {sign_flip_p(turned, edge):.3f}, needs {alpha:g})"
        call, reason = Call.UNKNOWN, f"the t-test gives {said}"
    needed = None if call is not Call.UNKNOWN else blocks_needed(c, level, edge)
    if call is Call.UNKNOWN:
        reason += f"; {_needed_words(needed)}"
    return Effect(arm, c.mean, lower, upper, level, c.blocks, c.p_above(edge), call, reason, needed, stated)


def _call(lower: float, upper: float, edge: float) -> tuple[Call, str]:
    if lower > edge:
        return Call.BETTER, "the whole interval lies above the margin"
    if upper < -edge:
        return Call.WORSE, "the whole interval lies below the margin"
    if -edge < lower and upper < edge:
        return Call.SAME, "the whole interval lies inside the margin"
    return Call.UNKNOWN, "the interval reaches across the margin"


def blocks_needed(c: Contrast, level: float, edge: float) -> int | None:
    """Blocks at which an effect and noise like the observed would be called in a plan that looks once; None beyond 200."""
    sd = c.se * math.sqrt(c.blocks)
    slack = abs(abs(c.mean) - edge)
    for n in range(c.blocks + 1, MOST_BLOCKS + 1):
        if t_isf(level, effective_df(n, c.arms_in_block)) * sd / math.sqrt(n) < slack:
            return n
    return None


def _needed_words(needed: int | None) -> str:
    return f"about {needed} blocks would tell" if needed else f"more than {MOST_BLOCKS} blocks would be needed"
