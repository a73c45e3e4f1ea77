"""Everything a report shows, as words and positions. html, text and markdown only draw it.

No number is computed here by a formula of its own: estimates come from the atlas rows, effects from the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.analysis.across import EngineRank, ranks
from profile_and_optimize.analysis.atlas import rows as atlas_rows
from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.campaign.accuracy import NO_SHIP
from profile_and_optimize.campaign.earlier import words
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.starts import slow_start_words
from profile_and_optimize.campaign.timing import restarted
from profile_and_optimize.core.code_settings import code_settings
from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.verdict import Tier
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.report.absolute import side_by_side
from profile_and_optimize.report.accuracy import AccuracyRow, accuracy_rows, assumption
from profile_and_optimize.report.arms import ArmView, arm_views, effect_of, failures, next_levers
from profile_and_optimize.report.contexts import ContextRow, Gaps, context_rows, gap_views
from profile_and_optimize.report.cost import Fact, Unused, cost_facts, unused_trials
from profile_and_optimize.report.endpoints import endpoint_todo
from profile_and_optimize.report.forest import Forest, forest
from profile_and_optimize.report.imported import ImportedRow, imported_views
from profile_and_optimize.report.proof import ProofView, proof_view
from profile_and_optimize.report.quantized import Quantized, quantized
from profile_and_optimize.report.starts import StartsView, starts_views
from profile_and_optimize.report.status import coverage_line, missing_parts, omitted_parts
from profile_and_optimize.report.words import UNKNOWN, count, coverage, effect_words, plain, stamp_words, verify_command
from profile_and_optimize.report.workloads import Column, WorkloadView, columns, workload_views


@dataclass(frozen=True)
class GateView:
    """`state` is pass, open (it could not be told) or failed; `todo` is the work item it leaves."""

    name: str
    state: str
    reason: str
    todo: str


@dataclass(frozen=True)
class Headline:
    """The decision in words: what to serve (`title`, and for a winner its `name`), why, and what keeps it from a VERDICT."""

    pick: str
    tier: str
    title: str
    name: str
    sentence: str
    caveat: str


@dataclass(frozen=True)
class Place:
    """Where the numbers were taken: "unknown" where no context says so."""

    model: str
    hardware: str
    node: str
    engines: str
    suite: str
    loads: str


@dataclass(frozen=True)
class EngineView:
    """One engine of several: its release and how it came here, and its best arms with their effect on the baseline."""

    engine: str
    version: str
    delivery: str
    top: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class View:
    run_id: str
    stamp: str
    root: str
    plan_digest: str
    verify: str
    focus: str
    endpoint: str
    margin: str
    baseline: str
    headline: Headline
    place: Place
    arms: tuple[ArmView, ...]
    engines: tuple[EngineView, ...]
    forest: Forest
    gates: tuple[GateView, ...]
    proof: ProofView | None
    columns: tuple[Column, ...]
    workloads: tuple[WorkloadView, ...]
    imported: tuple[ImportedRow, ...]
    context: tuple[ContextRow, ...]
    gaps: tuple[Gaps, ...]
    mismatches: tuple[str, ...]
    accuracy: tuple[AccuracyRow, ...]
    accuracy_assumes: str
    tolerance: str
    quantized: Quantized | None
    cost: tuple[Fact, ...]
    blocks_out: tuple[str, ...]
    starts: tuple[StartsView, ...]
    earlier: tuple[str, ...]
    unused: tuple[Unused, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    code: tuple[str, ...]
    omitted: tuple[str, ...]
    coverage: str
    applies: tuple[str, ...]
    applies_not: tuple[str, ...]
    started_here: bool
    absolutes: tuple[tuple[str, str, str, str], ...]

    @property
    def failed(self) -> tuple[ArmView, ...]:
        return failures(self.arms)

    @property
    def levers(self) -> tuple[ArmView, ...]:
        return next_levers(self.arms)

    @property
    def open_gates(self) -> tuple[GateView, ...]:
        return tuple(g for g in self.gates if g.state != "pass")

    @property
    def predictions(self) -> tuple[ArmView, ...]:
        return tuple(a for a in self.arms if a.predicted or a.predicts)

    @property
    def pick(self) -> ArmView:
        return next(a for a in self.arms if a.is_pick)


def view(ev: Evidence, d: Decision) -> View:
    rows, arms, plan = atlas_rows(ev, d), arm_views(ev, d), ev.plan
    place = place_of(plan, d, rows)
    return View(
        run_id=plain(ev.run.name), stamp=stamp_words(ev.stamp), root=ev.root, plan_digest=plan.digest,
        verify=verify_command(ev.run.name), focus=plan.focus, endpoint=endpoint_words(plan),
        margin=f"{100 * plan.margin:g}%", baseline=plan.baseline.id, headline=headline(ev, d), place=place, arms=arms,
        engines=engine_views(plan, d, rows),
        forest=forest(arms, plan.margin), gates=gate_views(ev, d), proof=proof_view(d.proof), columns=columns(),
        workloads=workload_views(ev, d, arms, rows), imported=imported_views(ev), context=context_rows(rows), gaps=gap_views(rows),
        mismatches=tuple(plain(f"{a}: {'; '.join(f)}") for a, f in sorted(d.mismatches.items())),
        accuracy=accuracy_rows(ev), accuracy_assumes=assumption(ev), tolerance=count_points(plan.accuracy_margin),
        quantized=quantized(ev, d), cost=cost_facts(ev, d), blocks_out=_blocks_out(d), unused=unused_trials(ev, d),
        starts=starts_views(ev, d), earlier=earlier_lines(ev),
        damaged=tuple(map(plain, ev.damaged)), missing=tuple(missing_parts(ev, d)), code=code_lines(plan),
        omitted=tuple(f"{o['page']}: {o['reason']}" for o in omitted_parts(ev)), coverage=coverage_line(ev, rows),
        applies=_applies(place, plan, d.pick), applies_not=APPLIES_NOT,
        started_here=restarted(plan), absolutes=side_by_side(plan, rows),
    )  # fmt: skip


def earlier_lines(ev: Evidence) -> tuple[str, ...]:
    """A run of other tools' results alone compares nothing, so nothing was repeated."""
    found = words(ev.earlier, [a.id for a in ev.plan.candidates]) if ev.trials else ()
    return tuple(map(plain, (*(slow_start_words(ev.events) or _common_flags(ev.frozen)), *found)))


def _common_flags(plan: Plan) -> tuple[str, ...]:
    """The baseline is then not the engine's defaults: a reader has to know it."""
    flags = redact(" ".join(plan.common_flags))
    return (f"every variant, the baseline included, runs with {flags}",) if flags else ()


def code_lines(plan: Plan) -> tuple[str, ...]:
    """A line for each setting that brings code, with who allowed it; it stands on every page."""
    by = dict(plan.code_allowed)
    return tuple(plain(f"{s.shown} (allowed: {by.get(s.name, 'nobody is on record')})") for s in code_settings(plan))


def count_points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:g} points"


def endpoint_words(plan: Plan) -> str:
    """The primary endpoint as a reader needs it: what, over what, and which way is better."""
    named = [f"{plain(m)} [{METRICS[m].unit}, {METRICS[m].better} is better]" for m in plan.primary]
    what = named[0] if len(named) == 1 else f"the geometric mean of {' and '.join(named)}"
    over = count(len(plan.points), "workload")
    return f"{what}, over {over} of suite {plain(plan.suite)}, as a ratio to the baseline turned so that + is better"


def headline(ev: Evidence, d: Decision) -> Headline:
    title, sentence = _decision_words(ev.plan, d)
    not_passed = [f"{g.name} {'failed' if g.passed is False else 'open'}" for g in d.open_gates]
    caveat = "every gate passed" if d.tier is Tier.VERDICT else f"a VERDICT needs more: {', '.join(not_passed)}"
    return Headline(d.pick, d.tier.value, title, "" if d.pick == ev.plan.baseline.id else d.pick, sentence, caveat)


def _decision_words(plan: Plan, d: Decision) -> tuple[str, str]:
    base = plan.baseline.id
    if d.pick != base:
        e = effect_of(d, d.pick)
        n = e.blocks if e else 0
        turned = any(METRICS[m].better == "lower" for m in plan.primary)
        what = " and ".join(plan.primary) + (" (turned so that + is better)" if turned else "")
        return "Serve", (
            f"{d.pick} does better than {base} by {effect_words(e)} on {what}: a {coverage(e)} interval over "
            f"n = {count(n, 'paired block')}, and all of it lies above the {100 * plan.margin:g}% margin.{_proof_words(d)}"
        )
    if d.failed and not plan.candidates and all(r.startswith(NO_SHIP) for r in d.failed.values()):
        told = "; ".join(f"{a}: {plain(r)}" for a, r in sorted(d.failed.items()))
        return "The baseline stands", f"Every candidate was shown to lose right answers, so none was measured. {told}."
    if not d.selection.blocks:
        return "No answer yet", "No block is whole, so no arm was compared; the baseline stays until one is."
    if d.vetoed:
        return "The baseline stands", (
            f"The baseline differed from itself by {effect_words(d.aa)} over {count(d.aa.blocks if d.aa else 0, 'block')}, "
            "so this campaign may name no winner."
        )
    return "The baseline stands", _standing_words(d)


def _proof_words(d: Decision) -> str:
    if d.proof is None or d.proof.pick != d.pick or not d.proof.signs.measured:
        return ""
    s = d.proof.signs
    return f" Its proof: {s.wins} of {count(s.blocks, 'block')} above the margin, {effect_words(d.proof.effect)} over them."


def _standing_words(d: Decision) -> str:
    """Why no candidate took the place, arm by arm."""
    told = [f"{a} {'failed' if a in d.failed else e.call.value}" for a, e in sorted(d.effects.items())]
    told += [f"{a} failed" for a in sorted(set(d.failed) - set(d.effects))]
    return f"{d.why[0].upper()}{plain(d.why[1:])} ({', '.join(told)})."


TODO = {
    "primary test": "add blocks for the arms that stayed UNKNOWN: pao campaign_run RUN --extend 4, or a larger budget in a new campaign",
    "A/A arm": "find what made the baseline differ from itself (other load on the node, clocks, a warm cache), then repeat",
    "proof of the pick": "run its proof: pao campaign_run RUN --extend 8, or a larger budget in a new campaign",
    "worst block": "find what made that block worse (its trials name the machine's load), then repeat",
    "no workload lost": "run more blocks, or look at the workload that lost: serve it with the baseline",
    "accuracy": "ask the same questions of baseline and pick: --questions FILE.jsonl",
    "checkpoint proven": "quantize it here (pao quantize), so that its coverage and round trip are on record",
    "SLO": "lower the load or change the arm, and measure again; more sessions narrow the interval",
    "failed requests": "read the errors of the pick's failed requests in its raw files and its log",
    "interim analyses complete": "let the campaign run on: pao campaign_run RUN, or pao optimize --resume RUN",
    "client valid": "give the client cores of its own and lower the concurrency per client process, then repeat",
    "restarts": "measure with an engine that the campaign can restart",
    "random order": "run the blocks again in the drawn order; an order chosen by hand lets drift pick the winner",
    "pinned source": "install the engine from a release with a lock: delivery, source commit and lock must be known",
    "no run cut short": "let it run through on a quiet machine: what was broken off, lost or run again is counted",
    "servers stay up": "read the log of the start that was lost (cells/ARM/raw/log-*.txt), mend it, and run a new campaign",
    "steady state": "more requests per trial, a longer warm-up, or find what drifts; then repeat",
    "quiet machine": "stop the other work on the node, or move; the guard waits before every session",
    "unique prompts": "a data set with more prompts, fewer requests, or declare the workload warm",
    "cache state": "find what the prompts share, or declare the workload warm",
    "engines matched": "give both engines the same cores and number format, and the prefix cache on in both or off in both",
    "grounding": "capture hardware counters over the trials (L3 or better)",
    "records readable": "restore the damaged files from a copy, or run their blocks again",
}


def gate_views(ev: Evidence, d: Decision) -> tuple[GateView, ...]:
    todo = TODO | endpoint_todo(ev.plan, ev.run.name)
    return tuple(_gate(g, todo) for g in d.gates)


def _gate(g: Gate, todo: Mapping[str, str]) -> GateView:
    state = {True: "pass", False: "failed", None: "open"}[g.passed]
    return GateView(plain(g.name), state, plain(g.reason), "" if g.passed else todo.get(g.name, "see the reason"))


def place_of(plan: Plan, d: Decision, rows: Sequence[Mapping[str, Any]]) -> Place:
    loads = [
        f"{p.workload.name} at "
        + (f"concurrency {p.concurrency}" if p.request_rate is None else f"{p.request_rate:g} req/s")
        for p in plan.points
    ]
    engines = dict.fromkeys(_engine(r) for r in rows)
    return Place(
        model=plain(plan.model) or _seen(rows, "served_model"), hardware=_seen(rows, "hardware"), node=_seen(rows, "node"),
        engines=", ".join(e for e in engines if e), suite=plain(plan.suite), loads=", ".join(loads),
    )  # fmt: skip


def _engine(row: Mapping[str, Any]) -> str:
    """Name, version and, where it is not a release, how the code came here: an overlay is named wherever its engine is."""
    if not row["context"]:
        return ""
    version, delivery = (row["context"].get(n, {}).get("observed", UNKNOWN) for n in ("engine_version", "delivery"))
    return plain(f"{row['engine']} {version}" + (f" ({delivery})" if delivery not in (UNKNOWN, "release") else ""))


def engine_views(plan: Plan, d: Decision, rows: Sequence[Mapping[str, Any]]) -> tuple[EngineView, ...]:
    """The best of each engine; none where there is one engine only, whose arms are all in the table."""
    found = ranks(plan, d.effects)
    if len(found) < 2:
        return ()
    return tuple(_engine_view(r, plan, d, [row for row in rows if row["engine"] == r.engine]) for r in found)


def _engine_view(r: EngineRank, plan: Plan, d: Decision, rows: Sequence[Mapping[str, Any]]) -> EngineView:
    told = tuple((plain(a), "the reference" if a == plan.baseline.id else effect_words(d.effects[a])) for a in r.top)
    return EngineView(plain(r.engine), _seen(rows, "engine_version"), _seen(rows, "delivery"), told)


def _seen(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The observed values of a context field over all rows."""
    found = dict.fromkeys(plain(r["context"][name]["observed"]) for r in rows if name in r["context"])
    return ", ".join(found) or UNKNOWN


def _blocks_out(d: Decision) -> tuple[str, ...]:
    parts = [("block", d.selection)]
    if d.proof is not None and d.proof.stage is Stage.PROVE:
        parts.append(("proof block", d.proof.selection))
    out = []
    for kind, part in parts:
        out += [f"{kind} {b} excluded: {plain(why)}" for b, why in sorted(part.excluded.items())]
        out += [f"{kind} {b} open: {plain(why)}" for b, why in sorted(part.open.items())]
    return tuple(out)


def _applies(p: Place, plan: Plan, pick: str) -> tuple[str, ...]:
    arm = plan.arm(pick)
    # Without its digest a path is a name, and another checkpoint may come to lie there.
    served = [f"its checkpoint {plain(arm.checkpoint)}, {plan.digest_of(arm)[:23]}..."] if arm.checkpoint else []
    on_top = " ".join((*arm.flags, *(f"{k}={v}" for k, v in arm.env)))
    served += [f"that checkpoint served with {plain(on_top)}"] if served and on_top else []
    return (
        f"model {p.model}", *served, f"node {p.node}, hardware {p.hardware}", f"engine {p.engines or UNKNOWN}",
        f"suite {p.suite}: {p.loads}",
    )  # fmt: skip


APPLIES_NOT = (
    "another node, GPU, CPU count, driver or clock setting",
    "another model, checkpoint or quantization",
    "other prompt and answer lengths, other loads, open-loop arrivals, warm prefixes (unless declared above)",
    "another engine version or other flags beside these",
)
