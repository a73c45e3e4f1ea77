"""What follows from a plan for its trials: the context they were asked for, and their prompts.

One place: the runner goes by it, and verify expects it.
"""

from __future__ import annotations

from profile_and_optimize.campaign.order import prompt_seed
from profile_and_optimize.clients.prompts import PromptMaker
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import TrialKey
from profile_and_optimize.core.workload import Point


def asked_by_plan(plan: Plan, arm: Arm, point: Point) -> dict[str, str]:
    """Context fields that follow from plan, arm and point alone; "" where there is nothing to say."""
    workload = point.workload
    return {
        "engine": arm.engine, "flags": " ".join((*plan.common_flags, *arm.flags)) or "engine defaults",
        "env": " ".join(f"{k}={v}" for k, v in (*plan.common_env, *arm.env)) or "none",
        "model": plan.model if arm.engine != "endpoint" else "", "base_model_digest": plan.model_digest, "suite": plan.suite,
        "workload": f"{workload.name} {workload.dataset} isl={workload.isl} osl={workload.osl} {workload.api}",
        "load": point.load,
        "cache_mode": "warm" if workload.warm else "cold (no prompt repeats in a session)",
        "url": arm.url,
    }  # fmt: skip


def random_prompts(
    plan: Plan, maker: PromptMaker, point: Point, key: TrialKey, arm: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(warm-up, timed) prompts of a trial on random text. `arm` is "" where the arms of a block share them."""
    seed = prompt_seed(plan, key) + (f"/{arm}" if arm else "")
    make = maker.make
    return make(point.concurrency, point.workload.isl, seed + "/warm-up"), make(
        point.requests, point.workload.isl, seed
    )
