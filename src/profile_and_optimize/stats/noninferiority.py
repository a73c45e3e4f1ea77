"""The accuracy gate: does the candidate lose less than the tolerance, question by question against the base?

Per question d = base - candidate, each a score from 0 to 1 (a mean over its samples, where there are several). The pooled
loss is the mean of d over the planned questions of all tasks, so a task weighs its share of them. The unit is the cluster
(`stats.clusters`): what its questions lose together is one observation, weighed by how many they are, so they may depend on one
another in any way. `stats.bounded_mean` tests it at every look, and no look splits a cluster; what a look may use of the error
is tabled (`gate_looks.json`). A true loss at or over the tolerance passes with probability at most alpha, over all looks and
tasks; a loss within it, pooled and in each task, fails with at most alpha, which is shared out over the pooled loss and the tasks.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal

from profile_and_optimize.stats.bounded_mean import Values, lower_bound, p_above, p_below, upper_bound, values_of
from profile_and_optimize.stats.clusters import whole_end
from profile_and_optimize.stats.distributions import normal_ppf

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
    """One question: the scores of base and candidate, from 0 to 1; the cluster that it is of, "" where it stands alone."""

    task: str
    base: float
    candidate: float
    cluster: str = ""

    def __post_init__(self) -> None:
        for score in (self.base, self.candidate):
            if not 0 <= score <= 1:
                raise ValueError(f"{score!r} is not a score from 0 to 1")


# Task and cluster of a planned question.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """One task over the questions of the same look, in `clusters`. `lost` and `won` count questions on which the candidate
    scored lower and higher; `upper` is at the pooled test's level and of this task alone; `harmed`: its `lower` is beyond the tolerance."""

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
    clusters: int = 0

    @property
    def flips(self) -> float:
        return (self.lost + self.won) / self.n


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gate says after `n` questions of `planned`.

    Losses are shares (0.01 is one point), positive is worse. `loss`, its bounds and `tasks` are those of the look that decided,
    else of the last look; None before the first. The bounds hold at all looks together: `upper` misses the truth with
    probability at most alpha, `lower` with alpha or its part. `look_at` are the looks taken. `needed` is how many questions more
    would tell, in `needed_clusters` more clusters like those asked, None where that is not known. `flips` is the share of all n
    questions whose score differs, `floor` that of the base asked twice. `samples` is how many samples per question, in place of
    one, would tell on the same questions; None where clusters are larger than one. `clusters` are those of all n questions.
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
    clusters: int = 0
    needed_clusters: int | None = None


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


def looks(planned: int, labels: Sequence[str] = ()) -> tuple[int, ...]:
    """After how many questions one may look: every tenth of those planned, and the end; where a tenth would split a cluster (its
    questions stand together in `labels`), at the end of that cluster."""
    return tuple(n for n, _ in _numbered(planned, labels))


def enough_without_loss(places: Sequence[Place], tolerance: float) -> int:
    """After how many questions a candidate that answers as well as the base can pass at the earliest; all of them where it cannot.
    Fewer can only fail it. Level and looks are those of `answer`; `places` are the planned questions in their order."""
    alike = [Pair(task, 1.0, 1.0, cluster) for task, cluster in places]
    return answer(alike, tolerance=tolerance, planned=len(places)).decided_at or len(places)


def _numbered(planned: int, labels: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(questions, number of the look in the table); where two looks come after the same question, the later one's share."""
    if planned < 1:
        raise ValueError("a plan has at least one question")
    last = len(next(iter(_table()[PASS].values())))
    return tuple({whole_end(labels, -(-planned * k // last)): k for k in range(1, last + 1)}.items())


def answer(
    pairs: Sequence[Pair],
    *,
    tolerance: float,
    planned: int,
    alpha: float = ALPHA,
    floor: Sequence[Pair] | None = None,
    plan: Sequence[Place] = (),
) -> Answer:
    """The gate over `pairs` in the order in which they count; the first look that decides, decides.

    `floor` are pairs of two runs of the base. `plan` has every planned question that is known, in the same order; default the
    pairs' own. Raises ValueError for more pairs than planned, and for a tolerance that is no share.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"a tolerance is a share between 0 and 1, not {tolerance!r}")
    if len(pairs) > planned:
        raise ValueError(f"{len(pairs)} questions were asked, {planned} were planned")
    places = plan or [(p.task, p.cluster) for p in pairs]
    twice = flips_of(floor) if floor else None
    found = Answer(
        OPEN, None, None, None, len(pairs), planned, (), None, None, flips_of(pairs), twice, (), "", clusters=len(_grouped(pairs))
    )  # fmt: skip
    taken: list[int] = []
    gate = _Gate(tolerance, alpha, _sizes(places))
    numbered = _numbered(planned, [cluster for _, cluster in places])
    for n, look in numbered:
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
        first = numbered[0][0]
        return replace(found, reason=f"{len(pairs)} questions so far; the first look is after {first}")
    found = _told(found, gate, pairs[: taken[-1]], dict(numbered)[taken[-1]])
    return _what_it_takes(found, gate, pairs, floor)


def flips_of(pairs: Sequence[Pair]) -> float | None:
    """Share of questions whose score differs between the two sides; None without questions."""
    return sum(p.base != p.candidate for p in pairs) / len(pairs) if pairs else None


def _grouped(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The questions cluster by cluster, in the order in which the clusters begin."""
    found: dict[object, list[Pair]] = {}
    for i, p in enumerate(pairs):
        found.setdefault(p.cluster or i, []).append(p)
    return list(found.values())


def _sizes(places: Sequence[Place]) -> dict[str | None, int]:
    """The most questions that one cluster has in a task, and (None) over all tasks: where it crosses them, each task has its part."""
    whole = Counter(cluster for _, cluster in places if cluster)
    sizes: dict[str | None, int] = {None: max(whole.values(), default=1), **{task: 1 for task, _ in places}}
    for (task, _), n in Counter(place for place in places if place[1]).items():
        sizes[task] = max(sizes[task], n)
    return sizes


def _loss(p: Pair) -> float:
    return p.base - p.candidate


@dataclass(frozen=True, slots=True)
class _Gate:
    """`sizes` are the most questions of a cluster: of the plan, not of what was seen of it."""

    tolerance: float
    alpha: float
    sizes: dict[str | None, int]

    def values(self, pairs: Sequence[Pair], score: Callable[[Pair], float] = _loss, task: str | None = None) -> Values:
        """The mean score of every cluster, weighed by its questions."""
        most = self.sizes[task]
        if most == 1:
            return values_of([score(p) for p in pairs])
        groups = _grouped(pairs)
        means = [math.fsum(map(score, own)) / len(own) for own in groups]
        return values_of(means, [len(own) / most for own in groups])

    def call(self, pairs: Sequence[Pair], look: int) -> tuple[Literal["pass", "fail", "unknown"], str]:
        """At one look. Shown harm goes before a pass."""
        edge, losses = _points(self.tolerance), self.values(pairs)
        tasks = tasks_of(pairs)
        level = self.harm_level(len(tasks), look)
        if p_above(losses, self.tolerance) <= level:
            return FAIL, f"the loss over all tasks is more than {edge}"
        harmed = [
            t
            for t, own in tasks.items()
            if len(tasks) > 1 and p_above(self.values(own, task=t), self.tolerance) <= level
        ]
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
        return p_above(self.values(pairs, lambda p: p.base), self.tolerance) <= self.alpha


def tasks_of(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """By task, in the order of their names."""
    found: dict[str, list[Pair]] = {t: [] for t in sorted({p.task for p in pairs})}
    for p in pairs:
        found[p.task].append(p)
    return found


def _points(share: float) -> str:
    points = round(100 * share, 4)
    return f"{points:g} point{'' if points == 1 else 's'}"


def _told(found: Answer, gate: _Gate, pairs: Sequence[Pair], look: int) -> Answer:
    """With the estimate, its bounds and the tasks of this look."""
    losses, tasks = gate.values(pairs), tasks_of(pairs)
    up, low = gate.pass_level(look), gate.harm_level(len(tasks), look)
    rows = tuple(_row(t, own, gate, up, low) for t, own in tasks.items())
    return replace(found, loss=losses.mean, lower=lower_bound(losses, low), upper=upper_bound(losses, up), tasks=rows)


def _row(task: str, pairs: Sequence[Pair], gate: _Gate, up: float, low: float) -> TaskAnswer:
    losses, n = gate.values(pairs, task=task), len(pairs)
    base, candidate = (math.fsum(scores) / n for scores in ([p.base for p in pairs], [p.candidate for p in pairs]))
    lost, won = sum(p.candidate < p.base for p in pairs), sum(p.candidate > p.base for p in pairs)
    harmed = p_above(losses, gate.tolerance) <= low
    bounds = lower_bound(losses, low), upper_bound(losses, up)
    return TaskAnswer(task, n, base, candidate, losses.mean, *bounds, lost, won, harmed, len(_grouped(pairs)))


def _what_it_takes(found: Answer, gate: _Gate, pairs: Sequence[Pair], floor: Sequence[Pair] | None) -> Answer:
    """With what would tell, at the loss and the flips seen so far."""
    seen = gate.values(pairs)
    clusters, alone = found.clusters, gate.sizes[None] == 1
    needed = _enough(_no_gain(seen), gate.tolerance, gate.alpha)
    if not (gate.can_show_a_loss(pairs) if alone else _could_show_a_loss(gate, pairs, max(needed or 0, clusters))):
        return found
    more = max(1, needed - clusters) if needed else None
    samples = _samples(seen, gate, len(pairs), floor) if floor and more and alone else None
    reason = found.reason if more else f"{found.reason}, and it is too near to tell"
    questions = math.ceil(more * len(pairs) / clusters) if more else None
    return replace(found, needed=questions, needed_clusters=more, samples=samples, reason=reason)


def _could_show_a_loss(gate: _Gate, pairs: Sequence[Pair], clusters: int) -> bool:
    """Would so many clusters in which the base is as often right? A few clusters show nothing, however often it is."""
    base = gate.values(pairs, lambda p: p.base)
    return p_above(base.scaled(clusters / base.n), gate.tolerance) <= gate.alpha


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
    counts = tuple(c / 2 for c in seen.counts + other.counts)
    return Values(seen.values + other.values, counts, seen.weights + other.weights)


def _enough(rates: Values, tolerance: float, alpha: float) -> int | None:
    """The number of clusters, at these rates, from which on the last look tells; the margin for luck is that of a normal score."""
    passing = rates.mean < tolerance
    level = alpha * share_of_look(PASS if passing else "harm", len(looks(1000)), alpha)
    luck = normal_ppf(POWER) if any(rates.values) else 0.0
    p = p_below if passing else p_above

    def tells(n: int) -> bool:
        return normal_ppf(max(p(rates.scaled(n / rates.n), tolerance), 1e-300)) <= normal_ppf(level) - luck

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
    noise, loss = _spread(values_of(list(map(_loss, floor)))), max(seen.mean, 0.0)
    between = max(_spread(seen) - noise, loss)
    for samples in (2, 4, 8, 16, 32, 64):
        needed = questions_for(min(between + noise / samples, 1.0), loss, gate.tolerance, alpha=gate.alpha)
        if needed is not None and needed <= n:
            return samples
    return None


def _spread(seen: Values) -> float:
    return math.fsum(v * v * c for v, c in zip(seen.values, seen.counts, strict=True)) / seen.n
