"""From the records of one trial to its metrics. Campaign, report and verify all use this one function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from profile_and_optimize.core.errors import ODD
from profile_and_optimize.core.metrics import DISTRIBUTIONS, METRICS, Metric
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.stats.columns import MISSING, NS, Records
from profile_and_optimize.stats.steady import TOO_FEW, Steady

OUTPUT, PROMPT = "output_tokens", "prompt_tokens"
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
    def of(values: Sequence[float] | np.ndarray, scale: float = 1.0) -> Dist | None:
        """Of values that a factor turns into seconds. None when there is nothing to describe."""
        if not len(values):
            return None
        p50, p90, p99 = quantiles(values, (0.5, 0.9, 0.99), scale)
        total = np.add.reduce(np.asarray(values) * scale)  # what numpy.mean does, at half the cost for a hundred values
        return Dist(p50, p90, p99, float(total) / len(values), len(values))

    def printed(self, m: Metric) -> dict[str, float | int]:
        scaled = {k: getattr(self, k) * m.scale for k in ("p50", "p90", "p99", "mean")}
        return {**scaled, "n": self.n}


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """`dists` by metric name; `output_throughput` tok/s over the named window; None is unknown.

    `steady` is what the trial itself says about its start-up, `dropped` how many first requests were left out of the
    distributions and the window: the same number for all arms of a block. `unknown` are the good requests without a value:
    of `kept` requests for a metric's name, of the `completed` ones for `output_tokens` and `prompt_tokens`; `unknown_why`
    says why output tokens are. `short` answers have fewer output tokens than `max_tokens`, and their count is believed.
    """

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
    steady: Steady
    dropped: int
    kept: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    unknown_why: tuple[tuple[str, int], ...] = ()
    short: int = 0

    def unknown_share(self, name: str) -> float:
        """Of the good requests: how many have no value of this metric, or of `output_tokens` or `prompt_tokens`."""
        of = self.completed if name in (OUTPUT, PROMPT) else self.kept
        return self.unknown.get(name, 0) / of if of else 0.0

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
            "unknown": {_printed(name): n for name, n in sorted(self.unknown.items()) if n},
            "output_tokens_unknown": dict(self.unknown_why),
            "shorter_than_asked": self.short,
            "steady_state": {**self.steady.to_json(), "requests_left_out": self.dropped},
        }


def summarize(
    records: Sequence[RequestRecord],
    *,
    asked: int,
    concurrency: int,
    from_intended: bool = False,
    drop: int | None = None,
) -> TrialSummary:
    """Every metric of one trial from its records alone; of records that no arithmetic can describe, a failed trial with
    that reason: one trial's numbers may not end a campaign. `from_intended`: latencies of an open loop count from there.

    `drop` first requests, in order of issue, belong to the start-up (None: as many as the trial's own MSER-5 says). The
    distributions are over all good requests issued after those, up to the last; counts, lengths, request throughput,
    wall time and delivered concurrency are of the whole run; the output throughput is of its window (see `window_of`).
    """
    try:
        return _summary(
            Records.of(records), asked=asked, concurrency=concurrency, from_intended=from_intended, drop=drop
        )
    except ODD as e:
        return unusable(records, asked, e)


def unusable(records: Sequence[RequestRecord], asked: int, error: Exception) -> TrialSummary:
    """A trial whose summary cannot be made: failed, with every number unknown."""
    reason = f"its summary cannot be made: {type(error).__name__} {error}"
    return TrialSummary(
        state=TrialState.FAILED, reason=reason, asked=asked, completed=sum(r.ok for r in records), failed=sum(not r.ok for r in records),
        errors=_errors([r.error for r in records]), dists={m.name: None for m in DISTRIBUTIONS}, request_throughput=None,
        output_throughput=None, window=WHOLE, window_s=None, whole_output_throughput=None, wall_s=0.0, isl_observed=None,
        osl_observed=None, tokens_per_chunk=None, delivered_concurrency=None, steady=Steady(0, TOO_FEW, reason), dropped=0,
    )  # fmt: skip


def _summary(
    rows: Records, *, asked: int, concurrency: int, from_intended: bool, drop: int | None
) -> TrialSummary:  # fmt: skip
    good = int(rows.ok.sum())
    wall = int(rows.done_ns.max() - rows.sent_ns.min()) * NS if len(rows) else 0.0
    state, reason = _state(asked, good, len(rows))
    tokens = _tokens(rows)
    whole = TrialSummary(
        state=state, reason=reason, asked=asked, completed=good, failed=asked - good, errors=_errors(rows.error), dists={},
        request_throughput=good / wall if good and wall > 0 else None, output_throughput=None, window=WHOLE, window_s=None,
        whole_output_throughput=tokens / wall if tokens is not None and wall > 0 else None, wall_s=wall,
        isl_observed=_mean(rows.counts.prompt), osl_observed=_mean(rows.counts.output),
        tokens_per_chunk=tokens / int(rows.chunks[rows.ok].sum()) if tokens is not None else None,
        delivered_concurrency=delivered_concurrency(rows), steady=rows.steady, dropped=0,
        unknown_why=rows.counts.why, short=_short(rows),
    )  # fmt: skip
    left_out = rows.steady.drop if drop is None else drop
    return _leaving_out(whole, rows, concurrency, from_intended, left_out)


def leaving_out(
    found: TrialSummary, records: Sequence[RequestRecord], *, concurrency: int, from_intended: bool, drop: int
) -> TrialSummary:
    """A summary of these records with another number of first requests left out: what depends on it is computed anew."""
    try:
        return _leaving_out(found, Records.of(records), concurrency, from_intended, drop)
    except ODD as e:
        return unusable(records, found.asked, e)


def _leaving_out(
    found: TrialSummary, rows: Records, concurrency: int, from_intended: bool, drop: int
) -> TrialSummary:  # fmt: skip
    rate, window, window_s = _window_rate(rows, window_of(rows, concurrency, drop, from_intended))
    dists = {name: Dist.of(*values) for name, values in _samples(rows, drop, from_intended).items()}
    kept = _after(rows, drop)
    return replace(
        found, dists=dists, output_throughput=rate, window=window, window_s=window_s, dropped=drop, kept=int(kept.sum()),
        unknown=_unknown(rows, kept, from_intended),
    )  # fmt: skip


def _unknown(rows: Records, kept: np.ndarray, from_intended: bool) -> dict[str, int]:
    """Good requests without a value. One known to be of a single token has neither TPOT nor ITL, and lacks nothing."""
    begin = rows.intended_ns if from_intended else rows.sent_ns
    several = kept & (rows.counts.output != 1)
    lacking = {
        "ttft": kept & (rows.first_ns <= begin),
        "tpot": several & np.isnan(rows.tpots),
        "itl": several & (rows.span_ns == 0),
        "e2e_latency": kept & (rows.done_ns <= begin),
        OUTPUT: rows.ok & (rows.counts.output == MISSING),
        PROMPT: rows.ok & (rows.counts.prompt == MISSING),
    }
    return {name: int(where.sum()) for name, where in lacking.items()}


def _short(rows: Records) -> int:
    """Answers with fewer output tokens than they were asked for, where both are known."""
    return int(((rows.counts.output != MISSING) & (rows.counts.output < rows.max_tokens)).sum())


def _printed(name: str) -> str:
    return METRICS[name].printed if name in METRICS else name


def tpot(record: RequestRecord) -> float | None:
    """(t_last - t_first) / (osl - 1) in seconds; None where `Records.tpots` has none."""
    (found,) = Records.of([record]).tpots
    return None if np.isnan(found) else float(found)


def quantiles(values: Sequence[float] | np.ndarray, shares: Sequence[float], scale: float = 1.0) -> list[float]:
    """Linear interpolation between order statistics of `values * scale`, bit for bit that of numpy.percentile at a fraction
    of its cost: small integers are ordered faster than what they become."""
    last = len(values) - 1
    places = [(low, min(low + 1, last), share * last - low) for share in shares for low in [int(share * last)]]
    ordered = np.partition(values, sorted({k for low, high, _ in places for k in (low, high)}))
    return [_between(float(ordered[low]) * scale, float(ordered[high]) * scale, t) for low, high, t in places]


def _between(a: float, b: float, t: float) -> float:
    return a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t)


def delivered_concurrency(records: Sequence[RequestRecord]) -> float | None:
    """Mean requests in flight while there was still work to hand out: from first to last send."""
    rows = Records.of(records)
    if len(rows) < 2:
        return None
    start, end = int(rows.sent_ns.min()), int(rows.sent_ns.max())
    if end <= start:
        return None
    return int(np.maximum(np.minimum(rows.done_ns, end) - rows.sent_ns, 0).sum()) / (end - start)


def _after(rows: Records, dropped: int) -> np.ndarray:
    """Which requests are good and not among the `dropped` first ones."""
    kept = rows.ok.copy()
    kept[rows.issue_order[:dropped]] = False
    return kept


def samples(records: Sequence[RequestRecord], dropped: int, from_intended: bool) -> dict[str, np.ndarray]:
    """What the distributions of a trial are of, in seconds by metric: a value for every good request after the `dropped`
    first ones that has one, for `itl` every gap."""
    return {k: v * scale for k, (v, scale) in _samples(Records.of(records), dropped, from_intended).items()}


def _samples(rows: Records, dropped: int, from_intended: bool) -> dict[str, tuple[np.ndarray, float]]:
    """Each with the factor that turns its values into seconds. What is not above zero was not measured."""
    kept = _after(rows, dropped)
    begin = (rows.intended_ns if from_intended else rows.sent_ns)[kept]
    each = rows.tpots[kept]
    inner = np.repeat(kept, np.maximum(rows.chunks - 1, 0))
    return {
        "ttft": (_positive(rows.first_ns[kept] - begin), NS),
        "tpot": (each[~np.isnan(each)], 1.0),
        "itl": (_positive(rows.gaps_ns[inner]), NS),
        "e2e_latency": (_positive(rows.done_ns[kept] - begin), NS),
    }


def each_request(
    records: Sequence[RequestRecord], dropped: int, from_intended: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which requests are in the distributions, and the seconds of every request by metric, NaN where it has none: the values
    of those chosen that are no NaN are `samples` of the metric."""
    rows = Records.of(records)
    begin = rows.intended_ns if from_intended else rows.sent_ns
    ttft = np.where(rows.ok & (rows.first_ns > begin), (rows.first_ns - begin) * NS, np.nan)
    e2e = np.where(rows.ok & (rows.done_ns > begin), (rows.done_ns - begin) * NS, np.nan)
    return _after(rows, dropped), {"ttft": ttft, "tpot": rows.tpots, "e2e_latency": e2e}


def _positive(values: np.ndarray) -> np.ndarray:
    return values if not len(values) or values.min() > 0 else values[values > 0]


@dataclass(frozen=True, slots=True)
class Window:
    """Nanoseconds since t0; the window holds what arrived after its start, up to its end."""

    name: str
    start: int
    end: int


def window_of(rows: Records, concurrency: int, dropped: int, from_intended: bool) -> Window | None:
    """Where the output rate is taken. None without that many requests.

    Closed loop: from the c-th completion, but not before the first request that was not dropped was sent, to the last
    send. Before, the run ramps up; after, it drains: both dilute the rate. Below 3c requests, the whole run. Open loop:
    from the intended time of the first request that was not dropped to the last intended time.
    """
    if dropped >= len(rows):
        return None
    first = rows.issue_order[dropped]
    if from_intended:
        return Window(STEADY, int(rows.intended_ns[first]), int(rows.intended_ns.max()))
    if len(rows) < 3 * concurrency:
        return Window(WHOLE, int(rows.sent_ns.min()), int(rows.done_ns.max()))
    filled = int(np.sort(rows.done_ns)[concurrency - 1])
    return Window(STEADY, max(filled, int(rows.sent_ns[first])), int(rows.sent_ns.max()))


def _window_rate(rows: Records, at: Window | None) -> tuple[float | None, str, float | None]:
    """(output tokens per second, window name, its seconds). Tokens of a chunk are its request's usage shared equally over
    its chunks. None where one count or more is unknown, or when nothing lies between start and end."""
    if at is None or _tokens(rows) is None:
        return None, WHOLE, None
    if at.end <= at.start:
        return None, at.name, None
    seconds = (at.end - at.start) * NS
    return float(tokens_inside(rows, at).sum()) / seconds or None, at.name, seconds


def tokens_inside(rows: Records, at: Window) -> np.ndarray:
    """Output tokens of every good request that arrived inside the window; of one whose count is unknown, none."""
    times, owners = rows.chunk_ns()
    inside = np.bincount(owners[(times > at.start) & (times <= at.end)], minlength=len(rows))[rows.ok]
    return np.maximum(rows.counts.output[rows.ok], 0) * inside / rows.chunks[rows.ok]


def _tokens(rows: Records) -> int | None:
    """Output tokens of the good requests; None when there is none, or one whose count is unknown."""
    known = rows.counts.output[rows.ok]
    return int(known.sum()) if len(known) and (known != MISSING).all() else None


def _mean(values: np.ndarray) -> float | None:
    known = values[values != MISSING]
    return float(np.mean(known)) if len(known) else None


def _errors(errors: Sequence[str | None]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(e for e in errors if e is not None).items()))


def _state(asked: int, good: int, recorded: int) -> tuple[TrialState, str]:
    if good == 0:
        return TrialState.FAILED, f"none of {asked} requests completed"
    if good < asked:
        return TrialState.PARTIAL, f"{asked - good} of {asked} requests failed or were lost"
    if recorded != asked:
        return TrialState.PARTIAL, f"{recorded} records for {asked} requests"
    return TrialState.FULL, ""
