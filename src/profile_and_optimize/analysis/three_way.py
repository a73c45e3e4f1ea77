"""Base, ours and the vendor's checkpoint side by side, and what to ship. Pure: verify makes the same document again."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from profile_and_optimize.analysis import checkpoints
from profile_and_optimize.analysis import gates as g
from profile_and_optimize.analysis.decide import Decision, doubts_of, effect_json, twin_in, used_trials
from profile_and_optimize.analysis.kernels import kernels_of
from profile_and_optimize.analysis.machine_gates import provenance_gate
from profile_and_optimize.campaign.accuracy import accuracy_of, clusters, right_answers
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.looks import rival_name
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call, Effect, Tier
from profile_and_optimize.stats.accuracy import score

SHIP_OURS, SHIP_VENDOR, TIE, NO_ACCURACY, NO_GAIN = (
    "ship ours", "ship vendor", "tie: keep vendor", "no ship: accuracy", "no ship: no gain",
)  # fmt: skip


# Gates about the campaign's pick alone, by name; the checkpoint that ships has its own.
PICKS_OWN = frozenset(
    {
        "primary test",
        "proof of the pick",
        "worst block",
        "accuracy",
        checkpoints.NAME,
        "no workload lost",
        "SLO",
        "failed requests",
        "pinned source",
    }
)


@dataclass(frozen=True, slots=True)
class Side:
    """One checkpoint: did it keep the answers, and is it faster than the base? None and UNKNOWN where that is not shown."""

    arm: str
    accuracy: str
    speed: Call

    @property
    def ships(self) -> bool:
        return self.accuracy != "fail" and self.speed is Call.BETTER


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to ship for one checkpoint of ours. DRAFT with every reason that keeps it from more."""

    ours: str
    call: str
    tier: Tier
    why: str
    open: tuple[str, ...]


def verdicts(ev: Evidence, d: Decision) -> tuple[Verdict, ...]:
    """One for every checkpoint of ours in the plan; none where the campaign has none."""
    plan = ev.plan
    mine = [a for a in _compared(plan) if a.id != plan.vendor]
    vendor = next((a for a in plan.all_arms if a.id == plan.vendor), None)
    return tuple(_verdict(ev, d, a, vendor) for a in mine)


def _compared(plan: Plan) -> list[Arm]:
    """The candidates that serve a checkpoint of their own, whatever became of them."""
    return [a for a in plan.all_arms if a.checkpoint and a.role is Role.CANDIDATE]


def _verdict(ev: Evidence, d: Decision, ours: Arm, vendor: Arm | None) -> Verdict:
    us, them = side(ev, d, ours), side(ev, d, vendor) if vendor else None
    between = d.rivals.get(rival_name(ours.id, vendor.id)) if vendor else None
    call, why = _call(us, them, between)
    shipped = us if call == SHIP_OURS else them if call in (SHIP_VENDOR, TIE) else None
    doubts = _doubts(ev, d, us, them, between, shipped, call)
    return Verdict(ours.id, call, Tier.DRAFT if doubts else Tier.VERDICT, why, doubts)


def _call(us: Side, them: Side | None, between: Effect | None) -> tuple[str, str]:
    """A checkpoint ships when it is faster than the base and was not shown to lose answers; of two that do, the vendor's,
    unless ours was shown to be faster than it."""
    if us.ships and them is not None and them.ships:
        if between is not None and between.call is Call.BETTER:
            return SHIP_OURS, f"{us.arm} is faster than {them.arm} at equal accuracy"
        if between is not None and between.call is Call.WORSE:
            return SHIP_VENDOR, f"{them.arm} is faster than {us.arm}"
        return TIE, f"{us.arm} was not shown to be faster than {them.arm}, and the vendor's has its provenance"
    if us.ships:
        return SHIP_OURS, f"{us.arm} is faster than the base and keeps its answers" + (
            f"; {them.arm} {_why_not(them)}" if them else ""
        )
    if them is not None and them.ships:
        return SHIP_VENDOR, f"{us.arm} {_why_not(us)}"
    if us.accuracy == "fail":
        return NO_ACCURACY, f"{us.arm} {_why_not(us)}"
    return NO_GAIN, f"{us.arm} {_why_not(us)}" + (f"; {them.arm} {_why_not(them)}" if them else "")


def _why_not(s: Side) -> str:
    if s.accuracy == "fail":
        return "loses right answers"
    told = {Call.WORSE: "is slower than the base", Call.SAME: "is as fast as the base"}
    return told.get(s.speed, "was not shown to be faster than the base")


def _doubts(
    ev: Evidence, d: Decision, us: Side, them: Side | None, between: Effect | None, shipped: Side | None, call: str
) -> tuple[str, ...]:
    out = [
        f"accuracy of {s.arm}: {s.accuracy}" for s in (us, them) if s is not None and s.accuracy not in ("pass", "fail")
    ]
    out += [
        f"speed of {s.arm}: UNKNOWN"
        for s in (us, them)
        if s is not None and s.accuracy != "fail" and s.speed is Call.UNKNOWN
    ]
    if call == TIE and (between is None or between.call is not Call.SAME):
        told = "not compared in one block" if between is None else between.reason
        out.append(f"{us.arm} against {them.arm if them else 'the vendor'}: {told}")
    if them is not None and (apart := _unlike(ev.plan.arm(us.arm), ev.plan.arm(them.arm))):
        out.append(apart)
    if shipped is not None:
        out += [f"{g.name}: {g.reason}" for g in _own_gates(ev, d, shipped.arm) if g.passed is not True]
    # The machine, the client, the order: what keeps the campaign's own pick a DRAFT keeps this one.
    return (*out, *(f"{x.name}: {x.reason}" for x in d.open_gates if x.name not in PICKS_OWN))


def _unlike(ours: Arm, theirs: Arm) -> str:
    """Two checkpoints are compared like for like when they are served alike; "" then."""
    one, two = ((*a.flags, *(f"{k}={v}" for k, v in a.env)) for a in (ours, theirs))
    if one == two:
        return ""
    words = [f"{a.id} with {' '.join(w) or 'no flags of its own'}" for a, w in ((ours, one), (theirs, two))]
    return f"not like for like: {' and '.join(words)}"


def _own_gates(ev: Evidence, d: Decision, arm: str) -> tuple[g.Gate, ...]:
    """Those gates that are about one arm, of the one that ships: the campaign may have picked another."""
    used = d.counted
    mine = d.proof if d.proof is not None and d.proof.pick == arm else None
    return (
        checkpoints.checkpoint_gate(arm, ev.plan, ev.checkpoints, ev.jobs),
        g.proof_gate(arm, ev.plan, mine, doubts_of(mine)),
        g.worst_block_gate(arm, ev.plan, d.selection, mine),
        g.suite_gate(arm, ev.plan, d.selection, mine),
        g.slo_gate(arm, ev.plan, d.selection, mine),
        g.failure_gate(arm, ev.plan, used, twin_in(mine)),
        provenance_gate(arm, ev.plan, used, twin_in(mine)),
    )


def side(ev: Evidence, d: Decision, arm: Arm) -> Side:
    told = accuracy_of(ev.frozen, ev.accuracy, arm.id)
    accuracy = told.call if told is not None else UNKNOWN
    effect = d.effects.get(arm.id)
    return Side(arm.id, accuracy, effect.call if effect is not None else Call.UNKNOWN)


def three_way(ev: Evidence, d: Decision) -> dict[str, Any] | None:
    """quant_compare.json; None for a campaign that serves one checkpoint only."""
    found = verdicts(ev, d)
    if not found:
        return None
    plan = ev.plan
    arms = [plan.baseline, *_compared(plan)]
    asked = ev.accuracy.get(plan.baseline.id)
    kernels = kernels_of(ev, d)
    return {
        "schema": 2 if kernels else 1,
        "run_id": ev.run.name, "evidence_root": ev.root, "base": plan.baseline.id, "vendor": plan.vendor or None,
        "tolerance_points": 100 * plan.accuracy_margin, "rows": [_row(ev, d, a) for a in arms],
        "between": {name: effect_json(e) for name, e in sorted(d.rivals.items())},
        "verdicts": [
            {"ours": v.ours, "verdict": v.call, "tier": v.tier.value, "why": v.why, "open": list(v.open)} for v in found
        ],
        "clusters": clusters(asked).to_json() if asked else None, "kernels": "unknown: no profile was captured",
        **kernels,
    }  # fmt: skip


def _row(ev: Evidence, d: Decision, arm: Arm) -> dict[str, Any]:
    kept = ev.checkpoints.get(arm.id, {})
    own = score(right_answers(ev.accuracy[arm.id])) if arm.id in ev.accuracy else None
    told = accuracy_of(ev.frozen, ev.accuracy, arm.id) if arm is not ev.plan.baseline else None
    size, base = kept.get("checkpoint", {}).get("bytes"), kept.get("base_bytes")
    return {
        "cell": arm.id, "role": "base" if arm.role is Role.BASELINE else "vendor" if arm.id == ev.plan.vendor else "ours",
        "checkpoint": ev.plan.model_of(arm), "digest": ev.plan.digest_of(arm),
        "flags": list(arm.flags), "env": dict(arm.env),
        "format": checkpoints.format_words(kept) if kept else "the model's own",
        "size_ratio": size / base if size and base else None,
        "failure": ev.failed_arms.get(arm.id),
        "accuracy": {"right": own.right, "n": own.n} if own else None,
        "loss_points": _points(told.loss) if told else None, "loss_lower_points": _points(told.lower) if told else None,
        "loss_upper_points": _points(told.upper) if told else None, "accuracy_gate": told.call if told else None,
        "questions_needed": told.needed if told else None,
        "kl_base": dict(checkpoints.kl_base(kept)) or None,
        "effect": effect_json(d.effects.get(arm.id)), **_speed(d, arm.id),
    }  # fmt: skip


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _speed(d: Decision, arm: str) -> dict[str, float | None]:
    """Medians over the arm's trials in whole blocks: descriptive, the effect carries the comparison."""
    mine = [t.summary for t in used_trials(d.selection) if t.key.arm == arm]
    tpot, rate = ([v for s in mine if (v := s.value(m)) is not None] for m in ("tpot", "output_throughput"))
    return {
        "tpot_ms_median": 1e3 * median(tpot) if tpot else None,
        "output_throughput_tok_s_median": median(rate) if rate else None,
    }
