"""What a request would start, read as the op itself reads it: what a person is shown before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.names import canonical, digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Started:
    """Every arm with its settings; `common_flags` and `common_env` are those of all arms, `about` further names and values.
    `choice`: the op starts some of these arms only, depending on what exists here."""

    arms: tuple[Arm, ...] = ()
    common_flags: tuple[str, ...] = ()
    common_env: Settings = ()
    about: tuple[tuple[str, str], ...] = ()
    choice: bool = False


def by_fields(_: Any) -> Started:
    """For a request whose fields are all the settings there are."""
    return Started()


def of_plan(run: Path, plan: Plan) -> Started:
    """Of a run's own plan; its digest is shown, so that an answer to one plan is no answer to another."""
    data = sorted({p.workload.file or p.workload.dataset for p in plan.points})
    about = [
        ("run", str(run)), ("plan sha256", digest(canonical(plan.to_json()))), ("model", plan.model),
        ("budget", f"{plan.budget_s / 60:g} minutes"), ("client", plan.client), *(("data", d) for d in data),
        *(("questions", q) for q in (plan.questions,) if q), *(("tokenizer", t) for t in (plan.tokenizer,) if t),
    ]  # fmt: skip
    return Started(plan.all_arms, plan.common_flags, plan.common_env, tuple(about))
