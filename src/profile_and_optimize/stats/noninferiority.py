"""The accuracy gate: does the candidate lose less than the tolerance, question by question against the base?

Per question d = base - candidate, each a score from 0 to 1 (a mean over its samples, where there are several). The pooled
loss is the mean of d over the planned questions of all tasks, so a task weighs its share of them. `stats.bounded_mean`
tests it at every look; what a look may use of the error is tabled (`gate_looks.json`). A true loss at or over the
tolerance passes with probability at most alpha, over all looks and tasks; a loss within it, pooled and in each task, fails with at
most alpha, which is shared out over the pooled loss and the tasks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal

from scipy.special import ndtri

from profile_and_optimize.stats.bounded_mean import Values, lower_bound, p_above, p_below, upper_bound, values_of

ALPHA = 0.01
POWER = 0.9
MOST_NEEDED = 1_000_000
# Up to the share t of the plan, t to this power of the error is spent (bench/accuracy_boundaries.py).
SPENT = {"pass": 5, "harm": 1}

PASS: Literal["pass"] = "pass"
FAIL: Literal["fail"] = "fail"
OPEN: Literal["unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class Pair:
    """One question: the scores of base and candidate, from 0 to 1."""

    task: str
    base: float
    candidate: float

    def __post_init__(self) -> None:
        for score in (self.base, self.candidate):
            if not 0 <= score <= 1:
                raise ValueError(f"{score!r} is no score from 0 to 1")


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """One task over the questions of the same look. `lost` and `won` count questions on which the candidate scored lower and
    higher; `upper` is at the pooled test's level and of this task alone; `harmed`: its `lower` is beyond the tolerance."""

    task: str
    n: int
    base: float
    candidate: float
    loss: float
    lower: float
    upper: float
    lost: int
    won: int
    harmed: bool

    @property
    def flips(self) -> float:
        return (self.lost + self.won) / self.n


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gate says after `n` questions of `planned`.

    Losses are shares (0.01 is one point), positive is worse. `loss`, its bounds and `tasks` are those of the look that decided,
    else of the last look; None before the first. The bounds hold at all looks together: `upper` misses the truth with
    probability at most alpha, `lower` with alpha or its part. `look_at` are the looks taken. `needed` is how many questions more
    would tell, None where that is not known. `flips` is the share of all n questions whose score differs, `floor` that of the base
    asked twice. `samples` is how many samples per question, in place of one, would tell on the same questions.
    """

    call: Literal["pass", "fail", "unknown"]
    loss: float | None
    lower: float | None
    upper: float | None
    n: int
    planned: int
    look_at: tuple[int, ...]
    decided_at: int | None
    needed: int | None
    flips: float | None
    floor: float | None
    tasks: tuple[TaskAnswer, ...]
    reason: str
    samples: int | None = None


@cache
def _table() -> dict[str, dict[str, list[float]]]:
    made = json.loads(files("profile_and_optimize.stats").joinpath("gate_looks.json").read_text())
    return {side: made[side] for side in (PASS, "harm")}


@cache
def share_of_look(side: str, look: int, alpha: float) -> float:
    """Share of `alpha` that look 1 to 10 may use. Smaller levels may use less, so a level between two takes the lower one's; below
    all of them the look has what the spending gives it, which is safe at any level (the looks then add up)."""
    rows, power = _table()[side], SPENT[side]
    held = [level for level in rows if float(level) <= alpha or math.isclose(float(level), alpha)]
    if held:
        return rows[max(held, key=float)][look - 1]
    last = len(next(iter(rows.values())))
    return (look / last) ** power - ((look - 1) / last) ** power


def looks(planned: int) -> tuple[int, ...]:
    """After how many questions one may look: every tenth of those planned, and the end."""
    return tuple(n for n, _ in _numbered(planned))


def _numbered(planned: int) -> tuple[tuple[int, int], ...]:
    """(questions, number of the look in the table); where two tenths are one question, the later one's share."""
    if planned < 1:
        raise ValueError("a plan has at least one question")
    last = len(next(iter(_table()[PASS].values())))
    return tuple({-(-planned * k // last): k for k in range(1, last + 1)}.items())


def counting_order(questions: Sequence[str]) -> list[int]:
    """The order in which questions count: by the digest of their text or id, tasks mixed, whatever was answered.

    Looks are honest only if every beginning is a random draw from the plan; data sets are sorted by subject. The same question
    has the same place in every run."""
    marks = [hashlib.sha256(q.encode()).digest() for q in questions]
    return sorted(range(len(marks)), key=marks.__getitem__)


def answer(
    pairs: Sequence[Pair],
    *,
    tolerance: float,
    planned: int,
    alpha: float = ALPHA,
    floor: Sequence[Pair] | None = None,
) -> Answer:
    """The gate over `pairs` in the order in which they count; the first look that decides, decides.

    `floor` are pairs of two runs of the base. Raises ValueError for more pairs than planned, and for a tolerance that is no share.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"a tolerance is a share between 0 and 1, not {tolerance!r}")
    if len(pairs) > planned:
        raise ValueError(f"{len(pairs)} questions were asked, {planned} were planned")
    twice = flips_of(floor) if floor else None
    found = Answer(OPEN, None, None, None, len(pairs), planned, (), None, None, flips_of(pairs), twice, (), "")
    taken: list[int] = []
    gate = _Gate(tolerance, alpha)
    for n, look in _numbered(planned):
        if n > len(pairs):
            break
        taken.append(n)
        call, why = gate.call(pairs[:n], look)
        if call != OPEN:
            return _told(
                replace(found, call=call, look_at=tuple(taken), decided_at=n, reason=why), gate, pairs[:n], look
            )
        found = replace(found, look_at=tuple(taken), reason=why)
    if not taken:
        first = looks(planned)[0]
        return replace(found, reason=f"{len(pairs)} questions so far; the first look is after {first}")
    found = _told(found, gate, pairs[: taken[-1]], dict(_numbered(planned))[taken[-1]])
    return _what_it_takes(found, gate, pairs, floor)


def flips_of(pairs: Sequence[Pair]) -> float | None:
    """Share of questions whose score differs between the two sides; None without questions."""
    return sum(p.base != p.candidate for p in pairs) / len(pairs) if pairs else None


@dataclass(frozen=True, slots=True)
class _Gate:
    tolerance: float
    alpha: float

    def call(self, pairs: Sequence[Pair], look: int) -> tuple[Literal["pass", "fail", "unknown"], str]:
        """At one look. Shown harm goes before a pass."""
        edge, losses = _points(self.tolerance), _losses(pairs)
        tasks = tasks_of(pairs)
        level = self.harm_level(len(tasks), look)
        if p_above(losses, self.tolerance) <= level:
            return FAIL, f"the loss over all tasks is more than {edge}"
        harmed = [t for t, own in tasks.items() if len(tasks) > 1 and p_above(_losses(own), self.tolerance) <= level]
        if harmed:
            return FAIL, f"the loss of {', '.join(harmed)} is more than {edge}"
        if p_below(losses, self.tolerance) > self.pass_level(look):
            return OPEN, f"the interval of the loss reaches across {edge}"
        if not self.can_show_a_loss(pairs):
            return OPEN, f"the base is hardly ever right: these questions cannot show a loss of {edge}"
        return PASS, f"the loss over all tasks is less than {edge}, and no task was shown to lose more"

    def pass_level(self, look: int) -> float:
        return self.alpha * share_of_look(PASS, look, self.alpha)

    def harm_level(self, tasks: int, look: int) -> float:
        """The error of a wrong "fail" is shared by the pooled loss and, where there are several, the tasks."""
        part = self.alpha / (tasks + 1 if tasks > 1 else 1)
        return part * share_of_look("harm", look, part)

    def can_show_a_loss(self, pairs: Sequence[Pair]) -> bool:
        """Who is never right has nothing to lose: the base has to be shown to score more than the tolerance."""
        return p_above(values_of([p.base for p in pairs]), self.tolerance) <= self.alpha


def tasks_of(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """By task, in the order of their names."""
    found: dict[str, list[Pair]] = {t: [] for t in sorted({p.task for p in pairs})}
    for p in pairs:
        found[p.task].append(p)
    return found


def _losses(pairs: Sequence[Pair]) -> Values:
    return values_of([p.base - p.candidate for p in pairs])


def _points(share: float) -> str:
    points = round(100 * share, 4)
    return f"{points:g} point{'' if points == 1 else 's'}"


def _told(found: Answer, gate: _Gate, pairs: Sequence[Pair], look: int) -> Answer:
    """With the estimate, its bounds and the tasks of this look."""
    losses, tasks = _losses(pairs), tasks_of(pairs)
    up, low = gate.pass_level(look), gate.harm_level(len(tasks), look)
    rows = tuple(_row(t, own, gate, up, low) for t, own in tasks.items())
    return replace(found, loss=losses.mean, lower=lower_bound(losses, low), upper=upper_bound(losses, up), tasks=rows)


def _row(task: str, pairs: Sequence[Pair], gate: _Gate, up: float, low: float) -> TaskAnswer:
    losses, n = _losses(pairs), len(pairs)
    base, candidate = (math.fsum(scores) / n for scores in ([p.base for p in pairs], [p.candidate for p in pairs]))
    lost, won = sum(p.candidate < p.base for p in pairs), sum(p.candidate > p.base for p in pairs)
    harmed = p_above(losses, gate.tolerance) <= low
    bounds = lower_bound(losses, low), upper_bound(losses, up)
    return TaskAnswer(task, n, base, candidate, losses.mean, *bounds, lost, won, harmed)


def _what_it_takes(found: Answer, gate: _Gate, pairs: Sequence[Pair], floor: Sequence[Pair] | None) -> Answer:
    """With what would tell, at the loss and the flips seen so far."""
    if not gate.can_show_a_loss(pairs):
        return found
    seen = _losses(pairs)
    needed = _enough(_no_gain(seen), gate.tolerance, gate.alpha)
    more = max(1, needed - found.n) if needed else None
    samples = _samples(seen, gate, len(pairs), floor) if floor and more else None
    reason = found.reason if more else f"{found.reason}, and it is too near to tell"
    return replace(found, needed=more, samples=samples, reason=reason)


def questions_for(flips: float, loss: float, tolerance: float, *, alpha: float = ALPHA) -> int | None:
    """Questions of a plan that tells by its end with probability 90%, if this share flips and this is the true loss; None
    beyond a million. For a loss below the tolerance, to pass; above it, to fail."""
    if not (0 <= flips <= 1 and abs(loss) <= flips):
        raise ValueError(f"a loss of {loss:g} takes flips between that and 1, not {flips:g}")
    rates = {1.0: (flips + loss) / 2, 0.0: 1 - flips, -1.0: (flips - loss) / 2}
    kept = {v: r for v, r in rates.items() if r > 0}
    return _enough(Values(tuple(kept), tuple(kept.values())), tolerance, alpha)


def _no_gain(seen: Values) -> Values:
    """A gain counts as no loss with the same spread, since nobody knows it beforehand."""
    if seen.mean >= 0:
        return seen
    other = seen.mirrored()
    return Values(seen.values + other.values, tuple(c / 2 for c in seen.counts + other.counts))


def _enough(rates: Values, tolerance: float, alpha: float) -> int | None:
    """The number of questions, at these rates, from which on the last look tells; the margin for luck is that of a normal score."""
    passing = rates.mean < tolerance
    level = alpha * share_of_look(PASS if passing else "harm", len(looks(1000)), alpha)
    luck = float(ndtri(POWER)) if any(rates.values) else 0.0
    p = p_below if passing else p_above

    def tells(n: int) -> bool:
        return float(ndtri(max(p(rates.scaled(n / rates.n), tolerance), 1e-300))) <= float(ndtri(level)) - luck

    if rates.mean == tolerance or not tells(MOST_NEEDED):
        return None
    low, high = 0, MOST_NEEDED
    while high - low > 1:
        low, high = (low, middle) if tells(middle := (low + high) // 2) else (middle, high)
    return high


def _samples(seen: Values, gate: _Gate, n: int, floor: Sequence[Pair]) -> int | None:
    """Samples per question, in place of one, at which these n questions would tell; None where up to 64 do not.

    Two runs of the base differ by sampling alone, so their mean square difference stands for the sampling noise in that of base
    and candidate; what is left is the difference of the two models.
    """
    noise, loss = _spread(_losses(floor)), max(seen.mean, 0.0)
    between = max(_spread(seen) - noise, loss)
    for samples in (2, 4, 8, 16, 32, 64):
        needed = questions_for(min(between + noise / samples, 1.0), loss, gate.tolerance, alpha=gate.alpha)
        if needed is not None and needed <= n:
            return samples
    return None


def _spread(seen: Values) -> float:
    return math.fsum(v * v * c for v, c in zip(seen.values, seen.counts, strict=True)) / seen.n
