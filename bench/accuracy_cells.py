"""The gate's p-values for many gates at once, and the error of a gate over single 0/1 answers without any simulation.

Written apart from `stats/bounded_mean.py`, which does one sample at a time; `agree` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

from profile_and_optimize.stats.bounded_mean import Values, p_below
from profile_and_optimize.stats.noninferiority import ALPHA, looks, questions_for, share_of_look

NODES = np.arange(0.0, 9.05, 0.05)
AT_ONCE = 20_000
SIGNS = np.array([1.0, -1.0, 0.0])


def p_many(values: np.ndarray, counts: np.ndarray, margin: float, weights: np.ndarray | None = None) -> np.ndarray:
    """`p_below` of every row of counts[cell, value]; `weights` of the values are shares of the largest."""
    each = np.ones(len(values)) if weights is None else weights
    parts = [_p(values, counts[i : i + AT_ONCE], margin, each) for i in range(0, len(counts), AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _p(values: np.ndarray, counts: np.ndarray, margin: float, weights: np.ndarray) -> np.ndarray:
    c = np.append(weights, 1.0) * (np.append(values, 1.0) - margin)
    k = np.column_stack([counts, np.ones(len(counts))]).astype(float)
    below = k @ c < 0
    inner, outer = np.where(below, 1e-13 / c.max(), 1e-13 / c.min()), np.where(below, 1 / c.max(), 1 / c.min())
    outer = outer * (1 - 1e-13)
    low, high = np.minimum(inner, outer), np.maximum(inner, outer)
    for _ in range(80):
        s = (low + high) / 2
        falls = (k * c / (1 - np.outer(s, c))).sum(1) < 1 / s
        low, high = np.where(falls, s, low), np.where(falls, high, s)
    s = (low + high) / 2
    scale = 1 / np.sqrt((k * c**2 / (1 - np.outer(s, c)) ** 2).sum(1) + 1 / s**2)
    top = -(k * np.log1p(-np.outer(s, c))).sum(1) - np.log(np.abs(s))
    z = s[:, None] + 1j * scale[:, None] * np.sinh(NODES)
    log = -np.log(z / s[:, None]) - (np.log(np.abs(s)) + top)[:, None]
    for j, c_j in enumerate(c):
        log -= k[:, j, None] * np.log(1 - c_j * z)
    parts = np.exp(log).real * scale[:, None] * np.cosh(NODES)
    tail = np.exp(top) * (parts.sum(1) - parts[:, 0] / 2) * (NODES[1] - NODES[0]) / np.pi
    return np.clip(np.where(below, tail, 1 - tail), 0.0, 1.0)


def agree(cells: int, rng: np.random.Generator) -> float:
    """The largest relative difference to the library over random cells whose p matters."""
    n = rng.integers(20, 15_000, cells)
    won, flips = rng.binomial(n, rng.uniform(0, 0.1, cells)), rng.uniform(-2.5, 1.0, cells)
    lost = np.clip(np.round(won + 0.01 * n + flips * np.sqrt(2 * won + 0.01 * n)), 0, n - won)
    counts = np.column_stack([lost, won, n - lost - won])
    ours = p_many(SIGNS, counts, 0.01)
    pairs = [[(v, k) for v, k in zip(SIGNS.tolist(), row, strict=True) if k > 0] for row in counts.tolist()]
    theirs = np.array([p_below(Values(*map(tuple, zip(*p, strict=True))), 0.01) for p in pairs])
    kept = (theirs > 1e-9) & (theirs < 0.99)
    return float(np.abs(ours / theirs - 1)[kept].max())


@dataclass(frozen=True)
class Edges:
    """Per look and number of won questions: the most lost ones with which it passes (-1: none), the least with which it fails."""

    planned: int
    at: tuple[int, ...]
    most: np.ndarray
    least: np.ndarray


@cache
def edges(planned: int, margin: float, most_won: int, alpha: float = ALPHA) -> Edges:
    """For one task, up to this many won questions."""
    at = looks(planned)
    most = [_most(n, margin, most_won, alpha * share_of_look("pass", i, alpha)) for i, n in enumerate(at, start=1)]
    least = [_least(n, margin, most_won, alpha * share_of_look("harm", i, alpha)) for i, n in enumerate(at, start=1)]
    return Edges(planned, at, np.array(most), np.array(least))


def _most(n: int, margin: float, most_won: int, level: float) -> np.ndarray:
    won = np.arange(most_won + 1)
    low, high = np.full(most_won + 1, -1), np.clip(won + int(n * margin) + 2, 0, np.maximum(n - won + 1, 0))
    return _between(low, high, won, n, lambda k: p_many(SIGNS, k, margin) <= level)


def _least(n: int, margin: float, most_won: int, level: float) -> np.ndarray:
    won = np.arange(most_won + 1)
    low = np.full(most_won + 1, -1)
    high = np.maximum(n - won + 1, 0)
    fails = lambda k: p_many(-SIGNS, k, -margin) > level  # noqa: E731
    return _between(low, high, won, n, fails) + 1


def _between(low: np.ndarray, high: np.ndarray, won: np.ndarray, n: int, holds: object) -> np.ndarray:
    """The largest number of lost questions of which `holds` is true; it is true of few and false of many."""
    while (open_ := high - low > 1).any():
        middle = (low + high) // 2
        lost, w = middle[open_], won[open_]
        ok = np.zeros(len(low), bool)
        ok[open_] = holds(np.column_stack([lost, w, n - lost - w]))  # type: ignore[operator]
        low, high = np.where(open_ & ok, middle, low), np.where(open_ & ~ok, middle, high)
    return low


@dataclass(frozen=True)
class Exact:
    """Probabilities of the calls and mean questions asked."""

    passed: float
    failed: float
    mean_n: float


def exact(planned: int, margin: float, flips: float, loss: float) -> Exact:
    """Of independent questions, of which (flips + loss)/2 are lost and (flips - loss)/2 won."""
    lost, won = (flips + loss) / 2, (flips - loss) / 2
    across, down = _reach(planned, won), _reach(planned, lost)
    e = edges(planned, margin, wide(planned, across))
    alive = np.zeros((down + 1, across + 1))
    alive[0, 0] = 1.0
    passed = failed = mean_n = 0.0
    before = 0
    rows = np.arange(down + 1)[:, None]
    for look, n in enumerate(e.at):
        alive = np.maximum(fftconvolve(alive, _step(n - before, lost, won))[: down + 1, : across + 1], 0.0)
        passes = rows <= e.most[look][None, : across + 1]
        fails = (rows >= e.least[look][None, : across + 1]) & ~passes
        p, f = float(alive[passes].sum()), float(alive[fails].sum())
        passed, failed, mean_n = passed + p, failed + f, mean_n + (p + f) * n
        alive = np.where(passes | fails, 0.0, alive)
        before = n
    return Exact(passed, failed, mean_n + float(alive.sum()) * planned)


def wide(planned: int, most: int) -> int:
    """Won questions to have the edges of: a round number, so that few tables are made."""
    step = max(64, planned // 16)
    return min(planned, -(-(most + 1) // step) * step)


def at_once(n: int, margin: float, flips: float, loss: float, alpha: float = ALPHA) -> float:
    """Probability to pass of the fixed design: the same test with all of alpha, looked at once."""
    lost, won = (flips + loss) / 2, (flips - loss) / 2
    w = np.arange(_reach(n, won) + 1)
    most = _most(n, margin, len(w) - 1, alpha)
    return float((binom.pmf(w, n, won) * binom.cdf(most, n - w, lost / (1 - won)))[most >= 0].sum())


def _reach(n: int, rate: float) -> int:
    return min(n, int(n * rate + 8 * np.sqrt(n * rate) + 14)) if rate > 0 else 0


def _step(n: int, lost: float, won: float) -> np.ndarray:
    """P(l lost and w won among n) for l, w up to where nothing is left."""
    w = np.arange(_reach(n, won) + 1)
    down = np.arange(_reach(n, lost) + 1)
    return binom.pmf(w, n, won)[None, :] * binom.pmf(down[:, None], n - w[None, :], lost / (1 - won))


def fixed_n(margin: float, flips: float, power: float = 0.9) -> int:
    """Questions of the fixed design that passes with this probability when nothing is lost."""
    guess = questions_for(flips, 0.0, margin) or 0
    low, high = int(0.7 * guess), int(1.2 * guess)
    while high - low > max(1, guess // 500):
        middle = (low + high) // 2
        low, high = (low, middle) if at_once(middle, margin, flips, 0.0) >= power else (middle, high)
    return high
