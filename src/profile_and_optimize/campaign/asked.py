"""What a plan says that a trial's context must show as asked. One place: the runner writes it, verify expects it."""

from __future__ import annotations

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.plan import Plan
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
