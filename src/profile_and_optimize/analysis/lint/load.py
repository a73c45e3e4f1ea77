"""Was the load the one that is named? Arrival rates that a cap hides, or that were not reached."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked, ms
from profile_and_optimize.importers.base import Imported, LoadKind

WAIT_WRONG_OF_E2E = 0.02
RATE_LEAST = 0.98
FULL = 0.85


def semaphore(run: Imported) -> Iterator[Said]:
    """An arrival rate under a cap on concurrency: requests wait in the client, and latency is counted from after that."""
    if run.load not in (LoadKind.OPEN, LoadKind.CHANGING, LoadKind.TRACE) or run.concurrency is None:
        return
    e2e = run.stat("e2e_latency").p50
    asked = run.load.value if run.request_rate is None else f"{run.request_rate:g} req/s asked"
    what = f"{asked} with at most {run.concurrency} at once"
    why = "the wait for a slot is what a user would feel, and it is in none of the reported latencies"
    fix = f"drop the cap or the rate; or report from when a request was due, as in: {flags.own_bench(run)}"
    # aiperf counts its lag from when the cap let a request through, so it knows nothing of the wait.
    if not run.send_lag_s or run.tool == "aiperf":
        yield from _bound(run, what, why, fix)
        return
    p50, p99 = (float(q) for q in np.percentile(run.send_lag_s, (50, 99)))
    if e2e is None or p99 > WAIT_WRONG_OF_E2E * e2e:
        from_due = f"; E2E p50 is {ms(e2e)} as reported, {ms(e2e + p50)} from when it was due" if e2e else ""
        seen = f"{what}; requests waited {ms(p50)} (median), {ms(p99)} (p99) in the client{from_due}"
        yield Finding("semaphore", Severity.WRONG, run.path, seen, why, fix)


def _bound(run: Imported, what: str, why: str, fix: str) -> Iterator[Said]:
    """Without the waits: a cap that was full was in force, by Little's law."""
    e2e, rate, cap = run.stat("e2e_latency").mean, run.request_throughput, run.concurrency or 0
    inside = None if e2e is None or rate is None else e2e * rate
    if inside is not None and inside > FULL * cap:
        seen = f"{what}; {inside:.1f} were in flight on average, so the cap was in force"
        yield Finding("semaphore", Severity.WRONG, run.path, seen, why, fix)
    elif inside is None or inside > FULL / 2 * cap:
        yield Finding(
            "semaphore", Severity.WEAK, run.path, f"{what}; how long requests waited is not in the file", why, fix
        )


def rate_not_delivered(run: Imported) -> Iterator[Said]:
    """The rate of sends against the rate at which requests were due, or against the rate asked for.

    Arrivals at random stray from the rate asked for: there three standard errors are allowed on top of the 2%.
    """
    if run.load is LoadKind.CHANGING:
        yield Unchecked("rate-not-delivered", run.path, "one rate to hold it against: it changes on purpose")
    if run.load is not LoadKind.OPEN or run.request_rate is None:
        return
    if run.unlisted:
        yield Unchecked("rate-not-delivered", run.path, f"{run.unlisted}")
        return
    sent, due = _sent_rate(run), _due_rate(run)
    if sent is None:
        yield Unchecked("rate-not-delivered", run.path, "when requests were sent, or the duration and number of them")
        return
    rate, how, n = sent
    least = due * RATE_LEAST if due else run.request_rate * (RATE_LEAST - 3 / math.sqrt(n))
    if rate < least:
        against = f"{due:.2f} due, {run.request_rate:g} asked" if due else f"{run.request_rate:g} asked"
        yield Finding(
            "rate-not-delivered", Severity.WRONG, run.path,
            f"{rate:.2f} req/s sent of {against} ({rate / (due or run.request_rate):.0%}; {how}, {n} requests)",
            "the latencies belong to a lower load than the one that is named",
            "lower the rate until it is delivered, or use more client processes",
        )  # fmt: skip


def _due_rate(run: Imported) -> float | None:
    """Requests per second as the client had drawn them. None where the file lacks it, or names due times that are no
    arrivals at this rate: under a cap aiperf and guidellm put off when a request is due."""
    due = sorted(r.sent_s - r.lag_s for r in run.requests if r.sent_s is not None and r.lag_s is not None)
    if not run.request_rate or len(due) < 2 or len(due) < len(run.requests) or due[-1] <= due[0]:
        return None
    rate = (len(due) - 1) / (due[-1] - due[0])
    return rate if abs(rate / run.request_rate - 1) <= 1 - RATE_LEAST + 3 / math.sqrt(len(due)) else None


def _sent_rate(run: Imported) -> tuple[float, str, int] | None:
    """(requests per second, how it was found, of how many). Without send times: the run less one median answer to drain."""
    sent = sorted(r.sent_s for r in run.requests if r.sent_s is not None)
    if len(sent) > 1 and len(sent) == len(run.requests) and sent[-1] > sent[0]:
        return (len(sent) - 1) / (sent[-1] - sent[0]), "first to last send", len(sent)
    n, e2e = run.asked or run.completed, run.stat("e2e_latency").p50
    if not n or not run.duration_s or e2e is None or run.duration_s <= e2e:
        return None
    return n / (run.duration_s - e2e), "duration less one median answer", n
