"""A run as three tables, for notebooks and spreadsheets: every request, every trial, the effect of every variant. Pure.

Each row is a frozen record whose fields are the columns. Times are milliseconds unless the name ends in `_ns`; None is
unknown. The numbers come from the functions that `verify` uses, so they are those of the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from profile_and_optimize.analysis.decide import Decision, effect_json
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.metrics import DISTRIBUTIONS, E2E, TPOT, TTFT, Metric
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.stats.summary import each_request


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request. `counts`: its latencies are in the distributions that the decision rests on; a request of a trial that does not
    count, of the start-up, or that failed has False. Times in ns count from the start of its trial. `prompt_tokens` and
    `output_tokens` are those that can be believed."""

    source: str
    variant: str
    stage: str
    block: int
    attempt: int
    point: str
    request: int
    counts: bool
    intended_ns: int
    sent_ns: int
    first_chunk_ns: int | None
    last_chunk_ns: int | None
    done_ns: int
    chunks: int
    prompt_tokens: int | None
    output_tokens: int | None
    max_tokens: int | None
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_latency_ms: float | None
    status: int | None
    finish_reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class MeasuredTrial:
    """One timed run of a variant at a point. `counts`: the decision rests on it. Quantiles are over its requests after the start-up
    (`requests_left_out`); rates are of the window named beside them."""

    source: str
    variant: str
    stage: str
    block: int
    attempt: int
    point: str
    counts: bool
    status: str
    reason: str
    client: str
    client_reasons: str
    started_at_unix_s: float
    requests_asked: int
    requests_completed: int
    requests_failed: int
    requests_left_out: int
    output_throughput_tok_s: float | None
    request_throughput_req_s: float | None
    window: str
    window_s: float | None
    isl_observed: float | None
    osl_observed: float | None
    ttft_ms_p50: float | None
    ttft_ms_p90: float | None
    ttft_ms_p99: float | None
    ttft_ms_mean: float | None
    tpot_ms_p50: float | None
    tpot_ms_p90: float | None
    tpot_ms_p99: float | None
    tpot_ms_mean: float | None
    itl_ms_p50: float | None
    itl_ms_p90: float | None
    itl_ms_p99: float | None
    itl_ms_mean: float | None
    e2e_latency_ms_p50: float | None
    e2e_latency_ms_p90: float | None
    e2e_latency_ms_p99: float | None
    e2e_latency_ms_mean: float | None


@dataclass(frozen=True, slots=True)
class VariantEffect:
    """A variant against the baseline on the primary endpoint. `estimate`, `lower`, `upper` are ratios minus one, turned so that
    above 0 is better (0.116 is +11.6%); None without an interval, and for the baseline. `error_one_sided` is that of the interval
    over all interim analyses. `call` is BETTER, WORSE, SAME or UNKNOWN, None for the baseline and its A/A control."""

    variant: str
    role: str
    engine: str
    changes: str
    pick: bool
    call: str | None
    estimate: float | None
    lower: float | None
    upper: float | None
    error_one_sided: float | None
    blocks: int
    blocks_needed: int | None
    failure: str | None
    reason: str


Row = RequestRow | MeasuredTrial | VariantEffect
TABLES: dict[str, type[Row]] = {"requests": RequestRow, "trials": MeasuredTrial, "effects": VariantEffect}


def columns(table: str) -> tuple[str, ...]:
    return tuple(f.name for f in fields(TABLES[table]))


def rows(table: str, ev: Evidence, d: Decision) -> Iterator[Row]:
    """The rows of the table of that name, in the order of the report."""
    make: dict[str, Callable[[Evidence, Decision], Iterator[Row]]]
    make = {"requests": request_rows, "trials": trial_rows, "effects": effect_rows}
    return make[table](ev, d)


def request_rows(ev: Evidence, d: Decision) -> Iterator[RequestRow]:
    for t, counts in _as_counted(ev, d):
        yield from _requests_of(t, counts)


def trial_rows(ev: Evidence, d: Decision) -> Iterator[MeasuredTrial]:
    for t, counts in _as_counted(ev, d):
        yield _trial(t, counts)


def effect_rows(ev: Evidence, d: Decision) -> Iterator[VariantEffect]:
    for arm in ev.plan.all_arms:
        effect = d.aa if d.aa is not None and d.aa.arm == arm.id else d.effects.get(arm.id)
        held = effect_json(effect) or {}
        called = effect is not None and arm.role is Role.CANDIDATE
        yield VariantEffect(
            variant=arm.id, role=arm.role.value, engine=arm.engine, changes=arm.lever, pick=arm.id == d.pick,
            call=held["call"] if called else None, estimate=held.get("estimate"), lower=held.get("lower"), upper=held.get("upper"),
            error_one_sided=held.get("error_one_sided"),
            blocks=held.get("blocks") or sum(arm.id in arms for arms in d.selection.blocks.values()),
            blocks_needed=held.get("blocks_needed") if called else None, failure=d.failed.get(arm.id),
            reason=str(held.get("reason", "") if called else ""),
        )  # fmt: skip


def _as_counted(ev: Evidence, d: Decision) -> Iterator[tuple[Judged, bool]]:
    """Every trial; one that counts without the first requests that its whole block leaves out."""
    counted = {t.key: t for t in d.counted}
    for t in ev.trials:
        yield counted.get(t.key, t), t.key in counted


def _place(t: Judged) -> dict[str, Any]:
    k = t.key
    return {
        "source": trial_path(k), "variant": k.arm, "stage": k.stage.value, "block": k.block, "attempt": k.attempt, "point": k.point,
    }  # fmt: skip


def _trial(t: Judged, counts: bool) -> MeasuredTrial:
    s = t.summary
    spread: dict[str, Any] = {
        f"{m.printed}_{q}": getattr(dist, q) * m.scale if (dist := s.dists[m.name]) else None
        for m in DISTRIBUTIONS
        for q in ("p50", "p90", "p99", "mean")
    }
    return MeasuredTrial(
        **_place(t), counts=counts, status=s.state.value, reason=s.reason, client=t.honesty.validity.value,
        client_reasons="; ".join(t.honesty.reasons), started_at_unix_s=t.file.started_at, requests_asked=s.asked,
        requests_completed=s.completed, requests_failed=s.failed, requests_left_out=s.dropped,
        output_throughput_tok_s=s.output_throughput, request_throughput_req_s=s.request_throughput, window=s.window,
        window_s=s.window_s, isl_observed=s.isl_observed, osl_observed=s.osl_observed, **spread,
    )  # fmt: skip


def _requests_of(t: Judged, counts: bool) -> Iterator[RequestRow]:
    run, place = t.file.run, _place(t)
    r = Records.of(run.records)
    kept, seconds = each_request(r, t.summary.dropped, run.open_loop)
    for i in range(len(r)):
        yield RequestRow(
            **place, request=int(r.numbers["index"][i]), counts=counts and bool(kept[i]), intended_ns=int(r.intended_ns[i]),
            sent_ns=int(r.sent_ns[i]), first_chunk_ns=_known(r.first_ns[i]), last_chunk_ns=_known(r.last_ns[i]),
            done_ns=int(r.done_ns[i]), chunks=int(r.chunks[i]), prompt_tokens=_known(r.counts.prompt[i]),
            output_tokens=_known(r.counts.output[i]), max_tokens=_known(r.max_tokens[i]), ttft_ms=_ms(seconds, TTFT, i),
            tpot_ms=_ms(seconds, TPOT, i), e2e_latency_ms=_ms(seconds, E2E, i), status=_known(r.status[i]),
            finish_reason=r.finish_reason[i], error=r.error[i],
        )  # fmt: skip


def _known(value: np.int64) -> int | None:
    return None if value == MISSING else int(value)


def _ms(seconds: Mapping[str, np.ndarray], m: Metric, i: int) -> float | None:
    value = float(seconds[m.name][i])
    return None if math.isnan(value) else value * m.scale
