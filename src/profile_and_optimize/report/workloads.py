"""The tables of measured numbers: a row per arm at a point, and behind it a row per trial with its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.analysis.atlas import LEVEL
from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.endpoint import metric_table
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.looks import workload_effect
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.metrics import DISTRIBUTIONS, OUT_RATE, REQ_RATE, Metric
from profile_and_optimize.core.verdict import Effect
from profile_and_optimize.core.workload import Point, point_key
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.arms import FAILED, ArmView
from profile_and_optimize.report.words import UNKNOWN, decimals_for, effect_parts, interval_words, number, plain, span

Places = Mapping[Metric, int]
COLUMNS = (*DISTRIBUTIONS, REQ_RATE, OUT_RATE)
SHORT = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e_latency": "E2E", "request_throughput": "Requests",
         "output_throughput": "Output"}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One printed number: value, interval, the p99 of a distribution, and in `title` its formula and its sources."""

    text: str
    interval: str
    tail: str
    title: str


@dataclass(frozen=True)
class WorkloadRow:
    """An arm at a point over its blocks; `effects` are its ratios to the baseline here, `note` why there is nothing."""

    arm: str
    state: str
    anchor: str
    figures: tuple[Figure, ...]
    effects: tuple[tuple[str, str], ...]
    n: int
    window: str
    isl: str
    osl: str
    failed: str
    client: str
    note: str


@dataclass(frozen=True)
class TrialRow:
    """One trial that counts: its own numbers, and the file that they come from."""

    arm: str
    block: int
    source: str
    anchor: str
    values: tuple[str, ...]
    window: str
    isl: str
    osl: str
    failed: str
    client: str
    reasons: str


@dataclass(frozen=True)
class WorkloadView:
    """One point: its declared load, the arms' rows, and the trials behind them."""

    key: str
    words: str
    rows: tuple[WorkloadRow, ...]
    trials: tuple[TrialRow, ...]


@dataclass(frozen=True)
class Column:
    head: str
    unit: str
    better: str
    formula: str
    undefined: str


def columns() -> tuple[Column, ...]:
    return tuple(Column(SHORT[m.name], m.unit, m.better, m.formula, m.undefined) for m in COLUMNS)


def workload_views(
    ev: Evidence, d: Decision, arms: Sequence[ArmView], rows: Sequence[Mapping[str, Any]]
) -> tuple[WorkloadView, ...]:
    by_key = {(r["cell"], point_key(r["workload"], r["concurrency"], r.get("request_rate"))): r for r in rows}
    out = []
    for p in ev.plan.points:
        effects = point_effects(ev, d, p.key)
        places = _places([by_key[a.id, p.key] for a in arms])
        shown = tuple(_row(a, p, by_key[a.id, p.key], used_of(d, a.id, p.key), effects, places) for a in arms)
        trials = tuple(_trial(t, places) for a in arms for t in used_of(d, a.id, p.key))
        out.append(WorkloadView(p.key, _words(p), shown, trials))
    return tuple(out)


def _places(rows: Sequence[Mapping[str, Any]]) -> Places:
    """Decimals per metric, the same for all arms at a point."""
    found = {m: [_estimate(r, m) for r in rows] for m in COLUMNS}
    return {m: decimals_for([e["estimate"] for e in estimates if e]) for m, estimates in found.items()}


def _estimate(row: Mapping[str, Any], m: Metric) -> Mapping[str, Any] | None:
    """What a comparison uses: the median of a distribution, or the rate."""
    found = row["metrics"][m.printed]
    return found["p50"] if m in DISTRIBUTIONS else found


def used_of(d: Decision, arm: str, point: str) -> tuple[Judged, ...]:
    return tuple(a[arm][point] for _, a in sorted(d.selection.blocks.items()) if arm in a)


def point_effects(ev: Evidence, d: Decision, point: str) -> dict[str, tuple[Effect, ...]]:
    """Per arm, one effect per primary metric at this point: what the gate "no workload lost" looks at."""
    plan = ev.plan
    out: dict[str, tuple[Effect, ...]] = {}
    for group in plan.groups:
        tables = [metric_table(plan, d.selection, group, point, m) for m in plan.primary]
        for arm in group:
            effects = [workload_effect(plan, t, arm) for t in tables]
            if arm not in out or effects[0].blocks > out[arm][0].blocks:
                out[arm] = tuple(effects)
    return out


def _row(
    a: ArmView,
    p: Point,
    row: Mapping[str, Any],
    used: Sequence[Judged],
    effects: Mapping[str, tuple[Effect, ...]],
    places: Places,
) -> WorkloadRow:
    mine = () if a.role == "baseline" else effects.get(a.id, ())
    note = "" if used else f"failed: {a.reason}" if a.state == FAILED else "not measured: no whole block holds it"
    return WorkloadRow(
        arm=a.id, state=a.state, anchor=f"values-{p.key}-{a.id}", figures=tuple(_figure(row, m, places[m]) for m in COLUMNS),
        effects=tuple(effect_parts(e) for e in mine), n=len(used), window=", ".join(row["window"]) or UNKNOWN,
        isl=span([t.summary.isl_observed for t in used]), osl=span([t.summary.osl_observed for t in used]),
        failed=f"{row['requests_failed']} of {sum(t.summary.asked for t in used)}" if used else UNKNOWN,
        client=", ".join(row["client"]) or UNKNOWN, note=note,
    )  # fmt: skip


def _figure(row: Mapping[str, Any], m: Metric, decimals: int) -> Figure:
    is_dist = m in DISTRIBUTIONS
    text, interval = interval_words(_estimate(row, m), decimals)
    tail = interval_words(row["metrics"][m.printed]["p99"], decimals)[0] if is_dist else ""
    return Figure(text, interval, tail, _title(m, is_dist, text, row["sources"], row["window"]))


def _title(m: Metric, is_dist: bool, text: str, sources: Sequence[str], window: Sequence[str]) -> str:
    """Formula, how trials became one number, and every file it comes from."""
    what = f"{m.name} [{m.unit}] = {m.formula}"
    if text == UNKNOWN:
        return f"{what}. Unknown: {m.undefined}, in at least one block." if sources else f"{what}. Not measured."
    inside = "median within each trial, " if is_dist else ""
    over = f"window: {', '.join(window)}, " if m is OUT_RATE else ""
    how = f"{inside}{over}geometric mean over {len(sources)} block(s), {LEVEL:.0%} Student-t interval on the logs"
    return f"{what}. {how}. From: {', '.join(sources)}"


def _trial(t: Judged, places: Places) -> TrialRow:
    s = t.summary
    return TrialRow(
        arm=t.key.arm, block=t.key.block, source=trial_path(t.key), anchor=f"values-{t.key.point}-{t.key.arm}",
        values=tuple(_trial_value(t, m, places[m]) for m in COLUMNS), window=s.window, isl=span([s.isl_observed]),
        osl=span([s.osl_observed]), failed=f"{s.failed} of {s.asked}", client=t.honesty.validity.value,
        reasons=plain("; ".join(t.honesty.reasons)),
    )  # fmt: skip


def _trial_value(t: Judged, m: Metric, decimals: int) -> str:
    value = t.summary.value(m.name)
    return number(None if value is None else value * m.scale, decimals)


def _load(p: Point) -> str:
    if p.request_rate is None:
        return f"closed loop at concurrency {p.concurrency}"
    return f"open loop, Poisson arrivals at {p.request_rate:g} requests a second"


def _words(p: Point) -> str:
    w = p.workload
    cache = "no prompt repeats within a session (cold)"
    if w.repeats:
        cache = "prompts may repeat (warm)" if w.warm else "prompts begin alike by design, none repeats (prefixes)"
    what = f"{w.dataset} prompts" if w.kind in ("random", "prompts") else f"{w.kind} from {w.source}"
    return plain(f"{w.name}: {what}, {w.lengths}, {w.api} API, {_load(p)}, {p.requests} requests a trial, {cache}")
