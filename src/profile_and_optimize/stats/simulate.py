"""Simulated campaigns with a known truth: what the false-verdict bench, the pooling table and the tests draw from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Truth:
    """`effects` are true log ratios against the baseline per arm (baseline first, 0), `sds` each arm's run-to-run sd of the log.

    `drift` is the sd of the random-walk step from one session to the next in time. `tails` is the degrees of freedom of
    a Student-t scaled to those sds (None is normal). `request_noise` is the sd a session's median has from its finite
    number of requests, added to the session's own.
    """

    effects: tuple[float, ...]
    sds: tuple[float, ...]
    drift: float = 0.0
    tails: float | None = None
    request_noise: float = 0.0


def draw(truth: Truth, blocks: int, campaigns: int, rng: np.random.Generator) -> np.ndarray:
    """y[campaign, block, arm]: log measures of campaigns whose sessions run in random order inside each block."""
    arms = len(truth.effects)
    y = _noise(truth.tails, (campaigns, blocks, arms), rng) * np.array(truth.sds) + np.array(truth.effects)
    if truth.request_noise:
        y += rng.standard_normal(y.shape) * truth.request_noise
    if truth.drift:
        walk = np.cumsum(rng.standard_normal((campaigns, blocks * arms)) * truth.drift, axis=1).reshape(
            campaigns, blocks, arms
        )
        order = np.argsort(rng.random((campaigns, blocks, arms)), axis=2)
        y += np.take_along_axis(walk, order, axis=2)
    return y


def _noise(tails: float | None, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Unit-variance noise: normal, or a Student-t divided by its own sd."""
    if tails is None:
        return rng.standard_normal(shape)
    return rng.standard_t(tails, shape) / math.sqrt(tails / (tails - 2))


def t_statistics(y: np.ndarray, margin_log: float = 0.0) -> np.ndarray:
    """t[campaign, arm-1] of every arm against arm 0 under the pooling rule of `stats.paired`, vectorised."""
    return t_at_looks(y, y.shape[1], margin_log)[:, -1]


def t_at_looks(y: np.ndarray, first: int, margin_log: float = 0.0) -> np.ndarray:
    """t[campaign, look, arm-1] after `first`, `first` + 1, ... blocks, from cumulative sums of squares."""
    _, blocks, a = y.shape
    looks = np.arange(first, blocks + 1)
    n = looks[None, :, None].astype(float)
    d = y[:, :, 1:] - y[:, :, :1]
    mean, own = _running(d, looks, n)
    if a > 2:
        # The residual sum of squares of the two-way table: that of the arms, less the share of the block means.
        e = y - y.mean(axis=2, keepdims=True)
        _, var = _running(e, looks, n)
        pooled = 2 * var.sum(axis=2, keepdims=True) / (a - 1)
        own = np.maximum(own, pooled)
    return (mean - margin_log) / np.sqrt(own / n)


def _running(x: np.ndarray, looks: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample variance over the first n blocks, centred on the first block to keep the digits."""
    shifted = x - x[:, :1]
    total = np.cumsum(shifted, axis=1)[:, looks - 1]
    square = np.cumsum(shifted**2, axis=1)[:, looks - 1]
    mean = total / n
    return mean + x[:, :1], (square - n * mean**2) / (n - 1)
