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
from profile_and_optimize.workloads.draw import Drawn, draw_prompts


def asked_by_plan(plan: Plan, arm: Arm, point: Point) -> dict[str, str]:
    """Context fields that follow from plan, arm and point alone; "" where there is nothing to say."""
    workload = point.workload
    return {
        "engine": arm.engine, "flags": " ".join((*plan.common_flags, *arm.flags)) or "engine defaults",
        "env": " ".join(f"{k}={v}" for k, v in (*plan.common_env, *arm.env)) or "none",
        "model": plan.model if arm.engine != "endpoint" else "", "base_model_digest": plan.model_digest,
        "checkpoint_digest": plan.digest_of(arm), "suite": plan.suite,
        "workload": workload.asked, "load": point.load, "cache_mode": workload.cache_mode,
        "url": arm.url,
    }  # fmt: skip


def made_prompts(plan: Plan, maker: PromptMaker, point: Point, key: TrialKey, arm: str) -> Drawn:
    """The prompts of a trial whose workload needs no file. `arm` is "" where the arms of a block share them."""
    shape = prompt_seed(plan, key)
    seed = shape + (f"/{arm}" if arm else "")
    return draw_prompts(point.workload, maker, point.concurrency, point.requests, seed, shape=shape)
