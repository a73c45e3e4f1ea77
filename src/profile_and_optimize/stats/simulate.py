"""Simulated campaigns with a known truth: what the false-verdict bench, the pooling table and the tests draw from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Truth:
    """`effects` are true log ratios against the baseline per arm (baseline first, 0), `sds` each arm's run-to-run sd of the log.

    `drift` is the sd of the random-walk step from one session to the next in time.
    """

    effects: tuple[float, ...]
    sds: tuple[float, ...]
    drift: float = 0.0


def draw(truth: Truth, blocks: int, campaigns: int, rng: np.random.Generator) -> np.ndarray:
    """y[campaign, block, arm]: log measures of campaigns whose sessions run in random order inside each block."""
    arms = len(truth.effects)
    y = rng.standard_normal((campaigns, blocks, arms)) * np.array(truth.sds) + np.array(truth.effects)
    if truth.drift:
        walk = np.cumsum(rng.standard_normal((campaigns, blocks * arms)) * truth.drift, axis=1).reshape(
            campaigns, blocks, arms
        )
        order = np.argsort(rng.random((campaigns, blocks, arms)), axis=2)
        y += np.take_along_axis(walk, order, axis=2)
    return y


def t_statistics(y: np.ndarray, margin_log: float = 0.0) -> np.ndarray:
    """t[campaign, arm-1] of every arm against arm 0 under the pooling rule of `stats.paired`, vectorised."""
    campaigns, n, a = y.shape
    d = y[:, :, 1:] - y[:, :, :1]
    own = d.var(axis=1, ddof=1)
    if a > 2:
        resid = y - y.mean(axis=1, keepdims=True) - y.mean(axis=2, keepdims=True) + y.mean(axis=(1, 2), keepdims=True)
        pooled = 2 * (resid**2).sum(axis=(1, 2)) / ((n - 1) * (a - 1))
        own = np.maximum(own, pooled[:, None])
    return (d.mean(axis=1) - margin_log) / np.sqrt(own / n)
