"""What must agree inside a run whatever the numbers are. One trial's own books are looked at when it is loaded
(`check_records`, `check_server`); here is what needs several files: plan, order, prompts, context. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from profile_and_optimize.analysis.check_context import check_context, check_counters
from profile_and_optimize.analysis.check_copies import check_copies
from profile_and_optimize.analysis.check_earlier import check_earlier
from profile_and_optimize.analysis.check_order import check_order
from profile_and_optimize.analysis.check_plan import check_plan
from profile_and_optimize.analysis.check_prompts import check_prompts
from profile_and_optimize.analysis.check_sessions import check_sessions
from profile_and_optimize.analysis.check_starts import check_starts
from profile_and_optimize.analysis.check_times import check_times
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.loading import ODD, Remark


def crosscheck(ev: Evidence) -> list[Remark]:
    """Each disagreement; empty when everything agrees. What cannot be checked, because it has another shape than it
    should, is one as well, and the other checks go on."""
    checks: tuple[tuple[str, Callable[[], Iterable[Remark]]], ...] = (
        ("plan", lambda: check_plan(ev)),
        ("order", lambda: check_order(ev)),
        ("starts", lambda: check_starts(ev)),
        ("earlier campaigns", lambda: check_earlier(ev)),
        ("prompts", lambda: check_prompts(ev)),
        ("context", lambda: check_context(ev.trials)),
        ("counters", lambda: check_counters(ev.trials)),
        ("times", lambda: check_times(ev)),
        ("sessions", lambda: check_sessions(ev)),
        ("copies", lambda: check_copies(ev.trials, ev.marks)),
    )
    found: list[Remark] = []
    for name, check in checks:
        try:
            found += check()
        except ODD as e:
            found.append(Remark(name, f"cannot be checked: {type(e).__name__} {e}"))
    return found
