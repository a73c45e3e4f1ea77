"""What the records of one trial say against each other, and against what client, server and machine counted beside them.

Our client keeps several books on the same run: times of every request, the integral of requests in flight, its own wall
time, a count of its reads, samples of its lag. They agree to the nanosecond, so an edit of one is an edit of all. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.stats.summary import NS

# The client that keeps these books.
OURS = "stream"
EXACT_S = 1e-6
# An answer whose end was seen late is dated back to its last read; the run's own end may be dated so too.
DATED_BACK_S = 1.5
# A loop that was blocked at the very end of a run has not taken its last samples.
LAG_PERIOD_S, LAG_SLACK_S, LAG_BLOCKED_S, LAG_SHARE = 0.01, 0.1, 2.0, 0.05
# /proc is read at both ends of the watch over a trial, which takes a while on a machine with many processes.
SLACK_S, SLACK_SHARE = 2.0, 0.02
CLOCK_STEP_S = 0.5


def check_records(t: Judged) -> tuple[Remark, ...]:
    """Everything of one trial that needs no other file."""
    rows, where = Records.of(t.file.run.records), trial_path(t.key)
    if not len(rows):
        return ()
    found = [(text, False) for text in _shape(t, rows)]
    if client_of(t) == OURS:
        found += [*_books(t, rows), *_clocks(t, rows)]
    return tuple(Remark(where, text, doubt) for text, doubt in found)


def client_of(t: Judged) -> str:
    return str(t.file.context.get("client", {}).get("observed", ""))


def _shape(t: Judged, rows: Records) -> Iterator[str]:
    numbers = rows.numbers["index"]
    if not np.array_equal(numbers, np.arange(len(rows))) and sorted(numbers.tolist()) != list(range(len(rows))):
        yield "request numbers are not 0, 1, 2, ... once each"
    has = rows.chunks > 0
    late = has & ((rows.first_ns < rows.sent_ns) | (rows.last_ns > rows.done_ns))
    if late.any():
        yield f"request {_first(rows, late)} has chunks outside its own start and end"
    first = np.where(has, rows.first_ns, rows.done_ns)
    odd = (rows.first_byte_ns != MISSING) & ((rows.first_byte_ns < rows.sent_ns) | (rows.first_byte_ns > first))
    if odd.any():
        yield f"request {_first(rows, odd)} has its first byte outside of its start and first chunk"
    most = _most_in_flight(rows)
    if most > t.file.run.concurrency:
        yield f"{most} requests in flight at once, concurrency was {t.file.run.concurrency}"


def _first(rows: Records, where: np.ndarray) -> int:
    return int(rows.numbers["index"][int(where.argmax())])


def _most_in_flight(rows: Records) -> int:
    """An answer that ends as another request is sent makes room first."""
    sent = np.sort(rows.sent_ns)
    ended = np.searchsorted(np.sort(rows.done_ns), sent, side="right")
    return int((np.arange(1, len(rows) + 1) - ended).max())


def _books(t: Judged, rows: Records) -> Iterator[tuple[str, bool]]:
    """(text, may be honest) of every book of our client that does not agree with its records."""
    run, probe = t.file.run, t.file.run.probe
    area = int((rows.done_ns - rows.sent_ns).sum()) * NS
    counted = probe.in_flight_s if probe.in_flight_s is not None else -1.0
    # A request that was sent again on a new connection was in flight twice, and its record holds the second time only.
    if not probe.reconnects and abs(counted - area) > EXACT_S + 1e-9 * area:
        yield f"the client counted {counted:.6f} s of requests in flight, their latencies add up to {area:.6f} s", False
    span = int(rows.done_ns.max()) * NS
    if abs(probe.wall_s - span) > EXACT_S:
        text = f"the client's run took {probe.wall_s:.6f} s, its last request ended at {span:.6f} s"
        yield text, 0 < span - probe.wall_s < DATED_BACK_S
    if not run.open_loop:
        yield from ((text, False) for text in _chain(rows, run.concurrency))
    yield from ((text, False) for text in _reads(t, rows))
    sampled, share = len(probe.loop_lag_ns) * LAG_PERIOD_S, LAG_SHARE * probe.wall_s
    if abs(sampled - probe.wall_s) > LAG_SLACK_S + share:
        text = f"samples of the client's lag over {sampled:.2f} s, its run took {probe.wall_s:.2f} s"
        yield text, 0 < probe.wall_s - sampled < LAG_BLOCKED_S + share


def _chain(rows: Records, slots: int) -> Iterator[str]:
    """A closed loop: the first requests begin at t0, every other one the moment another ended, and each end begins one."""
    intended, ends = np.sort(rows.intended_ns), np.sort(rows.done_ns)
    if (intended[:slots] != 0).any():
        yield f"the first {min(slots, len(rows))} requests were not meant for the start of the run"
    elif not np.array_equal(intended[slots:], ends[: max(0, len(rows) - slots)]):
        # An end that was dated back may have come later than its time says: then the begun are not the earliest ends.
        left = Counter(ends.tolist())
        left.subtract(intended[slots:].tolist())
        odd = [at for at, count in left.items() if count < 0]
        if odd:
            request = _first(rows, rows.intended_ns == odd[0])
            yield f"request {request} was meant for a moment at which no other request ended"


def _reads(t: Judged, rows: Records) -> Iterator[str]:
    """Chunks of one request at one time came with one read. Data whose blank line comes with a later read blurs a few."""
    with_the_one_before = rows.gaps_ns == 0
    reads = int(rows.chunks.sum()) - int(with_the_one_before.sum())
    several = _runs(rows, with_the_one_before) if with_the_one_before.any() else 0
    told = (t.file.run.probe.reads or 0, t.file.run.probe.coalesced_reads or 0)
    slack = 2 + 0.02 * reads
    if abs(reads - told[0]) > slack or abs(several - told[1]) > slack:
        words = f"{told[0]} reads with chunks, {told[1]} of them with several"
        yield f"the client counted {words}; the chunk times show {reads} and {several}"


def _runs(rows: Records, joined: np.ndarray) -> int:
    """How often chunks that came together begin: a gap of none whose gap before it, in the same request, is another."""
    begins = joined.copy()
    begins[1:] &= ~joined[:-1]
    begins[rows.gap_ends[:-1][np.diff(rows.gap_ends) > 0]] = joined[rows.gap_ends[:-1][np.diff(rows.gap_ends) > 0]]
    return int(begins.sum())


def _clocks(t: Judged, rows: Records) -> Iterator[tuple[str, bool]]:
    """Two records of one stretch of time must agree. What the wall clock alone says is in doubt: it can be set."""
    file, span = t.file, t.summary.wall_s
    told = file.ended_at - file.started_at
    window, step = file.machine.get("window_s"), file.machine.get("clock_step_s")
    if window is not None and span > window + EXACT_S:
        yield f"its requests span {span:.2f} s, the machine was watched for {window:.2f} s", False
    if window is not None and step is not None and abs(told - window - step) > SLACK_S + SLACK_SHARE * window:
        seen = f"the watch over it saw {window:.2f} s and the clock set by {step:.2f} s"
        yield f"from start to end {told:.2f} s by the wall clock; {seen}", False
    elif step is None and span > told + CLOCK_STEP_S:
        yield f"its requests span {span:.2f} s, the trial took {told:.2f} s by the wall clock", True
    if step is not None and abs(step) > CLOCK_STEP_S:
        yield f"the wall clock was set by {step:.2f} s during the trial; its monotonic times decide", True
    t0, slack = file.run.t0_unix_s, SLACK_S + abs(step or 0.0)
    if not file.started_at - slack <= t0 <= file.ended_at + slack:
        text = f"the client started at {t0:.2f}, the trial ran from {file.started_at:.2f} to {file.ended_at:.2f}"
        yield text, step is None
