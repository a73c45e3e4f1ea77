"""Campaigns with a known truth, from exploration to the proof of the pick: what `false_verdicts.py` counts.

`Noise` says how sessions vary: by arm, by place in the block, from block to block. Orders are the product's own squares. The
proof is the product's rule, vectorised; `proofs_agree` holds it against `stats.proof` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import stats as st

from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.stats.paired import step_of
from profile_and_optimize.stats.proof import LOSS, WIN, signs_of
from simulated import ALPHA, BETTER, EDGE, agrees, campaign, plan_of

MOST = 16
SEEDS = 400
WORST = -float(np.log1p(0.03))
Extra = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Noise:
    """`effect` is the candidates' true log ratio; `sd` that of a session, times `base_sd` or `mine_sd` for an arm. `extra` is added
    to every session of a candidate. `first`: what the first session of a block is off. `ar`: a variant's level goes from block to
    block with this correlation. `step`: the metric is rounded to it. `lost`: so many blocks, the candidate's worst, vanish.
    `wrong`: would a VERDICT be wrong, that is, is the median session not beyond the margin? `held`: does the bar hold here?"""

    label: str
    effect: float = 0.0
    sd: float = 0.01
    base_sd: float = 1.0
    mine_sd: float = 1.0
    tails: float | None = None
    request: float = 0.0
    drift: float = 0.0
    extra: Extra | None = None
    first: float = 0.0
    ar: float = 0.0
    step: float = 0.0
    lost: int = 0
    wrong: bool = True
    held: bool = True


@dataclass(frozen=True)
class Speeds:
    """Sessions of two speeds: `high` in a share of them, else `low`."""

    low: float
    high: float
    share: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.where(rng.random(shape) < self.share, self.high, self.low)


@cache
def _orders(arms: int, blocks: int) -> np.ndarray:
    """[seed, block, place] -> arm, of so many seeds."""
    plan = plan_of(arms - 2, 8)
    names = plan.groups[0]
    return np.array([
        [[names.index(a) for a in session_order(replace(plan, seed=seed), b + 1, Stage.CONFIRM)] for b in range(blocks)]
        for seed in range(SEEDS)
    ])  # fmt: skip


def sessions(noise: Noise, mine: tuple[bool, ...], blocks: int, campaigns: int, rng: np.random.Generator) -> np.ndarray:
    """y[campaign, block, arm] of baseline, A/A arm and others; `mine` says which arms are the candidate's kind."""
    shape = (campaigns, blocks, len(mine))
    own = np.array(mine)
    sds = noise.sd * np.where(own, noise.mine_sd, noise.base_sd)
    y = _unit(noise.tails, shape, rng) * sds + np.where(own, noise.effect, 0.0)
    if noise.request:
        y += rng.standard_normal(shape) * noise.request
    if noise.extra is not None:
        y += np.where(own, noise.extra(rng, shape), 0.0)
    if noise.ar:
        y += _levels(noise, own, shape, rng)
    order = _orders(len(mine), blocks)[rng.integers(0, SEEDS, campaigns)]
    if noise.drift:
        walk = np.cumsum(rng.standard_normal((campaigns, blocks * len(mine))) * noise.drift, axis=1).reshape(shape)
        np.put_along_axis(at := np.empty(shape), order, walk, axis=2)
        y += at
    if noise.first:
        y += noise.first * (np.arange(len(mine)) == order[:, :, :1])
    return np.round(y / noise.step) * noise.step if noise.step else y


def _unit(tails: float | None, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape) if tails is None else rng.standard_t(tails, shape) / np.sqrt(tails / (tails - 2))


def _levels(noise: Noise, own: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A level of each variant that goes on from block to block; baseline and A/A arm share theirs, pick and twin theirs."""
    level = rng.standard_normal((shape[0], 2)) * noise.sd
    out = np.empty(shape)
    for b in range(shape[1]):
        out[:, b] = np.where(own, level[:, 1:], level[:, :1])
        level = noise.ar * level + np.sqrt(1 - noise.ar**2) * rng.standard_normal(level.shape) * noise.sd
    return out


@dataclass(frozen=True)
class Proven:
    """Per campaign: was the pick proven, over how many blocks, and did its worst block stay above the non-inferiority margin?"""

    proven: np.ndarray
    blocks: np.ndarray
    sound: np.ndarray


def prove(y: np.ndarray, limit: int, lost: int = 0, since: np.ndarray | None = None) -> Proven:
    """From y[campaign, block, (baseline, A/A, pick, twin)]. `lost` blocks count as not above; `since`: the block from which on a
    VERDICT may fall, where the exploration's call came later than the eighth."""
    d = y[:, :limit, 2:].mean(axis=2) - y[:, :limit, :2].mean(axis=2)
    flat = np.sort(y[:, :limit].reshape(len(y), -1), axis=1)
    gaps = np.diff(flat, axis=1)
    step = np.where(gaps > 1e-9, gaps, np.inf).min(axis=1)
    n = np.arange(1, limit + 1)
    wins = np.cumsum(d - EDGE > step[:, None], axis=1)
    losses = n - wins + lost
    mean = np.cumsum(d, axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        var = (np.cumsum(d**2, axis=1) - n * mean**2) / (n - 1)
        se = np.maximum(np.sqrt(np.maximum(var, 0.0) / n), step[:, None] / np.sqrt(6 * n))
        sure = mean - st.t.isf(ALPHA, n - 1) * se > EDGE
    proven = (WIN**wins * LOSS**losses >= 1 / ALPHA) & sure & (n >= 2)
    if since is not None:
        proven &= n >= since[:, None]
    over = WIN ** (wins + limit - n) * LOSS**losses < 1 / ALPHA
    over[:, : min(3, limit)] = False
    ends = np.where((proven | over).any(axis=1), (proven | over).argmax(axis=1), limit - 1)
    rows = np.arange(len(y))
    worst = np.minimum.accumulate(d, axis=1)[rows, ends]
    return Proven(proven[rows, ends], ends + 1, worst >= WORST)


def proofs_agree(y: np.ndarray, limit: int, found: Proven, count: int = 20) -> None:
    """The first campaigns once more by the product's own signs. Raises SystemExit naming the first that differs."""
    for i in range(min(count, len(y))):
        step = step_of(y[i, :limit].ravel())
        d = y[i, :, 2:].mean(axis=1) - y[i, :, :2].mean(axis=1)
        n = int(found.blocks[i])
        if signs_of(d[:n].tolist(), EDGE, ALPHA, step).proven != bool(found.proven[i]):
            raise SystemExit(f"campaign {i}: bench and product differ on a proof of {n} blocks")


@dataclass
class Row:
    """Of `campaigns`: wrong BETTER of the exploration, wrong VERDICT of the proof (`gated`: with the worst-block gate as well),
    proofs begun, and mean blocks of either part."""

    setting: str
    arms: str
    planned: int
    held: bool
    better: int
    wrong: int
    gated: int
    missed: int
    begun: int
    blocks: float
    proof_blocks: float
    campaigns: int

    def rate(self, name: str) -> float:
        return float(getattr(self, name)) / self.campaigns

    def upper(self, name: str) -> float:
        """Upper 95% bound of a rate, Clopper and Pearson (1934)."""
        k = getattr(self, name)
        return float(st.beta.ppf(0.95, k + 1, self.campaigns - k)) if k < self.campaigns else 1.0


def explored(job: tuple[Noise, int, int, int]) -> Row:
    """Baseline, A/A arm and two candidates of the same truth; the better one that was called is proven on fresh blocks."""
    noise, planned, campaigns, seed = job
    rng = np.random.default_rng(seed)
    y = sessions(noise, (False, False, True, True), planned + noise.lost, campaigns, rng)
    y = without_worst(y, noise.lost)
    found = campaign([y], planned)
    if not noise.step:
        agrees([y], planned, found, 6)
    missed = ((found.lower > noise.effect) | (found.upper < noise.effect)).any(axis=1)
    begun = (found.call == BETTER).any(axis=1)
    pick = sessions(noise, (False, False, True, True), MOST + noise.lost, int(begun.sum()), rng)
    proof = prove(without_worst(pick, noise.lost), MOST, noise.lost) if begun.any() else None
    return _row(
        noise, "3 to 4 arms, fresh blocks", planned, begun, proof, missed, float(found.blocks.mean()), campaigns
    )


def alone(job: tuple[Noise, int, int, int]) -> Row:
    """One candidate, whose blocks count from the first: its calls and its proof rest on the same blocks."""
    noise, planned, campaigns, seed = job
    y = sessions(noise, (False, False, True, True), MOST + noise.lost, campaigns, np.random.default_rng(seed))
    y = without_worst(y, noise.lost)
    found = campaign([y[:, :planned]], planned, silent=1)
    missed = ((found.lower > noise.effect) | (found.upper < noise.effect)).any(axis=1)
    begun = (found.call == BETTER).any(axis=1)
    since = found.blocks[begun, 0]
    proof = prove(y[begun], MOST, noise.lost, since) if begun.any() else None
    return _row(noise, "one candidate", planned, begun, proof, missed, float(found.blocks.mean()), campaigns)


def without_worst(y: np.ndarray, lost: int) -> np.ndarray:
    """Without the blocks in which the first candidate came out worst."""
    if not lost:
        return y
    d = y[:, :, 2] - y[:, :, 0]
    keep = np.sort(np.argsort(d, axis=1)[:, lost:], axis=1)
    return np.take_along_axis(y, keep[:, :, None], axis=1)


def _row(
    noise: Noise, arms: str, planned: int, begun: np.ndarray, proof: Proven | None, missed: np.ndarray, blocks: float, campaigns: int
) -> Row:  # fmt: skip
    wrong = int(proof.proven.sum()) if proof is not None and noise.wrong else 0
    gated = int((proof.proven & proof.sound).sum()) if proof is not None and noise.wrong else 0
    better = int(begun.sum()) if noise.wrong else 0
    ran = float(proof.blocks.mean()) if proof is not None else 0.0
    held = noise.held and noise.wrong
    return Row(
        noise.label,
        arms,
        planned,
        held,
        better,
        wrong,
        gated,
        int(missed.sum()),
        int(begun.sum()),
        blocks,
        ran,
        campaigns,
    )


@dataclass
class Power:
    """Of the proofs of a true gain: the share proven within 8, 12 and 16 blocks, and the mean number of blocks."""

    sd: float
    gain: float
    within: tuple[float, float, float]
    blocks: float


def power(job: tuple[float, float, int, int]) -> Power:
    sd, gain, campaigns, seed = job
    noise = Noise("", float(np.log1p(gain)), sd, drift=0.003)
    y = sessions(noise, (False, False, True, True), MOST, campaigns, np.random.default_rng(seed))
    found = prove(y, MOST)
    proofs_agree(y, MOST, found)
    within = tuple(float((found.proven & (found.blocks <= n)).mean()) for n in (8, 12, 16))
    return Power(sd, gain, (within[0], within[1], within[2]), float(found.blocks.mean()))
