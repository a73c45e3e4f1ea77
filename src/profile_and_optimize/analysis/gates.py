"""The gates of a champion: each computed from evidence, each with its reason. None means that it could not be told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from profile_and_optimize.campaign.accuracy import accuracy_of, clusters, how_many, right_answers, useless
from profile_and_optimize.campaign.endpoint import primary_table
from profile_and_optimize.campaign.looks import not_lost, not_lost_between, workload_effects
from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.campaign.proof import Proof, wanted, workload_proofs
from profile_and_optimize.campaign.selection import Judged, Selection
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.plan import LEAST_PROOF, Plan
from profile_and_optimize.core.trial import Stage, Validity
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.accuracy import score
from profile_and_optimize.stats.distributions import t_isf
from profile_and_optimize.stats.proof import Signs
from profile_and_optimize.stats.quantile import quantile_interval
from profile_and_optimize.stats.sequential import FIRST_LOOK
from profile_and_optimize.stats.steady import NO_STEADY_STATE, TOO_FEW
from profile_and_optimize.stats.summary import samples

SLO_LEVEL = 0.05
# The fewest values of which the largest bounds the p99 at one-sided 95%: 0.99^299 < 5%.
P99_VALUES = 299


@dataclass(frozen=True, slots=True)
class Gate:
    name: str
    passed: bool | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "passed": self.passed, "reason": self.reason}


def primary_gate(pick: str, plan: Plan, effects: Mapping[str, Effect], failed: Mapping[str, str]) -> Gate:
    if pick != plan.baseline.id:
        return Gate("primary test", effects[pick].call is Call.BETTER, f"{pick}: {effects[pick].reason}")
    left = [a for a, e in effects.items() if a not in failed and not shown_not_better(plan, e)]
    left += [f"{a.id} (left in the race, which calls nothing)" for a in plan.raced]
    if left:
        return Gate(
            "primary test",
            None,
            f"the baseline stands, but nothing shows yet that these are no better: {', '.join(left)}",
        )
    return Gate("primary test", True, "every candidate was shown not to be better; the baseline stands")


def shown_not_better(plan: Plan, e: Effect) -> bool:
    """SAME, WORSE, or with an interval whose upper end lies below the margin."""
    if e.call in (Call.SAME, Call.WORSE):
        return True
    return e.call is Call.UNKNOWN and e.upper is not None and e.upper < math.log1p(plan.margin)


def proof_gate(pick: str, plan: Plan, proof: Proof | None, doubts: Sequence[str]) -> Gate:
    """A pick is proven on blocks whose signs and interval agree; `proof` is that of the pick, `doubts` why its blocks may not
    be compared."""
    name = "proof of the pick"
    if pick == plan.baseline.id:
        return Gate(name, True, "the pick is the baseline")
    if any(a.engine == "endpoint" for a in plan.arms):
        return Gate(name, None, f"{pick} runs on an endpoint we did not start, so no session of it is a fresh one")
    if proof is None:
        return Gate(
            name, None, f"{pick} was called by the exploration alone; its proof takes at least {LEAST_PROOF} blocks"
        )
    if doubts:
        return Gate(name, False, f"its blocks may not be compared: {'; '.join(doubts)}")
    s = proof.signs
    spread = f"sd {_spread(proof)} over {len(proof.sessions)} sessions" if len(proof.sessions) > 1 else "no spread yet"
    where = "counted from the first block" if proof.stage is Stage.CONFIRM else "fresh blocks"
    lost = f", {s.lost} of them lost and counted as not above" if s.lost else ""
    told = f"{s.wins} of {s.blocks} blocks above the margin ({where}; e {s.e_value:.3g}, needs {s.enough:g}), {spread}{lost}"
    if s.proven:
        return Gate(
            name, True, f"{told}; interval {_interval(s)}: the median session is better by more than the margin"
        )
    left = "its blocks are still to be run" if proof.open else "no more blocks are planned that could prove it"
    stands = "the DRAFT stands by their interval" if proof.stands else "the DRAFT rests on the exploration"
    return Gate(name, None, f"{told}; interval {_interval(s)}; {left}; {stands}")


def _spread(proof: Proof) -> str:
    return f"{stdev(proof.sessions.values()):.2%}"


def _interval(s: Signs) -> str:
    return "unknown" if s.lower is None or s.upper is None else f"{_percent(s.lower)} to {_percent(s.upper)}"


def worst_block_gate(pick: str, plan: Plan, selection: Selection, proof: Proof | None) -> Gate:
    """In no block of exploration or proof did the pick come out further below the baseline than the non-inferiority margin."""
    name = "worst block"
    if pick == plan.baseline.id:
        return Gate(name, True, "the pick is the baseline")
    group = next(g for g in plan.groups if pick in g)
    table = primary_table(plan, selection, group)
    found = {f"block {b}": row[pick] - row[plan.baseline.id] for b, row in table.items() if pick in row}
    sessions: dict[str, float] = {}
    if proof is not None:
        found |= {f"{_block_word(proof)} {b}": d for b, d in proof.differences.items()}
        sessions = {f"{a} in {_block_word(proof)} {b}": v for (b, a), v in proof.sessions.items()}
    if not found:
        return Gate(name, None, "no whole block")
    where = min(found, key=lambda k: found[k])
    told = f"{pick} came out worst in {where}: {_percent(found[where])} (limit {_percent(-math.log1p(plan.non_inferiority))})"
    if sessions:
        last = min(sessions, key=lambda k: sessions[k])
        told += f"; worst session {last}: {_percent(sessions[last])}"
    return Gate(name, found[where] >= -math.log1p(plan.non_inferiority), told)


def _block_word(proof: Proof) -> str:
    return "proof block" if proof.stage is Stage.PROVE else "block"


def aa_gate(plan: Plan, aa: Effect | None) -> Gate:
    """Holds when the A/A interval includes 0: then the arrangement gives no winner where there is none."""
    if plan.twin is None or aa is None:
        return Gate("A/A arm", None, "no A/A arm was run")
    if aa.lower is None or aa.upper is None:
        return Gate("A/A arm", None, f"no interval: {aa.reason}")
    inside = aa.lower <= 0 <= aa.upper
    spread = f"{_percent(aa.lower)} to {_percent(aa.upper)}"
    return Gate("A/A arm", inside, f"the baseline against itself: {spread}, {'includes' if inside else 'excludes'} 0")


def suite_gate(pick: str, plan: Plan, selection: Selection, proof: Proof | None) -> Gate:
    """No workload of the suite lost beyond the non-inferiority margin on any focus metric: over the blocks of the proof where
    there are enough of them, else over those of the exploration."""
    if pick == plan.baseline.id:
        return Gate("no workload lost", True, "the pick is the baseline")
    if proof is not None and proof.signs.measured >= FIRST_LOOK:
        found = {key: not_lost_between(plan, s.lower, s.upper) for key, s in workload_proofs(proof).items()}
    else:
        found = {key: not_lost(plan, e) for key, e in workload_effects(plan, selection, pick).items()}
    lost, unknown = ([" ".join(key) for key, answer in found.items() if answer is wanted] for wanted in (False, None))
    margin = f"{plan.non_inferiority:.0%}"
    if lost:
        return Gate("no workload lost", False, f"lost more than {margin}: {', '.join(lost)}")
    if unknown:
        return Gate("no workload lost", None, f"not shown within {margin}: {', '.join(unknown)}")
    return Gate("no workload lost", True, f"every workload of suite {plan.suite!r} within {margin} or better")


def accuracy_gate(pick: str, plan: Plan, accuracy: Mapping[str, Mapping[str, Any]]) -> Gate:
    """The pick's net loss of right answers against the baseline, on the same questions, is below the tolerance."""
    base, own = accuracy.get(plan.baseline.id), accuracy.get(pick)
    if base is None or own is None:
        return Gate("accuracy", None, "no accuracy questions were asked; give --questions FILE.jsonl")
    share = score(right_answers(own))
    words = (
        f"{share.right} of {share.n} right ({share.lower:.1%} to {share.upper:.1%})"
        if share
        else "nothing was answered"
    )
    if nothing := useless(base):
        return Gate("accuracy", None, nothing)
    if pick == plan.baseline.id:
        return Gate("accuracy", True, f"the pick is the baseline: {words}")
    found = accuracy_of(plan, accuracy, pick)
    if found is None:
        return Gate("accuracy", False, "baseline and pick answered different questions")
    return Gate(
        "accuracy",
        {"pass": True, "fail": False}.get(found.call),
        "; ".join(filter(None, (words, found.reason, how_many(found), clusters(base).assumption))),
    )


def failure_share(trials: Iterable[Judged], arm: str) -> float | None:
    """Failed requests of all that were asked of one arm; None without a trial."""
    mine = [t for t in trials if t.key.arm == arm]
    asked = sum(t.summary.asked for t in mine)
    return sum(t.summary.failed for t in mine) / asked if asked else None


def failure_gate(pick: str, plan: Plan, trials: Sequence[Judged], twin: Sequence[str] = ()) -> Gate:
    """Neither the pick nor its twin nor the baseline it was measured against failed more than the limit."""
    measured = [arm for arm in twin if any(t.key.arm == arm for t in trials)]
    shares = {arm: failure_share(trials, arm) for arm in dict.fromkeys((pick, *measured, plan.baseline.id))}
    words = ", ".join(f"{arm} {'unknown' if s is None else f'{s:.1%}'}" for arm, s in shares.items())
    if None in shares.values():
        return Gate("failed requests", None, f"no trial of an arm: {words}")
    passed = all(s is not None and s <= plan.failure_rate_limit for s in shares.values())
    return Gate("failed requests", passed, f"{words} (limit {plan.failure_rate_limit:.0%})")


def blocks_gate(plan: Plan, selection: Selection, proof: Proof | None) -> Gate:
    """Every look was taken: each group has all its blocks, or a look answered for all its arms; a proof was run to its end."""
    have = [len(selection.of_group(plan, group)) for group in plan.groups]
    waiting = [i for i, group in enumerate(plan.groups) if wanted(plan, selection, group)]
    if proof is not None and proof.stage is Stage.PROVE and proof.open:
        told = f"{len(proof.selection.blocks)} of at most {proof.limit} blocks of the proof are whole, and it is open"
        return Gate("interim analyses complete", False, told)
    if waiting:
        return Gate(
            "interim analyses complete",
            False,
            f"{min(have)} of at most {selection.limit} blocks are whole, and arms are open",
        )
    if min(have) < selection.limit:
        return Gate(
            "interim analyses complete",
            True,
            f"stopped after {min(have)} of at most {selection.limit} blocks: every arm is answered",
        )
    return Gate("interim analyses complete", True, f"all {selection.limit} blocks of every group are whole")


def client_gate(used: Sequence[Judged]) -> Gate:
    if not used:
        return Gate("client valid", None, "no whole block")
    degraded = [t for t in used if t.honesty.validity is not Validity.VALID]
    if degraded:
        why = degraded[0].honesty.reasons[0]
        return Gate("client valid", False, f"{len(degraded)} of {len(used)} runs degraded, such as: {why}")
    return Gate("client valid", True, f"all {len(used)} runs valid")


def steady_gate(used: Sequence[Judged]) -> Gate:
    """Every trial that counts reached a steady state (MSER-5 and a trend check on TPOT)."""
    if not used:
        return Gate("steady state", None, "no whole block")
    for answer, passed in ((NO_STEADY_STATE, False), (TOO_FEW, None)):
        found = [t for t in used if t.summary.steady.answer == answer]
        if found:
            first = f"{trial_path(found[0].key)}: {found[0].summary.steady.reason}"
            return Gate("steady state", passed, f"{len(found)} of {len(used)} trials: {answer}, such as {first}")
    return Gate(
        "steady state",
        True,
        f"all {len(used)} trials; at most {max(t.summary.dropped for t in used)} first requests left out",
    )


def restart_gate(plan: Plan) -> Gate:
    if any(a.engine == "endpoint" for a in plan.arms):
        return Gate("restarts", None, "endpoints we did not start: restart variance is unknown")
    return Gate("restarts", True, "every block restarts every server")


def order_gate(plan: Plan, explored: Sequence[Judged], proof: Proof | None, wrote: Mapping[str, int]) -> Gate:
    """The sessions of every block ran in the order that the plan's seed had drawn, balanced over blocks.

    `wrote` is the place of every file in the journal: unlike a wall clock, that order cannot jump.
    """
    wrong = [f"block {b}" for b in _out_of_order(plan, explored, Stage.CONFIRM, wrote)]
    if proof is not None and proof.stage is Stage.PROVE:
        mine = [t for arms in proof.selection.blocks.values() for points in arms.values() for t in points.values()]
        wrong += [f"proof block {b}" for b in _out_of_order(proof.plan, mine, Stage.PROVE, wrote)]
    if wrong:
        return Gate("random order", False, f"{', '.join(wrong)} did not run in the drawn order")
    if not explored:
        return Gate("random order", None, "no whole block")
    balanced = "balanced over blocks by Williams squares" if plan.order == "williams" else "at random"
    return Gate("random order", True, f"every block ran in the drawn order, {balanced}")


def _out_of_order(plan: Plan, used: Sequence[Judged], stage: Stage, wrote: Mapping[str, int]) -> list[int]:
    first: dict[int, dict[str, int]] = {}
    for t in used:
        seen = first.setdefault(t.key.block, {})
        at = wrote.get(trial_path(t.key), -1)
        seen[t.key.arm] = min(at, seen.get(t.key.arm, at))
    return [b for b, seen in sorted(first.items()) if not _in_order(plan, b, stage, seen)]


def _in_order(plan: Plan, block: int, stage: Stage, at: Mapping[str, int]) -> bool:
    places = [at[a] for a in session_order(plan, block, stage) if a in at]
    return places == sorted(places) and len(set(places)) == len(places)


def grounding_gate(used: Sequence[Judged]) -> Gate:
    """Needed at L3 where the device has counters; only a node that was seen to be a CPU alone goes without."""
    seen = {t.file.context.get("hardware", {}).get("observed", UNKNOWN) for t in used}
    if seen and all(h.startswith("cpu:") for h in seen):
        return Gate("grounding", True, "not required: a CPU node, without device counters")
    return Gate("grounding", None, f"no counters were read on {', '.join(sorted(seen)) or 'unknown hardware'}")


def slo_gate(pick: str, plan: Plan, selection: Selection, proof: Proof | None) -> Gate:
    """The p99 of every session of the pick (and of its twin in a proof), as an interval over its sessions, meets the SLO."""
    if not plan.slo:
        return Gate("SLO", True, "no SLO was declared")
    mine = _sessions_of(pick, selection, proof)
    told = [_slo_of(mine, point.key, name, limit) for point in plan.points for name, limit in plan.slo]
    answers = [answer for answer, _ in told]
    passed = False if False in answers else None if None in answers else True
    return Gate("SLO", passed, "; ".join(words for _, words in told))


def _sessions_of(pick: str, selection: Selection, proof: Proof | None) -> list[Mapping[str, Judged]]:
    """[point] of every session of the pick that counts, its twin's among them."""
    names = {pick, proof.plan.pick_twin.id if proof is not None and proof.plan.pick_twin is not None else pick}
    parts = [selection] + ([proof.selection] if proof is not None and proof.stage is Stage.PROVE else [])
    return [
        points
        for part in parts
        for _, arms in sorted(part.blocks.items())
        for a, points in sorted(arms.items())
        if a in names
    ]


def _slo_of(sessions: Sequence[Mapping[str, Judged]], point: str, name: str, limit: float) -> tuple[bool | None, str]:
    """A few requests underrate their p99, so a session counts with the upper bound of its own by order statistics; what
    the sessions' p99 break already is broken."""
    used = [points[point] for points in sessions]
    values = [samples(t.file.run.records, t.summary.dropped, t.file.run.open_loop)[name] for t in used]
    where, told = f"{point} {name} p99", f"(limit {1e3 * limit:g} ms)"
    if len(values) < 2 or not all(len(v) for v in values):
        return None, f"{where}: {len(values)} sessions, no interval {told}"
    lower = _over_sessions([float(np.percentile(v, 99)) for v in values])[0]
    if lower > limit:
        return False, f"{where} at least {1e3 * lower:.4g} ms over {len(values)} sessions {told}"
    bounds = [b for v in values if (b := quantile_interval(v.tolist(), 0.99, 1 - 2 * SLO_LEVEL).high) is not None]
    if len(bounds) < len(values):
        fewest = min(len(v) for v in values)
        return None, f"{where}: {fewest} values in a session, it takes {P99_VALUES} to bound a p99 from above {told}"
    upper = _over_sessions(bounds)[1]
    words = f"{where} {1e3 * lower:.4g} to {1e3 * upper:.4g} ms over {len(values)} sessions {told}"
    return (True if upper <= limit else None), words


def _over_sessions(values: Sequence[float]) -> tuple[float, float]:
    """Student-t on the logs over sessions, 5% a side."""
    logs = [math.log(v) for v in values]
    half = t_isf(SLO_LEVEL, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean(logs) - half), math.exp(mean(logs) + half)


def _percent(log_ratio: float) -> str:
    return f"{math.expm1(log_ratio):+.1%}"
