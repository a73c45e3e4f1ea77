"""From the records of one trial to its metrics. Campaign, report and verify all use this one function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profile_and_optimize.core.metrics import DISTRIBUTIONS, Metric
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.core.trial import TrialState

NS = 1e-9
STEADY = "steady"
WHOLE = "whole-run"


@dataclass(frozen=True, slots=True)
class Dist:
    """One metric over the requests (or gaps) of one trial, in seconds."""

    p50: float
    p90: float
    p99: float
    mean: float
    n: int

    @staticmethod
    def of(values: Sequence[float] | np.ndarray) -> Dist | None:
        """None when there is nothing to describe."""
        if not len(values):
            return None
        p50, p90, p99 = np.percentile(values, (50, 90, 99))
        return Dist(float(p50), float(p90), float(p99), float(np.mean(values)), len(values))

    def printed(self, m: Metric) -> dict[str, float | int]:
        scaled = {k: getattr(self, k) * m.scale for k in ("p50", "p90", "p99", "mean")}
        return {**scaled, "n": self.n}


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """`dists` by metric name; `output_throughput` tok/s over the named window; None is unknown."""

    state: TrialState
    reason: str
    asked: int
    completed: int
    failed: int
    errors: tuple[tuple[str, int], ...]
    dists: dict[str, Dist | None]
    request_throughput: float | None
    output_throughput: float | None
    window: str
    window_s: float | None
    whole_output_throughput: float | None
    wall_s: float
    isl_observed: float | None
    osl_observed: float | None
    tokens_per_chunk: float | None
    delivered_concurrency: float | None

    def value(self, metric_name: str) -> float | None:
        """The number a comparison uses: the median of a distribution, or the rate."""
        if metric_name == "output_throughput":
            return self.output_throughput
        if metric_name == "request_throughput":
            return self.request_throughput
        dist = self.dists[metric_name]
        return dist.p50 if dist else None

    def to_json(self) -> dict[str, Any]:
        dists = {m.printed: d.printed(m) if (d := self.dists[m.name]) else None for m in DISTRIBUTIONS}
        return {
            "status": self.state.value,
            "reason": self.reason,
            "requests": {"asked": self.asked, "completed": self.completed, "failed": self.failed},
            "errors": dict(self.errors),
            "metrics": dists,
            "request_throughput_req_s": self.request_throughput,
            "output_throughput_tok_s": self.output_throughput,
            "output_throughput_window": self.window,
            "window_s": self.window_s,
            "whole_run_output_throughput_tok_s": self.whole_output_throughput,
            "wall_s": self.wall_s,
            "isl_observed_mean": self.isl_observed,
            "osl_observed_mean": self.osl_observed,
            "tokens_per_chunk": self.tokens_per_chunk,
            "delivered_concurrency": self.delivered_concurrency,
        }


def summarize(
    records: Sequence[RequestRecord], *, asked: int, concurrency: int, from_intended: bool = False
) -> TrialSummary:
    """Every metric of one trial from its records alone. `from_intended`: latencies of an open loop count from there."""
    good = [r for r in records if r.ok]
    wall = (max((r.done_ns for r in records), default=0) - min((r.sent_ns for r in records), default=0)) * NS
    state, reason = _state(asked, len(good), len(records))
    rate, window, window_s = _steady_rate(records, good, concurrency)
    whole = sum(r.completion_tokens or 0 for r in good) / wall if good and wall > 0 and _all_usage(good) else None
    return TrialSummary(
        state=state, reason=reason, asked=asked, completed=len(good), failed=asked - len(good), errors=_errors(records),
        dists=_distributions(good, from_intended),
        request_throughput=len(good) / wall if good and wall > 0 else None,
        output_throughput=rate, window=window, window_s=window_s, whole_output_throughput=whole, wall_s=wall,
        isl_observed=_mean([r.prompt_tokens for r in good if r.prompt_tokens is not None]),
        osl_observed=_mean([r.completion_tokens for r in good if r.completion_tokens is not None]),
        tokens_per_chunk=_tokens_per_chunk(good),
        delivered_concurrency=delivered_concurrency(records),
    )  # fmt: skip


def tpot(record: RequestRecord) -> float | None:
    """(t_last - t_first) / (osl - 1) in seconds; None below two tokens, without usage, or for a single chunk."""
    n = record.completion_tokens
    if n is None or n < 2 or len(record.chunk_ns) < 2:
        return None
    return (record.chunk_ns[-1] - record.chunk_ns[0]) * NS / (n - 1)


def delivered_concurrency(records: Sequence[RequestRecord]) -> float | None:
    """Mean requests in flight while there was still work to hand out: from first to last send."""
    if len(records) < 2:
        return None
    start, end = min(r.sent_ns for r in records), max(r.sent_ns for r in records)
    if end <= start:
        return None
    inside = sum(max(0, min(r.done_ns, end) - r.sent_ns) for r in records)
    return inside / (end - start)


def _distributions(good: Sequence[RequestRecord], from_intended: bool) -> dict[str, Dist | None]:
    gaps = [np.diff(r.chunk_ns) for r in good if len(r.chunk_ns) > 1]
    begin = [r.intended_ns if from_intended else r.sent_ns for r in good]
    return {
        "ttft": Dist.of([(r.chunk_ns[0] - b) * NS for r, b in zip(good, begin, strict=True)]),
        "tpot": Dist.of([t for r in good if (t := tpot(r)) is not None]),
        "itl": Dist.of(np.concatenate(gaps) * NS) if gaps else None,
        "e2e_latency": Dist.of([(r.done_ns - b) * NS for r, b in zip(good, begin, strict=True)]),
    }


def _steady_rate(
    records: Sequence[RequestRecord], good: Sequence[RequestRecord], concurrency: int
) -> tuple[float | None, str, float | None]:
    """Output tokens per second between the c-th completion and the last send, when at least 3c requests ran.

    Before the c-th completion the run ramps up, after the last send it drains: both dilute the rate. Tokens of a
    chunk are its request's usage shared equally over its chunks. Without that window, the whole run; None without usage.
    """
    if not good or not _all_usage(good):
        return None, WHOLE, None
    if len(records) < 3 * concurrency:
        start, end, name = min(r.sent_ns for r in records), max(r.done_ns for r in records), WHOLE
    else:
        start, end, name = sorted(r.done_ns for r in records)[concurrency - 1], max(r.sent_ns for r in records), STEADY
    if end <= start:
        return None, name, None
    tokens = sum(_tokens_inside(r, start, end) for r in good)
    return tokens / ((end - start) * NS), name, (end - start) * NS


def _tokens_inside(r: RequestRecord, start: int, end: int) -> float:
    inside = sum(1 for t in r.chunk_ns if start < t <= end)
    return (r.completion_tokens or 0) * inside / len(r.chunk_ns)


def _all_usage(good: Sequence[RequestRecord]) -> bool:
    return all(r.completion_tokens is not None for r in good)


def _tokens_per_chunk(good: Sequence[RequestRecord]) -> float | None:
    chunks = sum(len(r.chunk_ns) for r in good)
    if not chunks or not _all_usage(good):
        return None
    return sum(r.completion_tokens or 0 for r in good) / chunks


def _mean(values: Sequence[int]) -> float | None:
    return float(np.mean(values)) if values else None


def _errors(records: Sequence[RequestRecord]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for r in records:
        if r.error is not None:
            counts[r.error] = counts.get(r.error, 0) + 1
    return tuple(sorted(counts.items()))


def _state(asked: int, good: int, recorded: int) -> tuple[TrialState, str]:
    if good == 0:
        return TrialState.FAILED, f"none of {asked} requests completed"
    if good < asked:
        return TrialState.PARTIAL, f"{asked - good} of {asked} requests failed or were lost"
    if recorded != asked:
        return TrialState.PARTIAL, f"{recorded} records for {asked} requests"
    return TrialState.FULL, ""
