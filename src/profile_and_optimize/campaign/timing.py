"""What a campaign will cost, stated before it starts, and the number of blocks a budget buys. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.plan import LEAST_PROOF, MAX_ARMS_IN_BLOCK, Plan, twin_of
from profile_and_optimize.stats.proof import most_useful
from profile_and_optimize.stats.sequential import FIRST_LOOK, first_look

SAFE = 1.05
# As far as the looks are tabled; a plan for more would leave its early looks next to nothing to spend.
MOST = 12
# Rounds after the first hold few arms; together they cost about half of it.
RACE_SHARE = 1.5
# A few quiet A/A runs may show next to no noise by luck; a race that believed them would drop arms too soon.
LEAST_RACE_SD, MOST_RACE_SD = 0.005, 0.5


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one round (a block of every group), of the race before it and of one block of the proof after it."""

    round_s: float
    sessions_per_round: int
    race_s: float = 0.0
    proof_s: float = 0.0

    def of(self, blocks: int) -> float:
        """The exploration, of so many blocks."""
        return self.race_s + self.round_s * blocks

    def words(self, plan: Plan) -> str:
        """Both parts, with what is left out: no tier is promised that the campaign cannot give."""
        first = first_look(plan.blocks)
        race = f"the race about {_minutes(self.race_s)}, then " if self.race_s else ""
        one = first == plan.blocks
        starts = "server starts" if restarted(plan) else "sessions"
        blocks = f"{first}" if one else f"{first} to {plan.blocks}"
        took = _minutes(self.of(first)) if one else f"{_minutes(self.of(first))} to {_minutes(self.of(plan.blocks))}"
        exploring = (
            f"{race}one block {_minutes(self.round_s)} ({self.sessions_per_round} {starts}); interim analyses from block {first} on: "
            f"a DRAFT takes {blocks} blocks, {took}"
        )
        return f"{exploring}; {self._proof_words(plan, first)}"

    def _proof_words(self, plan: Plan, first: int) -> str:
        if not restarted(plan):
            return (
                "no VERDICT: of servers that pao does not start, the source, the effect of a restart and the load of their machine are "
                "not known"
            )
        if plan.twin is None:
            return "no VERDICT: without an A/A arm nothing is called better"
        least = LEAST_PROOF
        if not plan.proof_blocks:
            more = _minutes(self.proof_s * least)
            return f"no proof is planned: a VERDICT takes {least} blocks more, {more} (a larger budget, or --extend {least} afterwards)"
        if plan.pick_twin is not None:
            return (
                f"a VERDICT takes {least} to {plan.proof_blocks} blocks in all, {_minutes(self.of(least))} to "
                f"{_minutes(self.of(max(plan.blocks, plan.proof_blocks)))}"
            )
        early = self.of(first) + self.proof_s * least
        late = self.of(plan.blocks) + self.proof_s * plan.proof_blocks
        return (
            f"the proof of a pick {least} to {plan.proof_blocks} blocks more of {_minutes(self.proof_s)}; a VERDICT {_minutes(early)} to "
            f"{_minutes(late)} in all"
        )


def restarted(plan: Plan) -> bool:
    """Does the campaign start every server itself?"""
    return not any(a.engine == "endpoint" for a in plan.arms)


def round_cost(plan: Plan, session_s: Mapping[str, float]) -> Cost:
    """From the measured seconds of one session per arm. Before a race nobody knows the finalists: the two costliest count."""
    proof = _proof_seconds(plan, session_s)
    if not plan.race_rounds or plan.raced:
        arms = [a for group in plan.groups for a in group]
        return Cost(SAFE * sum(session_s[a] for a in arms), len(arms), proof_s=proof)
    entrants = sorted((session_s[a.id] for a in plan.candidates), reverse=True)
    blocks = -(-len(entrants) // (MAX_ARMS_IN_BLOCK - 1))
    race = sum(entrants) + blocks * session_s[plan.baseline.id]
    fixed = [session_s[plan.baseline.id], *([session_s[plan.twin.id]] if plan.twin else [])]
    finalists = entrants[: MAX_ARMS_IN_BLOCK - len(fixed)]
    return Cost(SAFE * (sum(fixed) + sum(finalists)), len(fixed) + len(finalists), SAFE * RACE_SHARE * race, proof)


def _proof_seconds(plan: Plan, session_s: Mapping[str, float]) -> float:
    """One block of a proof: baseline, A/A arm, and twice the costliest candidate, since nobody knows the pick."""
    fixed = [plan.baseline.id, *([plan.twin.id] if plan.twin else [])]
    dearest = max((session_s[a.id] for a in plan.candidates), default=0.0)
    return SAFE * (sum(session_s[a] for a in fixed) + 2 * dearest)


def affordable_blocks(cost: Cost, budget_s: float) -> int:
    """Whole rounds that fit after the race; at least 3, because the first look is at block 3."""
    return max(FIRST_LOOK, min(MOST, int((budget_s - cost.race_s) // cost.round_s))) if cost.round_s > 0 else FIRST_LOOK


def seconds_per_session(plan: Plan, admissions: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Measured seconds of one session per arm, starts taken warm.

    The A/A arm is the baseline started a second time, so the two starts give what a filled compile cache saves;
    arms that took longer than that warm start are taken to save as much.
    """
    base = admissions[plan.baseline.id]
    warm = admissions[plan.twin.id]["start_s"] if plan.twin else base["start_s"]
    saved = max(0.0, base["start_s"] - warm)
    out = {}
    for arm in plan.arms:
        # The twin of a pick is not admitted by itself: it is the pick.
        found = admissions[plan.candidates[0].id if arm is plan.pick_twin else arm.id]
        probe = found["probe_s"] or base["probe_s"]
        start = max(min(found["start_s"], warm), found["start_s"] - saved)
        out[arm.id] = start + found["stop_s"] + sum(probe.values())
    return out


def freeze(
    draft: Plan,
    failed: Collection[str],
    admissions: Mapping[str, Mapping[str, Any]],
    node_sd: float | None,
    checkpoints: Mapping[str, Mapping[str, Any]],
) -> tuple[Plan, Cost]:
    """The plan that a draft becomes once every arm was admitted or has failed, and what its blocks cost.

    `node_sd`: the noise of one session as this node's earlier A/A arms showed it, which a race then expects.
    `checkpoints` are the kept records of what the arms serve in the model's place, by arm.
    """
    if admissions[draft.baseline.id].get("hurried"):
        draft = draft.hurried()
    draft = replace(draft, arms=tuple(_digested(a, checkpoints) for a in draft.arms))
    alive = draft.less(frozenset(a.id for a in draft.arms if a.id in failed))
    # What admission took, not the wall clock since the folder was made: that may be yesterday.
    spent = sum(admissions[a.id]["total_s"] for a in alive.arms)
    alive = _sized(alive, admissions, draft.budget_s - spent)
    cost = round_cost(alive, seconds_per_session(alive, admissions))
    race_sd = min(max(node_sd, LEAST_RACE_SD), MOST_RACE_SD) if node_sd else draft.race_sd
    gap = max(draft.gap_limit_s, 3 * cost.round_s, 3 * cost.proof_s if alive.proof_blocks else 0.0)
    return replace(alive, gap_limit_s=gap, race_sd=race_sd), cost


def _sized(plan: Plan, admissions: Mapping[str, Mapping[str, Any]], budget_s: float) -> Plan:
    """The plan with its blocks and those of the proof: as its author said, else what the budget buys. The draft's proof blocks
    are the most it may have. One candidate alone is measured with its twin from the first block, where that can prove it."""
    cost = round_cost(plan, seconds_per_session(plan, admissions))
    most = plan.proof_blocks if restarted(plan) and plan.twin is not None else 0
    if len(plan.candidates) == 1 and not plan.race_rounds and most:
        proof = (
            most if plan.blocks else most_useful(min(most, int(budget_s // cost.proof_s) if cost.proof_s > 0 else most))
        )
        if proof:
            twin = twin_of(plan.candidates[0], plan)
            blocks = plan.blocks or min(MOST, proof)
            return replace(plan, arms=(*plan.arms, twin), blocks=blocks, proof_blocks=proof)
    if plan.blocks:
        return replace(plan, proof_blocks=most)
    least = cost.of(FIRST_LOOK)
    fits = int((budget_s - least) // cost.proof_s) if cost.proof_s > 0 else most
    proof = most_useful(min(most, max(0, fits)))
    return replace(plan, blocks=affordable_blocks(cost, budget_s - proof * cost.proof_s), proof_blocks=proof)


def _digested(arm: Arm, checkpoints: Mapping[str, Mapping[str, Any]]) -> Arm:
    found = checkpoints.get(arm.id)
    return arm if found is None else replace(arm, checkpoint_digest=found["digest"])


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
