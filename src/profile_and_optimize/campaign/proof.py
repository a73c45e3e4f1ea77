"""The proof of the pick: fresh blocks of baseline, A/A arm, the pick and its twin, and what they say. Pure; running, deciding
and verifying all ask here.

The exploration (race, looks) ends with a call, and its pick is a DRAFT: a few blocks cannot tell a candidate that is better
from one whose sessions vary unlike the others'. The proof's blocks are judged by their signs, which assume nothing of the noise
but that blocks are independent, and by the t interval beside them (`stats.proof`). A campaign with one candidate has nothing to
select, so its blocks count for the proof from the first on: its plan holds the twin already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.campaign.endpoint import Table, metric_table, primary_table
from profile_and_optimize.campaign.looks import Looks, aa_effects, looks, pick_of, vetoed, wants_more
from profile_and_optimize.campaign.selection import BEYOND, Selection
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.verdict import Call, Effect, ratio_minus_one
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.stats.paired import step_of
from profile_and_optimize.stats.proof import Signs, signs_of
from profile_and_optimize.stats.sequential import FIRST_LOOK

# The journal's word that a proof began, and of whom.
BEGAN = "proof"


@dataclass(frozen=True, slots=True)
class Proof:
    """What the proof of `pick` says so far. `plan` holds its four arms, `selection` the blocks that count, `differences`
    mean(pick, twin) - mean(baseline, A/A) of the primary endpoint by block, as log ratios; `sessions` the log ratio of every
    session of pick and twin to the block's mean(baseline, A/A)."""

    pick: str
    plan: Plan
    selection: Selection
    differences: Mapping[int, float]
    sessions: Mapping[tuple[int, str], float]
    signs: Signs

    @property
    def stage(self) -> Stage:
        """PROVE where the blocks are the proof's own, CONFIRM where it counts those of the exploration."""
        return self.selection.stage

    @property
    def limit(self) -> int:
        """The most blocks it may have."""
        return self.selection.proof_limit

    @property
    def open(self) -> bool:
        """Is it neither proven nor out of reach, with blocks left and pick and twin alive? Below three blocks it goes on, so
        that the DRAFT can stand or fall by them."""
        twin = self.plan.pick_twin
        left = self.limit - len(self.selection.blocks)
        dead = {self.pick, twin.id if twin else ""} & self.selection.failed
        return (
            not dead
            and not self.signs.proven
            and left > 0
            and (self.signs.measured < FIRST_LOOK or self.signs.within_reach(left))
        )

    @property
    def stands(self) -> bool | None:
        """Does the DRAFT stand by these blocks? None while they are open or fewer than three."""
        if self.signs.proven:
            return True
        return None if self.open or self.signs.measured < FIRST_LOOK else self.signs.by_interval

    @property
    def worst(self) -> float | None:
        """The log ratio of the block in which the pick came out worst."""
        return min(self.differences.values(), default=None)

    @property
    def effect(self) -> Effect:
        """Pick against baseline by these blocks alone, as a t interval."""
        s = self.signs
        call = Call.BETTER if s.by_interval else Call.UNKNOWN
        return Effect(
            self.pick,
            s.mean if s.lower is not None else None,
            s.lower,
            s.upper,
            s.level,
            s.measured,
            s.p_value,
            call,
            "",
        )


def pick_to_prove(plan: Plan, selection: Selection, found: Looks | None = None) -> str | None:
    """Who the exploration ends with: None while it goes on, when nobody was called BETTER, or under the A/A veto."""
    if any(wants_more(plan, selection, group) for group in plan.groups):
        return None
    return called(plan, selection, found)


def called(plan: Plan, selection: Selection, found: Looks | None = None) -> str | None:
    """The candidate that the looks so far would pick."""
    effects = (found or looks(plan, selection)).effects
    if vetoed(aa_effects(plan, selection)):
        return None
    fit = {a: e for a, e in effects.items() if a not in selection.failed}
    pick = pick_of(plan, fit)
    return None if pick == plan.baseline.id else pick


def began(events: Iterable[Event]) -> str | None:
    """Whose proof the journal says was begun."""
    return next((str(e.data["pick"]) for e in events if e.kind == BEGAN), None)


def added_proof(events: Iterable[Event]) -> int:
    """Blocks added to the proof after the planned ones."""
    return sum(e.data["blocks"] for e in events if e.kind == "extended" and e.data.get("stage") == Stage.PROVE)


def wanted(plan: Plan, selection: Selection, group: tuple[str, ...]) -> bool:
    """May another block of this group still change the exploration's answer or, where its blocks count for it, the proof?"""
    if selection.stage is Stage.CONFIRM and wants_more(plan, selection, group):
        return True
    if plan.pick_twin is None:
        return False
    proof = proof_of(plan, selection)
    return proof.open and (selection.stage is Stage.PROVE or called(plan, selection) == proof.pick)


def proof_of(plan: Plan, selection: Selection) -> Proof:
    """`plan` is that of the proof (`Plan.proving`), `selection` of the blocks that count for it."""
    pick = plan.candidates[0].id
    table = _counting(selection, primary_table(plan, selection, plan.groups[0]))
    step = step_of(v for row in table.values() for v in row.values())
    sessions = dict(_sessions(plan, pick, table))
    differences = {b: _mean(sessions, b) for b, _ in sessions}
    # A whole block without a value of each of the four says nothing for the pick, and may not vanish either.
    silent = set(sorted(selection.blocks)[: selection.proof_limit]) - differences.keys()
    lost = len(lost_blocks(selection)) + len(silent)
    signs = signs_of(tuple(differences.values()), math.log1p(plan.margin), plan.alpha, step, lost)
    return Proof(pick, plan, selection, differences, sessions, signs)


def lost_blocks(selection: Selection) -> tuple[int, ...]:
    """Blocks that were begun and cannot be used; whole ones beyond what was planned are not among them."""
    return tuple(b for b, why in sorted(selection.excluded.items()) if why != BEYOND)


def _counting(selection: Selection, table: Table) -> Table:
    return {b: table[b] for b in sorted(table)[: selection.proof_limit]}


def _sessions(plan: Plan, pick: str, table: Table) -> Iterable[tuple[tuple[int, str], float]]:
    """Of a whole block; one that lacks an arm (it failed for good) proves nothing."""
    base = [plan.baseline.id, *([plan.twin.id] if plan.twin else [])]
    twin = plan.pick_twin
    assert twin is not None
    for block, row in table.items():
        if {*base, pick, twin.id} <= row.keys():
            level = sum(row[a] for a in base) / len(base)
            yield from (((block, a), row[a] - level) for a in (pick, twin.id))


def _mean(sessions: Mapping[tuple[int, str], float], block: int) -> float:
    mine = [v for (b, _), v in sessions.items() if b == block]
    return sum(mine) / len(mine)


def workload_proofs(proof: Proof) -> dict[tuple[str, str], Signs]:
    """The pick on each workload and focus metric over the proof's blocks: a t interval at the campaign's error."""
    plan = proof.plan
    out = {}
    for point in plan.points:
        for metric in plan.primary:
            table = metric_table(plan, proof.selection, plan.groups[0], point.key, metric)
            table = _counting(proof.selection, table)
            sessions = dict(_sessions(plan, proof.pick, table))
            step = step_of(v for row in table.values() for v in row.values())
            mine = dict.fromkeys(b for b, _ in sessions)
            out[point.key, metric] = signs_of([_mean(sessions, b) for b in mine], 0.0, plan.alpha, step)
    return out


def proof_json(proof: Proof | None) -> dict[str, Any] | None:
    """Ratios minus one, as everywhere in `champion_select.json`."""
    if proof is None:
        return None
    s = proof.signs

    def ratio(v: float | None) -> float | None:
        return None if v is None else ratio_minus_one(v)

    return {
        "pick": proof.pick, "blocks_at_most": proof.limit, "blocks": s.blocks, "above_margin": s.wins, "lost": s.lost, "e_value": s.e_value,
        "proven": s.proven, "open": proof.open, "estimate": ratio(s.mean), "lower": ratio(s.lower), "upper": ratio(s.upper),
        "level_one_sided": s.level, "p_value_one_sided": s.p_value, "worst_block": ratio(proof.worst),
        "by_block": {str(b): ratio(d) for b, d in sorted(proof.differences.items())},
        "from_the_first_block": proof.stage is Stage.CONFIRM,
    }  # fmt: skip
