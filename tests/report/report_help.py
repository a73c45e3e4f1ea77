"""Renders of an evidence as text, and an evidence whose every outside text is an attack."""

from __future__ import annotations

import dataclasses

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.cell import Role
from profile_and_optimize.report.render import rendered

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e\u2028|`"


def render(ev: Evidence) -> dict[str, str]:
    return {name: data.decode() for name, data in rendered(ev, decide(ev)).items()}


def hostile(ev: Evidence) -> Evidence:
    """The same campaign with a model, levers, predictions and reasons that try to get out of the page."""
    evil = [
        dataclasses.replace(a, lever=HOSTILE, predicts=HOSTILE) if a.role is Role.CANDIDATE else a for a in ev.plan.arms
    ]
    gone = tuple(dataclasses.replace(a, lever=HOSTILE, flags=("--x", HOSTILE)) for a in ev.plan.failed)
    plan = dataclasses.replace(ev.plan, model=HOSTILE, arms=tuple(evil), failed=gone)
    return dataclasses.replace(
        ev, plan=plan, failed_arms={"broken": HOSTILE}, damaged=(HOSTILE,), given_up={9: HOSTILE}
    )
