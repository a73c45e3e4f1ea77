"""The accuracy gate where some answers are unfinished: cut at the limit of tokens, they are neither right nor wrong.

A score is then an interval, from the least to the most it could be. The gate passes only if it would pass with every unfinished
answer counted against the candidate, fails only if it would fail with every one counted for it, and else stays open; so its
error bounds hold whatever those answers would have become. Beyond that nothing passes while more questions than the tolerance have
an unfinished answer on one side (what is not known could be the whole loss), or while one side was cut on more questions than
the other (an exact sign test): those that were answered to their end are then no fair sample of either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profile_and_optimize.stats.noninferiority import ALPHA, FAIL, OPEN, PASS, Answer, Pair, Place, answer, looks

UNLIKE = 0.05  # of the sign test; a wrong alarm costs a longer limit of tokens, a missed one a wrong pass


@dataclass(frozen=True, slots=True)
class Known:
    """A side's score of one question: `mean` over the finished answers (None where there are none), and the least and the most that
    it could be. `cut`: an answer is unfinished."""

    mean: float | None
    low: float
    high: float
    cut: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to both sides."""

    task: str
    base: Known
    candidate: Known
    cluster: str = ""

    @property
    def against(self) -> Pair:
        return Pair(self.task, self.base.high, self.candidate.low, self.cluster)

    @property
    def for_it(self) -> Pair:
        return Pair(self.task, self.base.low, self.candidate.high, self.cluster)

    @property
    def seen(self) -> Pair | None:
        """None where one side has no finished answer."""
        if self.base.mean is None or self.candidate.mean is None:
            return None
        return Pair(self.task, self.base.mean, self.candidate.mean, self.cluster)


def seen_pairs(asked: Sequence[Asked]) -> tuple[Pair, ...]:
    return tuple(pair for a in asked if (pair := a.seen) is not None)


def answer_with_unfinished(
    asked: Sequence[Asked], *, tolerance: float, planned: int, alpha: float = ALPHA, floor: Sequence[Pair] | None = None,
    plan: Sequence[Place] = (),
) -> Answer:  # fmt: skip
    """As `noninferiority.answer`. Estimates and rows are those of the questions that both sides answered to their end; the interval
    reaches as far as the unfinished answers could take it."""
    if not any(a.base.cut or a.candidate.cut for a in asked):
        return answer(seen_pairs(asked), tolerance=tolerance, planned=planned, alpha=alpha, floor=floor, plan=plan)
    worst, best = (
        answer(pairs, tolerance=tolerance, planned=planned, alpha=alpha, floor=floor, plan=plan)
        for pairs in ([a.against for a in asked], [a.for_it for a in asked])
    )
    places = plan or [(a.task, a.cluster) for a in asked]
    decided = _decided(asked, worst, looks(planned, [cluster for _, cluster in places]), tolerance)
    told = _over_finished(asked, worst, best, tolerance, alpha)
    if decided is not None:
        return replace(told, call=PASS, decided_at=decided, reason=worst.reason)
    if best.call == FAIL:
        return replace(told, call=FAIL, decided_at=best.decided_at, reason=best.reason)
    return replace(told, call=OPEN, decided_at=None, reason=why_open(asked, tolerance) or worst.reason)


def _decided(asked: Sequence[Asked], worst: Answer, places: Sequence[int], tolerance: float) -> int | None:
    """The first look at which it passes and not too much is unfinished, as long as that holds for what came after it too."""
    if worst.call != PASS or worst.decided_at is None or too_many(asked, tolerance):
        return None
    there = (n for n in places if worst.decided_at <= n <= len(asked))
    return next((n for n in there if not too_many(asked[:n], tolerance)), None)


def _over_finished(asked: Sequence[Asked], worst: Answer, best: Answer, tolerance: float, alpha: float) -> Answer:
    pairs = seen_pairs(asked)
    seen = answer(pairs, tolerance=tolerance, planned=max(1, len(pairs)), alpha=alpha)
    return replace(
        worst, loss=seen.loss, lower=best.lower, upper=worst.upper, tasks=seen.tasks, flips=seen.flips, needed=None,
        needed_clusters=None, samples=None,
    )  # fmt: skip


def too_many(asked: Sequence[Asked], tolerance: float) -> str:
    """Why no pass may be given over these questions, however they were answered; "" where one may."""
    n, base, candidate = len(asked), sum(a.base.cut for a in asked), sum(a.candidate.cut for a in asked)
    if max(base, candidate) > tolerance * n:
        return f"unfinished answers ({_counts(n, base, candidate)}): no more than {tolerance:.2%} may be, the tolerance"
    one, two = (sum(x.cut and not y.cut for x, y in sides) for sides in _both_ways(asked))
    if sign_test(one, two) <= UNLIKE:
        return f"the two sides were cut unlike ({_counts(n, base, candidate)})"
    return ""


def why_open(asked: Sequence[Asked], tolerance: float) -> str:
    """In words, where unfinished answers may be what keeps the gate open; "" without any."""
    n, base, candidate = len(asked), sum(a.base.cut for a in asked), sum(a.candidate.cut for a in asked)
    if not base + candidate:
        return ""
    return too_many(asked, tolerance) or (
        f"unfinished answers ({_counts(n, base, candidate)}) are neither right nor wrong, and counted against the candidate they do "
        "not let it pass"
    )  # fmt: skip


def _both_ways(asked: Sequence[Asked]) -> tuple[list[tuple[Known, Known]], list[tuple[Known, Known]]]:
    return [(a.base, a.candidate) for a in asked], [(a.candidate, a.base) for a in asked]


def _counts(n: int, base: int, candidate: int) -> str:
    return f"of {n} questions {base} of the base, {base / n:.1%}, and {candidate} of the candidate, {candidate / n:.1%}"


def sign_test(one: int, two: int) -> float:
    """The chance of a split at least as uneven as this one, if each side were as likely: two-sided, exact. 1 without any."""
    n, few = one + two, min(one, two)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n)
