"""Gates simulated by the ten thousand: what they call when the true loss is known, and what bends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import beta, binom

from accuracy_cells import SIGNS, at_once, edges, exact, p_many, wide
from profile_and_optimize.stats.noninferiority import ALPHA, looks, share_of_look

LOSSES = (0.0, 0.005, 0.01, 0.02, 0.05)
FLIPS = (0.02, 0.1)
TOLERANCE = 0.01
AT_MARGIN = 10
# Three tasks of unequal size; the harder one is, the more of its questions flip.
SHARES, HARDNESS = np.array([0.6, 0.3, 0.1]), np.array([0.5, 1.5, 2.5])
PASS, FAIL, OPEN = 1, 2, 0


@dataclass(frozen=True, slots=True)
class Row:
    """Gates of one setting. `exact` is the computed probability of a pass, where there is one. `fixed` is what the design that
    looks once passes."""

    setting: str
    loss: float
    flips: float
    tasks: int
    planned: int
    gates: int
    passed: int
    failed: int
    mean_n: float
    most_n: int
    exact: float | None = None
    fixed: float | None = None

    @property
    def rate(self) -> float:
        return self.passed / self.gates

    @property
    def upper(self) -> float:
        """One-sided 95% by Clopper and Pearson."""
        return float(beta.ppf(0.95, self.passed + 1, self.gates - self.passed)) if self.passed < self.gates else 1.0


def main_rows(planned: dict[float, int], gates: int, rng: np.random.Generator) -> Iterator[Row]:
    """The grid: losses, flips, one task and three."""
    for flips in FLIPS:
        for loss in LOSSES:
            seen = max(flips, loss)
            n = planned[flips]
            # Where the loss is the tolerance itself, drawing has to tell 0.9% from 1%.
            count = gates * (AT_MARGIN if loss == TOLERANCE else 1)
            told, once = exact(n, TOLERANCE, seen, loss), at_once(n, TOLERANCE, seen, loss)
            one = [(1.0, seen, loss)]
            yield simulated("one task", one, loss, seen, n, count, rng, told.passed, once)
            three = list(zip(SHARES, _hard(seen, loss), [loss] * 3, strict=True))
            yield simulated("three tasks", three, loss, seen, n, count, rng, None, once)


def _hard(flips: float, loss: float) -> np.ndarray:
    """Flips per task that come to `flips` over all, and nowhere fewer than the loss takes."""
    extra = HARDNESS / (SHARES @ HARDNESS)
    return loss + (flips - loss) * extra


def simulated(
    setting: str, tasks: list[tuple[float, float, float]], loss: float, flips: float, planned: int, gates: int,
    rng: np.random.Generator, told: float | None = None, once: float | None = None,
) -> Row:  # fmt: skip
    """`tasks`: (share of the questions, flips, loss) each."""
    calls, asked = play(tasks, planned, gates, rng)
    return Row(
        setting, loss, flips, len(tasks), planned, gates, int((calls == PASS).sum()), int((calls == FAIL).sum()), float(asked.mean()),
        int(asked.max()), told, once,
    )  # fmt: skip


def play(
    tasks: list[tuple[float, float, float]], planned: int, gates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Call and questions asked per gate; questions of all tasks come mixed, their numbers per task are planned."""
    sizes = np.round(np.array([share for share, _, _ in tasks]) * planned).astype(int)
    sizes[0] += planned - sizes.sum()
    left = np.tile(sizes, (gates, 1))
    lost, won, asked = (np.zeros((gates, len(tasks)), int) for _ in range(3))
    calls, at = np.zeros(gates, int), np.full(gates, planned)
    before = 0
    for look, n in enumerate(looks(planned), start=1):
        drawn = _drawn(left, n - before, rng)
        left, asked, before = left - drawn, asked + drawn, n
        for t, (_, flips, loss) in enumerate(tasks):
            found = rng.multinomial(drawn[:, t], [(flips + loss) / 2, (flips - loss) / 2, 1 - flips])
            lost[:, t] += found[:, 0]
            won[:, t] += found[:, 1]
        open_ = calls == OPEN
        call = _called(lost[open_], won[open_], asked[open_], look, planned)
        at[np.flatnonzero(open_)[call != OPEN]] = n
        calls[open_] = call
    return calls, at


def _drawn(left: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the questions that are left, of whichever task: one hypergeometric draw after the other."""
    found, rest, wanted = np.zeros_like(left), left.sum(1), np.full(len(left), count)
    for t in range(left.shape[1] - 1):
        rest = rest - left[:, t]
        found[:, t] = np.where(left[:, t] > 0, rng.hypergeometric(left[:, t], np.maximum(rest, 0), wanted), 0)
        wanted = wanted - found[:, t]
    found[:, -1] = wanted
    return found


def _called(lost: np.ndarray, won: np.ndarray, asked: np.ndarray, look: int, planned: int) -> np.ndarray:
    tasks = lost.shape[1]
    down, across = lost.sum(1), won.sum(1)
    if not len(down):
        return np.zeros(0, int)
    e = edges(planned, TOLERANCE, wide(planned, int(across.max())))
    part = ALPHA / (tasks + 1 if tasks > 1 else 1)
    harm = part * share_of_look("harm", look, part)
    if tasks == 1:
        failed = down >= e.least[look - 1][across]
    else:
        pooled = np.column_stack([down, across, down + across])
        failed = _harmed(pooled, np.full(len(down), asked[0].sum()), harm)
        for t in range(tasks):
            failed |= _harmed(np.column_stack([lost[:, t], won[:, t], lost[:, t] + won[:, t]]), asked[:, t], harm)
    return np.where(failed, FAIL, np.where(down <= e.most[look - 1][across], PASS, OPEN))


def _harmed(cells: np.ndarray, n: np.ndarray, level: float) -> np.ndarray:
    """Is harm shown? Only cells that could show it are computed, each once."""
    net = cells[:, 0] - cells[:, 1] - n * TOLERANCE
    near = np.flatnonzero(net > 1.5 * np.sqrt(cells[:, 2] + 1))
    found = np.zeros(len(cells), bool)
    if len(near):
        keys, where = np.unique(np.column_stack([cells[near, 0], cells[near, 1], n[near]]), axis=0, return_inverse=True)
        counts = np.column_stack([keys[:, 0], keys[:, 1], keys[:, 2] - keys[:, 0] - keys[:, 1]])
        found[near] = (p_many(-SIGNS, counts, -TOLERANCE) <= level)[where.ravel()]
    return found


# --- what bends it -------------------------------------------------------------------------------------------------------------

Draw = Callable[[int, int, np.random.Generator], np.ndarray]


def attacks(planned: int, gates: int, rng: np.random.Generator) -> Iterator[tuple[str, str, int, int]]:
    """(what was tried, is it covered, wrong passes, gates) at a true loss of exactly the tolerance."""
    for name, values, rates in SCORES:
        assert abs(float(values @ rates) - TOLERANCE) < 1e-12, name
        many = 5 * gates
        yield name, "yes", int(passes(values, rates, planned, many, rng).sum()), many
    for name, tasks in TASKS:
        calls, _ = play(tasks, planned, gates, rng)
        yield name, "yes", int((calls == PASS).sum()), gates
    yield "looking 200 times, each time at the full 1%", "no: looks are fixed", peeked(planned, gates, rng), gates
    yield (
        "planning again with twice the questions whenever unknown, four times",
        "no: said, DRAFT",
        replanned(gates, rng),
        gates,
    )
    yield (
        "questions sorted, the first half without any loss",
        "no: the order is mixed",
        sorted_(planned, gates, rng),
        gates,
    )


SCORES = (
    ("four samples a question: scores in quarters", np.array([1, 0.5, 0.25, -0.25, -0.5, 0.0]),
     np.array([0.0075, 0.016, 0.05, 0.05, 0.011, 0.8655])),
    ("half points: d of a half or nothing", np.array([0.5, -0.5, 0.0]), np.array([0.06, 0.04, 0.9])),
    ("many gains of a twentieth, few whole losses", np.array([1.0, -0.05, 0.0]), np.array([0.03, 0.4, 0.57])),
    ("gains of a tenth nearly everywhere, whole losses", np.array([1.0, -0.1, 0.0]), np.array([0.09, 0.8, 0.11])),
    ("whole gains, losses of a twentieth", np.array([-1.0, 0.05, 0.0]), np.array([0.01, 0.4, 0.59])),
    ("losses alone, no gain", np.array([1.0, 0.0]), np.array([0.01, 0.99])),
    ("losses of 2% of a question everywhere, gains of 98% seldom", np.array([0.02, -0.98]), np.array([0.99, 0.01])),
)  # fmt: skip
TASKS = (
    ("all the loss in a task of 2% of the questions (50 points)", [(0.98, 0.02, 0.0), (0.02, 0.5, 0.5)]),
    ("one task gains 1 point, one of a third loses 5", [(2 / 3, 0.03, -0.01), (1 / 3, 0.05, 0.05)]),
    ("twenty equal tasks, two of them lose 10 points", [(0.05, 0.02, 0.0)] * 18 + [(0.05, 0.1, 0.1)] * 2),
)  # fmt: skip


def passes(values: np.ndarray, rates: np.ndarray, planned: int, gates: int, rng: np.random.Generator) -> np.ndarray:
    """Gates of one task over scores of any kind, harm left aside: it only takes passes away."""
    counts, passed, before = np.zeros((gates, len(values)), int), np.zeros(gates, bool), 0
    for look, n in enumerate(looks(planned), start=1):
        counts = counts + rng.multinomial(n - before, rates, gates)
        before = n
        passed |= _below(values, counts, ALPHA * share_of_look("pass", look, ALPHA))
    return passed


def _below(values: np.ndarray, counts: np.ndarray, level: float) -> np.ndarray:
    net = counts @ values - counts.sum(1) * TOLERANCE
    near = np.flatnonzero(net < -1.0 * np.sqrt(counts @ values**2))
    found = np.zeros(len(counts), bool)
    if len(near):
        keys, where = np.unique(counts[near], axis=0, return_inverse=True)
        found[near] = (p_many(values, keys, TOLERANCE) <= level)[where.ravel()]
    return found


def peeked(planned: int, gates: int, rng: np.random.Generator, times: int = 200) -> int:
    counts, passed, before = np.zeros((gates, 3), int), np.zeros(gates, bool), 0
    for n in [planned * i // times for i in range(1, times + 1)]:
        counts = counts + rng.multinomial(n - before, [0.015, 0.005, 0.98], gates)
        before = n
        passed |= _below(SIGNS, counts, ALPHA)
    return int(passed.sum())


def replanned(gates: int, rng: np.random.Generator, first: int = 750) -> int:
    """Questions are kept; every plan looks at its own tenths."""
    plans = [first * 2**i for i in range(4)]
    ends = sorted({n for plan in plans for n in looks(plan)})
    counts, seen, before = np.zeros((gates, 3), int), {}, 0
    for n in ends:
        counts = counts + rng.multinomial(n - before, [0.015, 0.005, 0.98], gates)
        seen[n], before = counts, n
    passed = np.zeros(gates, bool)
    for plan in plans:
        for look, n in enumerate(looks(plan), start=1):
            passed |= _below(SIGNS, seen[n], ALPHA * share_of_look("pass", look, ALPHA))
    return int(passed.sum())


def sorted_(planned: int, gates: int, rng: np.random.Generator) -> int:
    """All the loss, two points, in the second half: the early looks see none of it."""
    counts, passed, before = np.zeros((gates, 3), int), np.zeros(gates, bool), 0
    for look, n in enumerate(looks(planned), start=1):
        rates = [0.01, 0.01, 0.98] if 2 * n <= planned else [0.02, 0.0, 0.98]
        counts = counts + rng.multinomial(n - before, rates, gates)
        before = n
        passed |= _below(SIGNS, counts, ALPHA * share_of_look("pass", look, ALPHA))
    return int(passed.sum())


# --- the rules most gates use --------------------------------------------------------------------------------------------------


def rules(n: int, flips: float, loss: float) -> dict[str, float]:
    """Probability to ship by three usual rules on n questions, and by ours with n planned; computed, not drawn."""
    won, lost = (flips - loss) / 2, (flips + loss) / 2
    w = np.arange(int(n * won + 9 * np.sqrt(n * won) + 14))[:, None]
    down = np.arange(int(n * lost + 9 * np.sqrt(n * lost) + 14))[None, :]
    chance = binom.pmf(w, n, won) * binom.pmf(down, n - w, lost / (1 - won))
    mean, spread = (down - w) / n, np.sqrt(np.maximum((down + w) / n - ((down - w) / n) ** 2, 0.0) / n)
    return {
        "the score fell by at most the tolerance": float(chance[mean <= TOLERANCE].sum()),
        "not significantly worse (McNemar, exact, 5%)": float(chance[binom.sf(down - 1, down + w, 0.5) > 0.05].sum()),
        "normal interval at 1%": float(chance[mean - ndtri(ALPHA) * spread < TOLERANCE].sum()),
        "this gate": exact(n, TOLERANCE, flips, loss).passed,
    }
