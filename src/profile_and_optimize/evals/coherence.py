"""Does a model answer at all? What a broken checkpoint and a wrong prompt format look like, before any score is believed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from profile_and_optimize.evals.base import TaskRun

# Questions below which nothing is concluded from none being right: a guess among four fails on 16 with a chance of 1%.
FEWEST = 16
SHARE = 0.5  # of a task's answers that may be degenerate
RUN_WORDS, RUN_SHARE = 8, 0.8


class Blame(StrEnum):
    """Whose fault a failed gate is, told by a known-good control on the same questions."""

    MODEL = "model"
    GATE = "gate"
    UNKNOWN = "unknown"


def degenerate(text: str) -> bool:
    """Nothing at all, or one word over and over ("is is is ...")."""
    words = text.split()
    if not words:
        return True
    most = max(words.count(w) for w in set(words))
    return len(words) >= RUN_WORDS and most / len(words) >= RUN_SHARE


def incoherent(run: TaskRun) -> str:
    """Why this task's answers are no ground to judge a model by; "" when they are."""
    n, answered = len(run.samples), [s for s in run.samples if s.mean is not None]
    if n and not answered:
        return f"{run.task}: every answer was cut at the limit of tokens"
    if run.kind == "generate_until" and run.shown:
        bad = sum(degenerate(a) for s in run.shown for a in s.answers)
        total = sum(len(s.answers) for s in run.shown)
        if bad > SHARE * total:
            return f"{run.task}: {bad} of {total} answers are empty or one word over and over"
        if n >= FEWEST and _all_the_same(run):
            return f"{run.task}: all {total} answers are the same, {run.shown[0].answers[0][:40]!r}"
    if len(answered) >= FEWEST and not any(s.mean for s in answered):
        return f"{run.task}: 0 of {len(answered)} right"
    return ""


def _all_the_same(run: TaskRun) -> bool:
    said = {a for s in run.shown for a in s.answers}
    return len(said) == 1 and len({s.expected for s in run.samples}) > 1


def problems(runs: Sequence[TaskRun]) -> dict[str, str]:
    """Task to why, for those that fail."""
    return {r.task: why for r in runs if (why := incoherent(r))}


def blame(model: Sequence[str], control: Sequence[str] | None) -> Blame:
    """`model` and `control` are the tasks that failed of each; None where no control was asked. A control that fails one
    of the same tasks shows that the gate is at fault."""
    if control is None:
        return Blame.UNKNOWN
    return Blame.GATE if set(model) & set(control) else Blame.MODEL
