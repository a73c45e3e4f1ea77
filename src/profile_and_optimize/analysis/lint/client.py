"""Was the client in time? A saturated one reports latencies and rates of its own making."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked, ms
from profile_and_optimize.importers.base import Imported, LoadKind

DELIVERED_LEAST = 0.98
TURNAROUND_WEAK_S = 2e-3
LAG_WEAK_S = 2e-3
# Of the slots, were its milliseconds seconds: a closed loop that is full, give or take ramps.
OTHER_UNIT = (0.3, 1.1)
LAG_WRONG_OF_TTFT = 0.10
WHY_LATE = "a client that is late adds its own delay to TTFT, lowers the load it claims, and can even flatter TPOT"


def late_client(run: Imported) -> Iterator[Said]:
    """Slots left empty, requests sent late, more in flight than there were slots."""
    said = [*_delivered(run), *_little(run), *_lag(run), *_honesty(run)]
    wrong = [text for bad, text in said if bad]
    if said:
        yield Finding(
            "late-client", Severity.WRONG if wrong else Severity.WEAK, run.path, "; ".join(wrong or [t for _, t in said]),
            WHY_LATE, flags.calibrate(run),
        )  # fmt: skip
    elif run.load is LoadKind.CLOSED and run.failed is None:
        yield Unchecked("late-client", run.path, "how many requests failed: a failed request may explain an empty slot")
    elif run.load is LoadKind.UNKNOWN:
        yield Unchecked("late-client", run.path, "the kind of load")
    elif not _spans(run) and not run.send_lag_s:
        yield Unchecked("late-client", run.path, f"when each request was due and sent ({flags.detail(run)})")


def _delivered(run: Imported) -> Iterator[tuple[bool, str]]:
    """Concurrency between first and last send, and what a free slot waited. A failed request's end is in no file."""
    c, spans = slots(run), _spans(run)
    if not c or run.load is not LoadKind.CLOSED or run.failed != 0 or len(spans) < 2 * c:
        return
    got = _in_flight(spans)
    if got is not None and got < DELIVERED_LEAST * c:
        yield True, f"{got:.2f} of {c} requests in flight between first and last send ({got / c:.2%}, least 98%)"
    waited = _turnaround(spans, c)
    if waited > TURNAROUND_WEAK_S:
        yield False, f"a free slot waited {ms(waited)} (median) before the client sent its next request"


def _spans(run: Imported) -> list[tuple[float, float]]:
    """(sent, done) of every request, seconds on one clock; empty where one is missing."""
    found = [(r.sent_s, r.sent_s + r.e2e_s) for r in run.requests if r.sent_s is not None and r.e2e_s is not None]
    return found if len(found) == len(run.requests) else []


def _in_flight(spans: list[tuple[float, float]]) -> float | None:
    """Mean requests in flight while there was still work to hand out."""
    start, end = min(s for s, _ in spans), max(s for s, _ in spans)
    return sum(max(0.0, min(d, end) - s) for s, d in spans) / (end - start) if end > start else None


def _turnaround(spans: list[tuple[float, float]], c: int) -> float:
    """Median seconds from the end of an answer to the send that took its place."""
    sent, done = sorted(s for s, _ in spans), sorted(d for _, d in spans)
    return float(np.median([s - d for s, d in zip(sent[c:], done, strict=False)]))


def slots(run: Imported) -> int:
    """Slots that can be full: the concurrency, or all requests where they are fewer. 0 where unknown."""
    return min(run.concurrency or 0, run.asked or run.concurrency or 0)


def _little(run: Imported) -> Iterator[tuple[bool, str]]:
    """Completed per second times mean latency is the mean in flight: never above the slots, and below by the ramps alone."""
    c, rate, e2e, wall = slots(run), run.request_throughput, run.stat("e2e_latency"), run.duration_s
    if not c or run.load is not LoadKind.CLOSED or run.failed or not rate or not e2e.mean:
        return
    inside = rate * e2e.mean
    if OTHER_UNIT[0] * c < inside * 1e3 < OTHER_UNIT[1] * c:
        yield (
            True,
            f"{rate:.2f} req/s x {ms(e2e.mean)} = {inside:.3f} in flight of {c} slots: "
            "a thousand times too few, so its milliseconds may be seconds",
        )
        return
    if inside > c * (2 - DELIVERED_LEAST):
        yield (
            True,
            f"{rate:.2f} req/s x {ms(e2e.mean)} = {inside:.1f} in flight, more than the {c} slots (Little's law)",
        )
    if not wall or run.failed is None:
        return
    ramps = (e2e.p99 or 2 * e2e.mean) / wall
    if inside < c * (DELIVERED_LEAST - ramps):
        yield (
            True,
            f"{rate:.2f} req/s x {ms(e2e.mean)} = {inside:.1f} in flight of {c} slots (Little's law, ramps allowed for)",
        )


def _lag(run: Imported) -> Iterator[tuple[bool, str]]:
    """How late requests left. In a closed loop that empties slots, which `_delivered` weighs; in an open one it is in no latency.
    With a cap on concurrency the wait is the cap's, which `semaphore` says."""
    open_loop = run.load in (LoadKind.OPEN, LoadKind.CHANGING, LoadKind.TRACE)
    capped = open_loop and run.concurrency is not None
    if not run.send_lag_s or capped:
        return
    p50, p99 = (float(q) for q in np.percentile(run.send_lag_s, (50, 99)))
    ttft = run.stat("ttft").p50
    text = f"requests left {ms(p50)} (median) and {ms(p99)} (p99) after they were due"
    if open_loop and ttft is not None and p50 > LAG_WRONG_OF_TTFT * ttft and p50 > LAG_WEAK_S:
        yield True, f"{text}, TTFT p50 is {ms(ttft)}"
    elif p50 > LAG_WEAK_S:
        yield False, text


def _honesty(run: Imported) -> Iterator[tuple[bool, str]]:
    """Our own client judged itself."""
    if run.facts.get("honesty") in ("invalid", "degraded"):
        yield run.facts["honesty"] == "invalid", f"{run.facts['honesty']}: {run.facts.get('honesty_reasons', '')}"
