"""What a reader can do about a run of servers that pao did not start: commands that `pao ab` has, written out."""

from __future__ import annotations

import shlex

from profile_and_optimize.campaign.timing import restarted
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.report.words import plain

UNSEEN = "pao ab cannot tell of a server it did not start; pao run_controlled_ab starts both servers"


def endpoint_todo(plan: Plan, run: str) -> dict[str, str]:
    """The advice by check, in place of that for servers that pao starts; empty for a run of those."""
    if restarted(plan):
        return {}
    again = f"pao ab --resume {shlex.quote(plain(run))}"
    return {
        "primary test": f"add blocks: {again} --extend 4",
        "proof of the pick": UNSEEN,
        "interim analyses complete": f"run the blocks that are left: {again}",
        "restarts": UNSEEN,
        "pinned source": UNSEEN,
        "quiet machine": UNSEEN,
        "grounding": UNSEEN,
        "accuracy": f"ask both sides questions: {anew(plan)} --questions FILE.jsonl",
        "SLO": "lower the load, and measure again; more blocks narrow the interval",
        "failed requests": "read the errors of the failed requests in the trial files and in the servers' own logs",
        "servers stay up": "read the servers' own logs, correct what ended them, and compare again",
        "steady state": f"more requests in each trial: {anew(plan, more=4)}",
        "records readable": "restore the damaged files from a copy, or compare again",
    }


def anew(plan: Plan, more: int = 1) -> str:
    """The command that compares the same two endpoints once more, with `more` times the requests in each trial."""
    urls = [next(a.url for a in plan.all_arms if a.role.value == role) for role in ("baseline", "candidate")]
    names = [next(a.id for a in plan.all_arms if a.role.value == role) for role in ("baseline", "candidate")]
    slots = sorted({p.concurrency for p in plan.points})
    words = ["pao", "ab", *urls, "--workload", plan.suite, "--concurrency", ",".join(map(str, slots))]
    words += ["--focus", plan.focus] if plan.focus != "throughput" else []
    words += [
        x for o, n, usual in zip(("--name-a", "--name-b"), names, ("a", "b"), strict=True) if n != usual for x in (o, n)
    ]
    words += ["--requests", str(more * max(p.requests for p in plan.points))] if more > 1 else []
    words += ["--budget-minutes", f"{more * plan.budget_s / 60:g}"] if plan.budget_s else []
    return shlex.join(plain(w) for w in words)
