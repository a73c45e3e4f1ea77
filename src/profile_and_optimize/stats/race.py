"""Racing: which few arms of many are worth confirming. Exploratory: it issues no call, and its data enter none.

Model: y[block, arm] = arm + block + error with flat priors on arms and blocks and a scaled inverse-chi-squared prior
on the error variance (`Prior`: sd of one session and the number of observations it is worth). The posterior of the
arm effects against the baseline is then a multivariate Student-t (Gelman et al., Bayesian Data Analysis, 3rd ed.,
section 14.2). The race ends when a set of at most `FINALISTS` arms, with the baseline, holds an arm within the margin
of the best with probability `ENOUGH`; until then the arms that may still be the best run on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FINALISTS = 3
# Two finalists share a block with baseline and A/A arm; the third needs a second kind of block, so it must be worth it.
CHEAP_FINALISTS = 2
ENOUGH = 0.98
MAY_BE_BEST = 0.005
DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Prior:
    """Noise of one session on the log scale before anything is seen, worth `df` observations."""

    sd: float = 0.02
    df: float = 4.0


@dataclass(frozen=True, slots=True)
class Posterior:
    """Student-t with `df` on the effects of `arms` against the baseline; `scale` is its scale matrix."""

    arms: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    df: float

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """effect[draw, arm]; column 0 is the baseline, always 0."""
        z = rng.standard_normal((count, len(self.arms))) @ np.linalg.cholesky(self.scale).T
        stretch = np.sqrt(self.df / rng.chisquare(self.df, (count, 1)))
        return np.concatenate([np.zeros((count, 1)), self.mean + z * stretch], axis=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """After a round: estimate (log ratio) and probability of being the best per arm, who is still in, and who would be
    confirmed. `decided` says that the finalists are enough, so that the race is over."""

    estimates: Mapping[str, float]
    p_best: Mapping[str, float]
    survivors: tuple[str, ...]
    finalists: tuple[str, ...]
    covered: float
    decided: bool


def posterior(blocks: Sequence[Mapping[str, float]], baseline: str, prior: Prior) -> Posterior:
    """From y[arm] of every race block; each holds the baseline. Least squares with block and arm effects."""
    arms = tuple(sorted({a for b in blocks for a in b} - {baseline}))
    rows = [(i, a, y) for i, b in enumerate(blocks) for a, y in sorted(b.items())]
    x = np.zeros((len(rows), len(arms) + len(blocks)))
    for k, (i, a, _) in enumerate(rows):
        x[k, len(arms) + i] = 1.0
        if a != baseline:
            x[k, arms.index(a)] = 1.0
    y = np.array([v for _, _, v in rows])
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ (x.T @ y)
    left = float(((y - x @ beta) ** 2).sum())
    df = prior.df + len(rows) - x.shape[1]
    s2 = (prior.df * prior.sd**2 + left) / df
    k = len(arms)
    return Posterior(arms, beta[:k], s2 * inverse[:k, :k], df)


def standing(found: Posterior, baseline: str, margin_log: float, seed: int) -> Standing:
    """Who may still be the best. The same seed gives the same answer, so that it can be derived again."""
    names = (baseline, *found.arms)
    effects = found.draws(DRAWS, np.random.default_rng(seed))
    best = effects.max(axis=1)
    p_best = np.bincount(effects.argmax(axis=1), minlength=len(names)) / DRAWS
    close = effects >= (best - margin_log)[:, None]
    finalists, covered = _finalists(names, close)
    alive = tuple(a for a, p in zip(names, p_best, strict=True) if p >= MAY_BE_BEST and a != baseline)
    return Standing(
        dict(zip(found.arms, found.mean.tolist(), strict=True)), dict(zip(names, p_best.tolist(), strict=True)),
        tuple(sorted(set(alive) | set(finalists))), finalists, covered,
        covered >= ENOUGH and len(finalists) <= CHEAP_FINALISTS,
    )  # fmt: skip


def _finalists(names: tuple[str, ...], close: np.ndarray) -> tuple[tuple[str, ...], float]:
    """Greedily the arms that, with the baseline, most often hold one within the margin of the best."""
    held, chosen = close[:, 0].copy(), list[str]()
    while len(chosen) < FINALISTS and held.mean() < ENOUGH:
        gain = [(float((close[:, i] & ~held).mean()), i) for i in range(1, len(names)) if names[i] not in chosen]
        if not gain or max(gain)[0] == 0:
            break
        i = max(gain)[1]
        chosen.append(names[i])
        held |= close[:, i]
    if not chosen:  # the baseline alone seems best: its nearest rival is confirmed against it, so that this is shown
        chosen.append(names[1 + int(close[:, 1:].mean(axis=0).argmax())])
    return tuple(chosen), float(held.mean())
