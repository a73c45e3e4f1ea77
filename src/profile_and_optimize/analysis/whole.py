"""The gate on what was measured and does not count: blocks lost, trials broken off, trials run twice. Pure.

An honest machine loses them at random, and that changes nothing. But whoever may look at a block before it is lost picks
the data: `stats.lost_blocks` says how far that goes.
"""

from __future__ import annotations

from profile_and_optimize.analysis.crashes import twins_of
from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.proof import Proof, lost_blocks
from profile_and_optimize.campaign.selection import Selection
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage

GATE = "no run cut short"
MOST_LOST = 1


def whole_gate(ev: Evidence, selection: Selection, pick: str, proof: Proof | None) -> Gate:
    """At most one block, trial or attempt was lost of those that the pick's answer rests on: blocks that hold it, given up
    for whatever reason; trials in them of it and of what it is measured against. The answer of the baseline rests on all.

    `proof` is that of the pick. A block that its proof lost counts there as not above the margin, so it picks nothing and is
    not counted here; its trials that were run again are."""
    plan = ev.plan
    cut = sum(e.kind == "interrupted" for e in ev.events)
    lost = set(lost_blocks(selection))
    again = [t.key for t in ev.trials if t.key.stage is Stage.CONFIRM and t.key.attempt > 1 and t.key.block not in lost]
    mine = {b for b in lost if _holds(plan, b, pick)}
    twice = [k for k in again if k.arm in _rests_on(plan, pick) and _holds(plan, k.block, pick)]
    others = len(lost) - len(mine) + len(again) - len(twice)
    proving = _again_in(ev, proof)
    words = (
        f"{cut} times a trial was begun and left without records, {len(mine)} blocks given up, {len(twice) + proving} trials run "
        f"again (at most {MOST_LOST} together)" + (f"; {others} more in which {pick} has no part" if others else "")
    )
    return Gate(GATE, True if cut + len(mine) + len(twice) + proving <= MOST_LOST else None, words)


def _again_in(ev: Evidence, proof: Proof | None) -> int:
    """Trials run again in blocks of the proof's own that count."""
    if proof is None or proof.stage is not Stage.PROVE:
        return 0
    return sum(
        t.key.stage is Stage.PROVE and t.key.attempt > 1 and t.key.block in proof.selection.blocks for t in ev.trials
    )


def _holds(plan: Plan, block: int, pick: str) -> bool:
    return pick == plan.baseline.id or pick in plan.group_of_block(block)


def _rests_on(plan: Plan, pick: str) -> set[str]:
    arms = plan.all_arms
    if pick == plan.baseline.id:
        return {a.id for a in arms}
    return {*(a.id for a in arms if a.role in (Role.BASELINE, Role.AA)), *twins_of(plan, pick)}
