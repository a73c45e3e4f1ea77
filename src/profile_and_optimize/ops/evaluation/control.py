"""A known-good control, asked the same when a gate fails: is it the model's fault, or that of prompt, task or server?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import PaoError
from profile_and_optimize.evals.base import Asking, Evaluator, Outcome, Wanted
from profile_and_optimize.evals.coherence import Blame, blame, problems
from profile_and_optimize.ops.base import Say
from profile_and_optimize.ops.evaluation.keep import control_rows, failed_row, samples_of
from profile_and_optimize.ops.evaluation.target import How, target

MOST_QUESTIONS = 50  # of each failed task: enough to tell a model that answers from one that does not


@dataclass(frozen=True, slots=True)
class Judged:
    """Why the gate failed by task, whose fault it is, and what the control said (None where none was asked)."""

    why: dict[str, str]
    blame: Blame
    control: Outcome | None = None
    told: dict[str, Any] | None = None


def judge(
    outcome: Outcome, wanted: Sequence[Wanted], asking: Asking, place: str | None, how: How, evaluator: Evaluator, say: Say
) -> Judged | None:  # fmt: skip
    """None when every task's answers hold together. `place` is the control's folder or URL."""
    why = problems(outcome.runs)
    if not why:
        return None
    if place is None:
        return Judged(why, Blame.UNKNOWN)
    say(f"{next(iter(why.values()))}: asking the control the same")
    again = {r.wanted for r in outcome.runs if r.task in why}
    try:
        found, told = _ask(tuple(w for w in wanted if w.name in again), asking, place, how, evaluator, say)
    except PaoError as e:
        return Judged(why, Blame.UNKNOWN, None, {"place": place, "error": e.message})
    failing = problems(found.runs)
    asked = {r.task for r in found.runs}
    whose = blame(tuple(why), tuple(failing)) if asked & set(why) else Blame.UNKNOWN
    return Judged(why, whose, found, {**told, "problems": failing})


def _ask(
    wanted: tuple[Wanted, ...], asking: Asking, place: str, how: How, evaluator: Evaluator, say: Say
) -> tuple[Outcome, dict[str, Any]]:
    limit = min(asking.limit or MOST_QUESTIONS, MOST_QUESTIONS)
    how = replace(how, served=None)  # which is the first server's name for its model
    with (
        tempfile.TemporaryDirectory(prefix="pao-control-") as scratch,
        target(place, how, Path(scratch) / "engine.log", say) as t,
    ):
        found = evaluator.run(
            wanted, replace(asking, url=t.url, addresses=t.addresses, model=t.served, limit=limit), Path(scratch), say
        )
    told = {
        "place": place, "model": t.model, "model_digest": t.model_digest, "served_model": t.served, "endpoint": t.endpoint,
        "engine": t.engine, "limit": limit, "tasks": control_rows(samples_of(found)),
        "failed": [failed_row(f) for f in found.failed],
    }  # fmt: skip
    return found, told
