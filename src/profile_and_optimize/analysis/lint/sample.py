"""Is there enough in the result to say what it says? Requests per slot, tails, and throughput that includes the ramps."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked, ms
from profile_and_optimize.importers.base import Imported, LoadKind
from profile_and_optimize.stats.quantile import quantile_interval
from profile_and_optimize.stats.summary import STEADY, summarize

ENOUGH_FOR_P99 = 1000
RAMP_WEAK = 0.05
TAILS = ("ttft", "e2e_latency")


def too_few_requests(run: Imported) -> Iterator[Said]:
    """A closed loop with fewer than 2 requests a slot is mostly ramp and drain; below 3 it has no steady window.

    Slots of an open loop's cap, or of a burst, were never meant to be full. Requests are those that were made, not asked for.
    """
    n, c = _made(run), run.concurrency
    if run.load not in (LoadKind.CLOSED, LoadKind.UNKNOWN):
        return
    if run.load is LoadKind.UNKNOWN:
        yield Unchecked("too-few-requests", run.path, "the kind of load")
    elif not n or not c:
        yield Unchecked("too-few-requests", run.path, "the concurrency or the number of requests")
    elif n < 3 * c:
        wrong = n < 2 * c
        yield Finding(
            "too-few-requests", Severity.WRONG if wrong else Severity.WEAK, run.path,
            f"{n} requests for {c} slots: {n / c:.1f} a slot, {'2' if wrong else '3'} are the least",
            "filling and draining the slots is a large part of the run, so its throughput is below what the server sustains"
            if wrong else "no window remains between the first answers and the last send, so throughput includes ramp and drain",
            flags.requests(run, 4 * c),
        )  # fmt: skip


def _made(run: Imported) -> int | None:
    """Requests that ended, or were asked for where nothing counts the failed ones and none completed."""
    if run.completed is None:
        return run.asked
    return run.completed + (run.failed or 0) + (run.incomplete or 0)


def ramp_in_throughput(run: Imported) -> Iterator[Said]:
    """The stated tokens per second against the steady window of the same records."""
    c, stated = run.concurrency, run.output_throughput
    if (
        run.tool == "pao"
        or run.failed
        or run.load is not LoadKind.CLOSED
        or not c
        or not stated
        or (_made(run) or 0) < 3 * c
    ):
        return
    if not run.records:
        yield Unchecked("ramp-in-throughput", run.path, f"when each request was sent ({flags.detail(run)})")
        return
    summary = summarize(run.records, asked=run.asked or len(run.records), concurrency=c)
    steady = summary.output_throughput
    if summary.window == STEADY and steady and stated < steady * (1 - RAMP_WEAK):
        yield Finding(
            "ramp-in-throughput", Severity.WEAK, run.path,
            f"{stated:.0f} tok/s over the whole run, {steady:.0f} tok/s in its steady window of {summary.window_s or 0:.1f} s",
            "ramp and drain dilute the stated figure by as much as many changes would win",
            flags.requests(run, 8 * c),
        )  # fmt: skip


def p99_from_too_few(run: Imported) -> Iterator[Said]:
    """A p99 of fewer than 1000 requests, with its order-statistic interval where the requests are listed."""
    n = run.completed
    stated = [name for name in TAILS if run.stat(name).p99 is not None]
    if not stated or n is None or n >= ENOUGH_FOR_P99 or n == 0:
        return
    shown = "; ".join(_tail(run, name) for name in stated)
    yield Finding(
        "p99-from-too-few", Severity.WEAK, run.path, f"{n} requests; {shown}",
        "a p99 of this many requests is one or a few of its slowest requests: do not rank by it",
        flags.requests(run, ENOUGH_FOR_P99),
    )  # fmt: skip


def _tail(run: Imported, name: str) -> str:
    p99 = run.stat(name).p99
    text = f"{name} p99 {ms(p99 or 0.0)}"
    values = [v for r in run.good if (v := r.ttft_s if name == "ttft" else r.e2e_s) is not None]
    if not values:
        return text
    bounds = quantile_interval(values, 0.99)
    low = "unknown" if bounds.low is None else ms(bounds.low)
    return f"{text} (95% interval {low} to {'no upper bound' if bounds.high is None else ms(bounds.high)})"
