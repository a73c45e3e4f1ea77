"""The champion: effects, veto, gates, tier and pick, all from evidence. Verify runs this same function."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from profile_and_optimize.analysis import across, checkpoints, crashes
from profile_and_optimize.analysis import gates as g
from profile_and_optimize.analysis import machine_gates as m
from profile_and_optimize.analysis.whole import whole_gate
from profile_and_optimize.campaign import earlier
from profile_and_optimize.campaign.evidence_of import Evidence, proof_in, selection_of
from profile_and_optimize.campaign.looks import aa_effects, looks, pick_of, rival_name, vetoed
from profile_and_optimize.campaign.proof import Proof, proof_json
from profile_and_optimize.campaign.selection import Judged, Selection
from profile_and_optimize.core.context import UNKNOWN, context_from_json, differences
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.verdict import Call, Effect, Tier, ratio_minus_one

LENGTHS = 0.02
# Log of the largest ratio that is printed as a number.
MOST_SHOWN = math.log(1e6)
# Measured by bench/false_verdicts.py: sessions of two speeds, 3% above and below a mean that is no better; 13% after a race of 15.
ASSUMES = "it assumes that sessions of this arm vary like the others' (with two speeds, up to 13% of campaigns call a wrong winner)"
# Of the good requests, without a value: a mean or median over the others may be compared up to here, and if the shares of
# the two sides lie no farther apart.
UNKNOWN_SHARE, UNKNOWN_APART = 0.01, 0.01


@dataclass(frozen=True)
class Decision:
    """`pick` is an arm id. `effects` are of the candidates on the primary endpoint; `aa` the baseline against itself; `rivals`
    quantized arms of ours against the vendor's, by `rival_name`; `proof` what the proof of the exploration's pick says, None
    where there was none; `starts` of servers by arm, and why an arm is `not_shipped`."""

    pick: str
    tier: Tier
    why: str
    effects: Mapping[str, Effect]
    aa: Effect | None
    vetoed: bool
    gates: tuple[g.Gate, ...]
    failed: Mapping[str, str]
    selection: Selection
    mismatches: Mapping[str, tuple[str, ...]]
    decided_at: Mapping[str, int]
    raced: Mapping[str, float | None]
    rivals: Mapping[str, Effect] = field(default_factory=dict)
    proof: Proof | None = None
    starts: Mapping[str, crashes.Starts] = field(default_factory=dict)
    not_shipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def counted(self) -> tuple[Judged, ...]:
        """Trials that the decision rests on: those of the exploration's whole blocks and of the proof's own."""
        return (*used_trials(self.selection), *used_in_proof(self.proof))

    @property
    def open_gates(self) -> tuple[g.Gate, ...]:
        return tuple(x for x in self.gates if x.passed is not True)


def decide(ev: Evidence) -> Decision:
    plan = ev.plan
    selection = selection_of(ev)
    found = looks(plan, selection)
    proof = proof_in(ev, selection)
    failed = _with_twin(ev.failed_arms, proof)
    effects = {a: _failed(e, failed.get(a)) for a, e in found.effects.items()}
    effects = {a: _provisional(e) for a, e in effects.items()}
    mismatches = incomparable(plan, selection)
    pairs = {rival_name(*p): p for p in plan.rivals}
    effects = {a: _refused(e, _mismatched(mismatches, pairs.get(a, (a,)))) for a, e in effects.items()}
    twins = [*aa_effects(plan, selection), *_proofs_own_aa(proof)]
    aa = max(twins, key=_away_from_zero, default=None)
    veto = vetoed(twins)
    if veto:
        why = "vetoed: the baseline differed from itself in this campaign"
        effects = {a: _held_back(e, why) for a, e in effects.items()}
    if proof is not None and effects[proof.pick].call is Call.BETTER:
        effects[proof.pick] = _judged_again(effects[proof.pick], proof)
    served, starts = _with_every_twin(plan, proof), crashes.counted(ev.events)
    effects |= crashes.held_back(served, starts, {a.id: effects[a.id] for a in plan.candidates})
    pick = pick_of(plan, effects)
    rivals = {name: effects.pop(name) for name in pairs}
    checks = _gates(ev, plan, selection, effects, aa, pick, proof)
    tier = Tier.VERDICT if all(x.passed for x in checks) else Tier.DRAFT
    return Decision(
        pick, tier, _why(plan, pick, effects, proof) + crashes.passed_over(served, starts, effects),
        effects, aa, veto, checks, ev.failed_arms, selection, mismatches,
        found.decided_at, {a.id: ev.race.last.estimates.get(a.id) if ev.race and ev.race.last else None for a in plan.raced},
        rivals, proof, starts, crashes.not_shipped(served, starts),
    )  # fmt: skip


def _with_every_twin(plan: Plan, proof: Proof | None) -> Plan:
    """The plan with the pick's twin among the arms that stand aside: it serves what the pick serves, and counts with it."""
    twin = proof.plan.pick_twin if proof is not None and proof.stage is Stage.PROVE else None
    return plan if twin is None else replace(plan, raced=(*plan.raced, twin))


def _with_twin(failed: Mapping[str, str], proof: Proof | None) -> dict[str, str]:
    """The twin of a pick is the pick: when it failed for good, the pick did."""
    twin = proof.plan.pick_twin if proof else None
    if proof is None or twin is None or twin.id not in failed:
        return dict(failed)
    return {proof.pick: f"its twin: {failed[twin.id]}", **failed}


def _provisional(e: Effect) -> Effect:
    """A BETTER of the exploration names what it assumes."""
    return replace(e, reason=f"{e.reason}; {ASSUMES}") if e.call is Call.BETTER else e


def _judged_again(e: Effect, proof: Proof) -> Effect:
    """The DRAFT stands or falls by the blocks of the proof."""
    if proof.stands is not False:
        return e
    s = proof.signs
    found = ratio_words(proof.effect)
    why = f"its proof did not confirm it: {s.wins} of {s.blocks} blocks lie above the margin, {found} over them"
    return replace(e, call=Call.UNKNOWN, reason=why, blocks_needed=None)


def _proofs_own_aa(proof: Proof | None) -> list[Effect]:
    """The baseline against itself in the proof's own blocks; those of the exploration are looked at already."""
    if proof is None or proof.stage is not Stage.PROVE or not proof.selection.blocks:
        return []
    return aa_effects(proof.plan, proof.selection)


def _gates(
    ev: Evidence, plan: Plan, selection: Selection, effects: Mapping[str, Effect], aa: Effect | None, pick: str,
    proof: Proof | None,
) -> tuple[g.Gate, ...]:  # fmt: skip
    mine = proof if proof is not None and proof.pick == pick else None
    explored, proven = used_trials(selection), used_in_proof(proof)
    used = (*explored, *proven)
    damage = g.Gate("records readable", not ev.damaged, "; ".join(ev.damaged) or "all")
    matched = across.matched_gate(plan, used)
    return (
        g.primary_gate(pick, plan, effects, ev.failed_arms),
        g.proof_gate(pick, plan, mine, doubts_of(mine)),
        g.worst_block_gate(pick, plan, selection, mine),
        g.aa_gate(plan, aa),
        g.suite_gate(pick, plan, selection, mine),
        g.accuracy_gate(pick, plan, ev.accuracy),
        *(
            [checkpoints.checkpoint_gate(pick, plan, ev.checkpoints, ev.jobs)]
            if any(a.checkpoint for a in plan.all_arms)
            else []
        ),
        g.slo_gate(pick, plan, selection, mine),
        g.failure_gate(pick, plan, used, twin_in(mine)),
        g.blocks_gate(plan, selection, proof),
        g.client_gate(used),
        g.restart_gate(plan),
        crashes.crash_gate(pick, _with_every_twin(plan, proof), crashes.counted(ev.events)),
        whole_gate(ev, selection, pick, mine),
        g.order_gate(plan, explored, proof, {e.data["path"]: e.seq for e in ev.events if e.kind == "wrote"}),
        g.steady_gate(used),
        m.quiet_gate(used),
        m.prompts_repeat_gate(used, plan),
        m.cache_gate(used, plan),
        m.provenance_gate(pick, plan, used, twin_in(mine)),
        g.grounding_gate(used),
        *([matched] if matched else []),
        damage,
    )


def doubts_of(proof: Proof | None) -> tuple[str, ...]:
    """Why the blocks of a proof may not be compared, arm by arm: what holds for the exploration holds for its four arms too."""
    if proof is None:
        return ()
    found = incomparable(proof.plan, proof.selection)
    return tuple(f"{arm}: {'; '.join(why)}" for arm, why in sorted(found.items()))


def twin_in(proof: Proof | None) -> tuple[str, ...]:
    """The id of the pick's twin, which has to be as sound as the pick."""
    twin = proof.plan.pick_twin if proof is not None else None
    return (twin.id,) if twin is not None else ()


def used_in_proof(proof: Proof | None) -> tuple[Judged, ...]:
    """Trials of the proof's own blocks, none where it counts those of the exploration."""
    return used_trials(proof.selection) if proof is not None and proof.stage is Stage.PROVE else ()


def used_trials(selection: Selection) -> tuple[Judged, ...]:
    return tuple(
        t
        for _, arms in sorted(selection.blocks.items())
        for _, pts in sorted(arms.items())
        for _, t in sorted(pts.items())
    )


def _away_from_zero(e: Effect) -> float:
    if e.estimate is None or e.upper is None:
        return -1.0
    half = e.upper - e.estimate
    return abs(e.estimate) / half if half > 0 else math.inf


def incomparable(plan: Plan, selection: Selection) -> dict[str, tuple[str, ...]]:
    """Per arm, in words, why it may not be compared with the baseline: environment, lengths, parallelism, engines that do
    not match, failures."""
    out: dict[str, set[str]] = {}
    used = used_trials(selection)
    reference = {t.key.point: t for t in used if t.key.arm == plan.baseline.id}
    # Other blocks have other prompts, and those of recorded conversations other lengths.
    beside = {(t.key.block, t.key.point): t for t in used if t.key.arm == plan.baseline.id}
    for t in used:
        base = reference.get(t.key.point)
        if base is not None:
            lengths = _lengths(beside.get((t.key.block, t.key.point), base), t)
            out.setdefault(t.key.arm, set()).update(
                (
                    *_environment(base, t),
                    *lengths,
                    *_unknown(plan, base, t),
                    *_parallelism(base, t),
                    *across.unmatched(base, t),
                )
            )
    for arm in (*plan.candidates, *([plan.pick_twin] if plan.pick_twin else [])):
        out.setdefault(arm.id, set()).update(_failures(plan, used, arm.id))
    return {a: tuple(sorted(d)) for a, d in out.items() if d}


def _environment(base: Judged, t: Judged) -> tuple[str, ...]:
    return differences(context_from_json(base.file.context), context_from_json(t.file.context), "environment")


def _lengths(base: Judged, t: Judged) -> Iterator[str]:
    """Tokens in and out as the servers counted them; an arm that answers less is not faster."""
    for name in ("isl_observed", "osl_observed"):
        one, two = getattr(base.summary, name), getattr(t.summary, name)
        if one and two and abs(two / one - 1) > LENGTHS:
            yield f"{name}: {one:.1f} | {two:.1f}"


def _unknown(plan: Plan, base: Judged, t: Judged) -> Iterator[str]:
    """What is a mean or a median over the requests that have a value, on a side where too many have none."""
    means = {"osl_observed": "output_tokens", "isl_observed": "prompt_tokens"}
    shown = {means[m]: [getattr(x.summary, m) for x in (base, t)] for m in means}
    shown |= {m: [x.summary.value(m) for x in (base, t)] for m in plan.primary}
    for name, values in shown.items():
        one, two = (x.summary.unknown_share(name) for x in (base, t))
        if values != [None, None] and not comparable(one, two):
            yield f"{name} unknown of {one:.1%} | {two:.1%} of the answers (limit {UNKNOWN_SHARE:.0%})"


def comparable(one: float, two: float) -> bool:
    """May means over the requests with a value be compared, of two sides on which these shares have none?"""
    return max(one, two) <= UNKNOWN_SHARE and abs(one - two) <= UNKNOWN_APART


def _parallelism(base: Judged, t: Judged) -> Iterator[str]:
    """Throughput is not yet divided by GPUs, so arms on unequal numbers of them may not be compared."""
    for name in ("tp", "pp", "dp"):
        one, two = (context_from_json(x.file.context).get(name) for x in (base, t))
        if one != two and UNKNOWN not in (one, two):
            yield f"{name}: {one} | {two} (throughput per GPU is not computed for unequal numbers of GPUs)"


def _failures(plan: Plan, used: Sequence[Judged], arm_id: str) -> Iterator[str]:
    """Failed requests drop out of every latency, so an arm that has them on either side proves nothing."""
    for who in (plan.baseline.id, arm_id):
        share = g.failure_share(used, who)
        if share is not None and share > plan.failure_rate_limit:
            yield f"{who} failed {share:.1%} of its requests (limit {plan.failure_rate_limit:.0%})"


def _mismatched(mismatches: Mapping[str, tuple[str, ...]], arms: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for a in arms for text in mismatches.get(a, ()))


def _why(plan: Plan, pick: str, effects: Mapping[str, Effect], proof: Proof | None) -> str:
    if pick == plan.vendor and [
        a for a, e in effects.items() if a != pick and (e.estimate or 0) > (effects[pick].estimate or 0)
    ]:
        return f"{ratio_words(effects[pick])}; none of ours was shown to be better than the vendor's, and a tie keeps the vendor's"
    if pick == plan.baseline.id:
        tied = across.ties(plan, effects)
        between = f"; a tie between engines, which goes to the incumbent: {', '.join(tied)} is the same" if tied else ""
        return f"no candidate was shown to be better, so the baseline stands{between}"
    e = effects[pick]
    said = f"{ratio_words(e)} on {' and '.join(plan.primary)} over {e.blocks} blocks"
    if proof is None or proof.pick != pick or not proof.signs.blocks:
        return said
    s = proof.signs
    return f"{said}; its proof: {s.wins} of {s.blocks} blocks above the margin, {ratio_words(proof.effect)}"


def ratio_words(e: Effect) -> str:
    """The effect as a percentage with its interval, "unknown" without one."""
    if e.estimate is None or e.lower is None or e.upper is None:
        return "unknown"
    return f"{percent(e.estimate)} ({percent(e.lower)} to {percent(e.upper)})"


def percent(log_ratio: float) -> str:
    """A log ratio as a signed percentage; what rounds to zero is +0.0%, never -0.0%. Two blocks may leave an interval that ends
    nowhere: beyond a ratio of a million it says so."""
    if log_ratio > MOST_SHOWN:
        return f"over +{math.expm1(MOST_SHOWN):.0%}"
    return f"{round(math.expm1(log_ratio), 3) + 0.0:+.1%}"


def _failed(e: Effect, reason: str | None) -> Effect:
    return (
        e if reason is None else replace(e, call=Call.UNKNOWN, reason=f"the cell failed: {reason}", blocks_needed=None)
    )


def _refused(e: Effect, why: tuple[str, ...]) -> Effect:
    """No interval either: a number that may not be compared may not be shown as a comparison."""
    if not why:
        return e
    reason = f"not comparable: {'; '.join(why)}"
    return replace(
        e, estimate=None, lower=None, upper=None, p_value=None, call=Call.UNKNOWN, reason=reason, blocks_needed=None
    )


def _held_back(e: Effect, reason: str) -> Effect:
    return replace(e, call=Call.UNKNOWN, reason=reason, blocks_needed=None) if e.call is Call.BETTER else e


def decision_json(ev: Evidence, d: Decision) -> dict[str, Any]:
    """What `champion_select.json` holds."""
    return {
        "schema": 1,
        "run_id": ev.run.name,
        "plan_digest": ev.frozen.digest,
        "evidence_root": ev.root,
        "focus": ev.plan.focus,
        "primary_endpoint": list(ev.plan.primary),
        "suite": ev.plan.suite,
        "pick": d.pick,
        "tier": d.tier.value,
        "why": d.why,
        "baseline": ev.plan.baseline.id,
        "engines": across.ranks_json(ev.plan, d.effects),
        "rivals": {name: effect_json(e) for name, e in sorted(d.rivals.items())},
        "arms": [arm_json(ev, d, a.id) for a in ev.plan.all_arms],
        "aa_vetoed": d.vetoed,
        "gates": [x.to_json() for x in d.gates],
        "proof": proof_json(d.proof),
        "earlier_campaigns": list(earlier.words(ev.earlier, [a.id for a in ev.plan.candidates])),
        "blocks": {
            "planned": ev.plan.total_blocks,
            "added": ev.added * len(ev.plan.groups),
            "whole": sorted(d.selection.blocks),
            "excluded": {str(k): v for k, v in sorted(d.selection.excluded.items())},
            "open": {str(k): v for k, v in sorted(d.selection.open.items())},
        },
    }


def arm_json(ev: Evidence, d: Decision, arm_id: str) -> dict[str, Any]:
    arm = ev.plan.arm(arm_id)
    effect = d.aa if d.aa is not None and arm_id == d.aa.arm else d.effects.get(arm_id)
    return {
        "cell": arm_id,
        "role": arm.role.value,
        "engine": arm.engine,
        "lever": arm.lever,
        "predicted": prediction_json(arm.predicted, effect),
        "status": "failed" if arm_id in d.failed else "raced" if arm_id in d.raced else "full",
        "failure": d.failed.get(arm_id),
        "effect": effect_json(effect),
        "decided_at_block": d.decided_at.get(arm_id),
        "race": race_json(ev, arm_id),
        **d.starts.get(arm_id, crashes.Starts()).to_json(),
        "not_shipped": d.not_shipped.get(arm_id),
    }


def race_json(ev: Evidence, arm_id: str) -> dict[str, Any] | None:
    """Where the race left an arm: exploratory, without an interval on purpose. None where there was none."""
    last = ev.race.last if ev.race else None
    if last is None or arm_id not in last.estimates:
        return None
    return {
        "estimate": ratio_minus_one(last.estimates[arm_id]),
        "p_best": last.p_best.get(arm_id, 0.0),
        "finalist": arm_id in last.finalists,
    }


def effect_json(e: Effect | None) -> dict[str, Any] | None:
    """Ratios minus one (0.05 is 5% better), None where unknown."""
    if e is None:
        return None
    return {
        "estimate": _minus_one(e.estimate), "lower": _minus_one(e.lower), "upper": _minus_one(e.upper),
        "level_one_sided": e.level, "error_one_sided": e.error, "blocks": e.blocks, "p_value_one_sided": e.p_value, "call": e.call.value,
        "reason": e.reason, "blocks_needed": e.blocks_needed,
    }  # fmt: skip


def prediction_json(predicted: tuple[float, float] | None, effect: Effect | None) -> dict[str, Any] | None:
    """The range written before measuring, and its score: inside, outside or UNKNOWN, by the interval."""
    if predicted is None:
        return None
    outcome = "UNKNOWN"
    if effect is not None and effect.lower is not None and effect.upper is not None:
        low, high = math.exp(effect.lower), math.exp(effect.upper)
        if predicted[0] <= low and high <= predicted[1]:
            outcome = "inside"
        elif high < predicted[0] or low > predicted[1]:
            outcome = "outside"
    return {"low": predicted[0], "high": predicted[1], "scored": outcome}


def _minus_one(log_ratio: float | None) -> float | None:
    return None if log_ratio is None else ratio_minus_one(log_ratio)
