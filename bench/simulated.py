"""Whole simulated campaigns, many at once: the product's looks, Holm, sign flips, veto and stopping, vectorised.

`agrees` walks some of the same campaigns through `campaign.looks` itself, so that the fast copy cannot drift from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats as st

from profile_and_optimize.campaign.looks import looks_at
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import MAX_ARMS_IN_BLOCK, Plan
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.stats.paired import SAME_VALUE, effective_df
from profile_and_optimize.stats.race import Prior, posterior, standing
from profile_and_optimize.stats.sequential import SIGN_FLIP_FROM, first_look, share_of_look

ALPHA, MARGIN = 0.01, 0.01
EDGE = float(np.log1p(MARGIN))
NONE, BETTER, WORSE, SAME = 0, 1, 2, 3
CODE = {Call.UNKNOWN: NONE, Call.BETTER: BETTER, Call.WORSE: WORSE, Call.SAME: SAME}


@dataclass(frozen=True)
class Outcome:
    """Per campaign (rows) and candidate: call, interval of that call; per campaign: blocks of each group, veto."""

    call: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    estimate: np.ndarray
    blocks: np.ndarray
    vetoed: np.ndarray


@dataclass(frozen=True)
class Statistics:
    """mean, se and df of every candidate of one group after n blocks, and its A/A arm's; the differences so far."""

    mean: np.ndarray
    se: np.ndarray
    df: float
    share: float
    twin_off: np.ndarray
    differences: np.ndarray


def statistics(y: np.ndarray, n: int, planned: int) -> Statistics:
    """From y[campaign, block, arm] (baseline, A/A, candidates...) after the first n blocks."""
    y = y[:, :n]
    arms = y.shape[2]
    d = y[:, :, 1:] - y[:, :, :1]
    resid = y - y.mean(axis=1, keepdims=True) - y.mean(axis=2, keepdims=True) + y.mean(axis=(1, 2), keepdims=True)
    pooled = 2 * (resid**2).sum(axis=(1, 2)) / ((n - 1) * (arms - 1))
    gaps = np.diff(np.sort(y.reshape(len(y), -1), axis=1), axis=1)
    step = np.where(gaps > SAME_VALUE, gaps, np.inf).min(axis=1)
    se = np.maximum(np.sqrt(np.maximum(d.var(axis=1, ddof=1), pooled[:, None]) / n), step[:, None] / np.sqrt(6 * n))
    mean, df = d.mean(axis=1), effective_df(n, arms)
    off = np.abs(mean[:, 0]) > st.t.isf(ALPHA, df) * se[:, 0]
    return Statistics(mean[:, 1:], se[:, 1:], df, share_of_look(n, planned, arms), off, d[:, :, 1:])


def _flipped(fresh: np.ndarray, call: np.ndarray, rows: np.ndarray, cols: slice, d: np.ndarray) -> None:
    """Takes back fresh calls that the sign-flip test does not share; only those are put to it, since it is slow."""
    for k in range(d.shape[2]):
        for code, sign in ((BETTER, 1), (WORSE, -1)):
            asked = (fresh[rows, cols.start + k] == code) & (call[rows, cols.start + k] == NONE)
            if asked.any():
                agree = flips_agree(sign * d[asked][:, :, k : k + 1], EDGE)[:, 0]
                fresh[rows[asked][~agree], cols.start + k] = NONE


def flips_agree(differences: np.ndarray, edge: float) -> np.ndarray:
    """[campaign, candidate]: does the sign-flip test at the campaign's error agree that the differences exceed the edge?"""
    n = differences.shape[1]
    if n < SIGN_FLIP_FROM:
        return np.ones(differences.shape[::2], bool)
    signs = 1 - 2 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    x = differences - edge
    sums = np.einsum("sn,cnk->csk", signs, x)
    slack = 1e-9 * np.abs(x).sum(axis=1)
    return (sums >= (x.sum(axis=1) - slack)[:, None]).mean(axis=1) <= ALPHA * (1 + 1e-9)


def campaign(groups: list[np.ndarray], planned: int, silent: int = 0) -> Outcome:
    """Every campaign of `groups` (y[campaign, block, arm] each) run with looks until answered or out of blocks. The last
    `silent` arms of a block are no candidates: they are the pick's twin."""
    size = len(groups[0])
    widths = [g.shape[2] - 2 - silent for g in groups]
    total = sum(widths)
    call, vetoed = np.zeros((size, total), int), np.zeros(size, bool)
    bounds = [np.full((size, total), np.nan) for _ in range(3)]
    blocks = np.zeros((size, len(groups)), int)
    open_group = np.ones((size, len(groups)), bool)
    for n in range(1, planned + 1):
        blocks[open_group] = n
        if n < first_look(planned):
            continue
        vetoed[:] = False
        q = np.full((size, total), 1.0)
        mean, se = np.zeros((size, total)), np.ones((size, total))
        share, df = np.zeros((size, total)), np.ones((size, total))
        differences: list[tuple[np.ndarray, slice, np.ndarray]] = []
        at = 0
        for gi, y in enumerate(groups):
            cols = slice(at, at + widths[gi])
            at += widths[gi]
            for m in np.unique(blocks[:, gi]):
                rows = blocks[:, gi] == m
                s = statistics(y[rows], m, planned)
                mean[rows, cols], se[rows, cols] = s.mean[:, : widths[gi]], s.se[:, : widths[gi]]
                share[rows, cols], df[rows, cols] = s.share, s.df
                vetoed[rows] |= s.twin_off
                differences.append((np.flatnonzero(rows), cols, s.differences[:, :, : widths[gi]]))
        q = np.minimum(st.t.sf((mean - EDGE) / se, df) / share, 1e9)
        q[call == BETTER] = 0.0
        level = holm(q) * share
        half = st.t.isf(level, df) * se
        fresh = np.where(mean - half > EDGE, BETTER, np.where(mean + half < -EDGE, WORSE, NONE))
        for rows_at, cols, d in differences:
            _flipped(fresh, call, rows_at, cols, d)
        fresh = np.where((mean - half > -EDGE) & (mean + half < EDGE), SAME, fresh)
        fresh[(fresh == BETTER) & vetoed[:, None]] = NONE
        undecided = call == NONE
        for bound, value in zip(bounds, (mean - half, mean + half, mean), strict=True):
            bound[undecided] = value[undecided]
        call[undecided] = fresh[undecided]
        at = 0
        for gi in range(len(groups)):
            mine = call[:, at : at + widths[gi]]
            at += widths[gi]
            waiting = (mine == NONE).any(axis=1) | ((mine == BETTER).any(axis=1) & vetoed)
            open_group[:, gi] &= waiting
        if not open_group.any():
            break
    return Outcome(np.where((call == BETTER) & vetoed[:, None], NONE, call), *bounds, blocks, vetoed)


def holm(q: np.ndarray) -> np.ndarray:
    """The level of every arm, row by row: as `stats.paired.holm_levels`, on p-values divided by their share."""
    k = q.shape[1]
    order = np.argsort(q, axis=1, kind="stable")
    ranked = np.take_along_axis(q, order, axis=1)
    steps = ALPHA / (k - np.arange(k))
    passed = np.cumprod(ranked <= steps, axis=1).astype(bool)
    # An arm is tested at its own step if all before it passed, else at the step where the first failed.
    reached = np.concatenate([np.ones((len(q), 1), bool), passed[:, :-1]], axis=1)
    levels = np.where(reached, steps, 0.0).max(axis=1, keepdims=True) * np.ones_like(q)
    levels = np.where(reached, steps[None, :], levels)
    out = np.zeros_like(q)
    np.put_along_axis(out, order, levels, axis=1)
    return out


def plan_of(candidates: int, planned: int) -> Plan:
    arms = [Arm("base", "fake", Role.BASELINE), Arm("aa", "fake", Role.AA)]
    arms += [Arm(f"c{i}", "fake", Role.CANDIDATE) for i in range(candidates)]
    point = Point(Workload("short-chat", 32, 16), 1, 4)
    return Plan(slug="sim", model="m", focus="throughput", arms=tuple(arms), points=(point,), blocks=planned, seed=1)


def agrees(groups: list[np.ndarray], planned: int, found: Outcome, count: int = 25) -> None:
    """The first campaigns once more through the product's own looks. Raises SystemExit naming the first that differs."""
    plan = plan_of(found.call.shape[1], planned)
    for i in range(min(count, len(groups[0]))):
        tables = []
        for ids, y, n in zip(plan.groups, groups, found.blocks[i], strict=True):
            tables.append((ids, {b + 1: dict(zip(ids, y[i, b], strict=True)) for b in range(n)}))
        got = looks_at(plan, tables)
        calls = [CODE[got.effects[a.id].call] for a in plan.candidates]
        if found.vetoed[i]:
            calls = [NONE if c == BETTER else c for c in calls]
        same = calls == found.call[i].tolist() and all(
            e.lower is None or np.isclose(e.lower, low, rtol=1e-9, atol=1e-12)
            for e, low in zip((got.effects[a.id] for a in plan.candidates), found.lower[i], strict=True)
        )
        if not same:
            raise SystemExit(
                f"campaign {i}: the bench and the product differ: {found.call[i]} {calls} {got.decided_at}"
            )


@dataclass
class Node:
    """One machine on which sessions run one after the other: a random walk of `drift` a session under their own noise, and
    `extra` of every arm but the baseline."""

    sd: float
    drift: float
    rng: np.random.Generator
    level: float = 0.0
    sessions: int = 0
    extra: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] | None = None

    def block(self, effects: dict[str, float]) -> dict[str, float]:
        """One session of every arm, in random order."""
        out = {}
        for arm in self.rng.permutation(sorted(effects)):
            self.level += float(self.rng.normal(0, self.drift)) if self.drift else 0.0
            own = float(self.extra(self.rng, (1,))[0]) if self.extra is not None and arm != "base" else 0.0
            out[str(arm)] = effects[str(arm)] + self.level + own + float(self.rng.normal(0, self.sd))
            self.sessions += 1
        return out


def raced(node: Node, effects: dict[str, float], rounds: int = 4) -> tuple[str, ...]:
    """The finalists of a race run with the product's own posterior and standing; `effects` holds "base" and the candidates."""
    alive = sorted(set(effects) - {"base"})
    rows: list[dict[str, float]] = []
    standing_now = None
    for number in range(1, rounds + 1):
        order = [str(a) for a in node.rng.permutation(alive)]
        for i in range(0, len(order), MAX_ARMS_IN_BLOCK - 1):
            arms = ["base", *order[i : i + MAX_ARMS_IN_BLOCK - 1]]
            rows.append(node.block({a: effects[a] for a in arms}))
        standing_now = standing(posterior(rows, "base", Prior()), "base", EDGE, number)
        alive = [a for a in alive if a in standing_now.survivors]
        if standing_now.decided:
            break
    assert standing_now is not None
    return standing_now.finalists


def confirming_groups(
    node: Node, effects: dict[str, float], finalists: tuple[str, ...], planned: int
) -> list[np.ndarray]:
    """y[1, block, arm] of every kind of block of the confirmation: baseline, A/A and up to two finalists."""
    out = []
    for i in range(0, len(finalists), 2):
        arms = {"base": 0.0, "base-again": 0.0, **{a: effects[a] for a in finalists[i : i + 2]}}
        rows = [node.block(arms) for _ in range(planned)]
        out.append(np.array([[[row[a] for a in arms] for row in rows]]))
    return out
