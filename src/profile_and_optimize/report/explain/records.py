"""A few requests as they were recorded, and their part in a metric worked out with the times filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.metrics import E2E, ITL, OUT_RATE, REQ_RATE, TPOT, TTFT, Metric
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.explain.number import Record, shown
from profile_and_optimize.report.words import plain
from profile_and_optimize.stats.columns import Records
from profile_and_optimize.stats.summary import Window, samples, tokens_inside, window_of

FIRST = 2


def first_records(t: Judged, metrics: tuple[Metric, ...], count: int = FIRST) -> tuple[Record, ...]:
    """The first good requests, in order of issue, that the trial's numbers are of; failed ones where there is no good one."""
    rows = Records.of(t.file.run.records)
    order = [int(i) for i in rows.issue_order[t.summary.dropped :]]
    good = [i for i in order if rows.ok[i]] or order
    if OUT_RATE in metrics:
        good = [i for i in good if _inside(t, rows[i])] or good
    return tuple(_record(t, rows[i], metrics) for i in good[:count])


def _inside(t: Judged, r: RequestRecord) -> int:
    """How many of its chunks arrived inside the window of the output rate."""
    at = window(t)
    return 0 if at is None else sum(at.start < c <= at.end for c in r.chunk_ns)


def window(t: Judged) -> Window | None:
    """Where the trial's output rate was taken; None where the client did not tell the chunks, so that it was the whole run."""
    run = t.file.run
    if not run.probe.chunks_known:
        return None
    return window_of(Records.of(run.records), run.concurrency, t.summary.dropped, run.open_loop)


def tokens_in(t: Judged, at: Window) -> float:
    """Output tokens that arrived inside the window, over all good requests of the trial."""
    return float(tokens_inside(Records.of(t.file.run.records), at).sum())


def _record(t: Judged, r: RequestRecord, metrics: tuple[Metric, ...]) -> Record:
    fields = {
        "intended_ns": r.intended_ns, "sent_ns": r.sent_ns, "first_chunk_ns": r.chunk_ns[0] if r.chunk_ns else None,
        "last_chunk_ns": r.chunk_ns[-1] if r.chunk_ns else None, "done_ns": r.done_ns, "chunks": len(r.chunk_ns),
        "prompt_tokens": r.prompt_tokens, "output_tokens": r.completion_tokens,
    }  # fmt: skip
    if not r.ok:
        return Record(trial_path(t.key), r.index, fields, (f"failed, so it counts in no latency: {plain(r.error)}",))
    return Record(trial_path(t.key), r.index, fields, tuple(line for m in metrics for line in _BY_HAND[m.name](t, r)))


def _value(t: Judged, r: RequestRecord, m: Metric) -> str:
    """The metric of this request alone, by the function that all of them go through."""
    found = samples([r], 0, t.file.run.open_loop)[m.name]
    return f"{shown(float(found[0]) * m.scale)} {m.unit}" if len(found) else f"unknown: {m.undefined}"


def _begin(t: Judged, r: RequestRecord) -> tuple[str, int]:
    return ("intended", r.intended_ns) if t.file.run.open_loop else ("sent", r.sent_ns)


def _ttft(t: Judged, r: RequestRecord) -> Iterator[str]:
    name, begin = _begin(t, r)
    yield f"ttft = first chunk - {name} = {r.chunk_ns[0]} - {begin} ns = {_value(t, r, TTFT)}"


def _tpot(t: Judged, r: RequestRecord) -> Iterator[str]:
    ends = f"({r.chunk_ns[-1]} - {r.chunk_ns[0]}) ns"
    below = f"({'unknown' if r.completion_tokens is None else r.completion_tokens} - 1)"
    yield f"tpot = (last chunk - first chunk) / (output tokens - 1) = {ends} / {below} = {_value(t, r, TPOT)}"


def _itl(t: Judged, r: RequestRecord) -> Iterator[str]:
    if not t.file.run.probe.chunks_known:
        yield "itl = unknown: the client told only the ends of every stream"
    elif len(r.chunk_ns) > 1:
        apart = [(a, b) for a, b in pairwise(r.chunk_ns) if b > a]
        head = f"{apart[0][1]} - {apart[0][0]} ns = {_value(t, r, ITL)}" if apart else f"unknown: {ITL.undefined}"
        yield f"itl: {len(apart)} gaps, the first one = a chunk - the one before it = {head}"
    else:
        yield f"itl = unknown: {ITL.undefined}"


def _e2e(t: Judged, r: RequestRecord) -> Iterator[str]:
    name, begin = _begin(t, r)
    yield f"e2e_latency = done - {name} = {r.done_ns} - {begin} ns = {_value(t, r, E2E)}"


def _requests(t: Judged, r: RequestRecord) -> Iterator[str]:
    yield "one of the completed requests"


def _tokens(t: Judged, r: RequestRecord) -> Iterator[str]:
    at = window(t)
    counts = Records.of([r]).counts
    if counts.unknown:
        yield f"its output tokens are unknown: {counts.why[0][0]}"
    elif at is None:
        yield f"{r.completion_tokens} output tokens, all of them in the whole run"
    else:
        tokens = float(tokens_inside(Records.of([r]), at)[0])
        how = f"{r.completion_tokens} tokens x {_inside(t, r)} of {len(r.chunk_ns)} chunks inside the window"
        yield f"its part = {how} = {shown(tokens)} tokens"


_BY_HAND: dict[str, Callable[[Judged, RequestRecord], Iterator[str]]] = {
    TTFT.name: _ttft, TPOT.name: _tpot, ITL.name: _itl, E2E.name: _e2e, REQ_RATE.name: _requests, OUT_RATE.name: _tokens,
}  # fmt: skip
