"""No two trials of a run may hold the same measurement. Pure.

On a real machine nanoseconds never repeat: a trial whose answers took exactly what those of another took is a copy, whatever
it is called, in which order its requests stand, and by how much its clock was shifted or its times were stretched.

A server that answers like a clock repeats itself honestly. So only times that differ among themselves are compared: a
request whose mark another request of its own trial has says nothing, and a trial of which most requests are so is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from profile_and_optimize.analysis.check_records import OURS, client_of
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.columns import Records

# Of the smaller trial's marks, and at least so many: one request of a copy that was mixed with others is beyond what can be told.
SHARED, LEAST = 0.1, 3
NO_MARKS = np.zeros(0, np.uint64)
LEAST_GAPS = 4
# Clocks that tick in microseconds or coarser repeat themselves.
TICK_NS, TICKING = 1000, 0.25
# Two whole trials that are one another stretched: every sorted gap to within what rounding leaves.
ROUNDING_NS, LEAST_SPREAD = 2.0, 1e-3
QUANTILES = (0.5, 0.1, 0.25, 0.75, 0.9)
SUMS = "_seconds_sum"


@dataclass(frozen=True, slots=True)
class Marks:
    """What is unlike anything else in one trial: digests of its requests' gaps and of their ends, of its samples of lag, the
    server's sums over it, and the shape of its gaps, which stretching does not change (empty where it has none)."""

    gaps: np.ndarray
    ends: np.ndarray
    lag: int | None
    sums: tuple[tuple[str, float], ...]
    shape: tuple[float, ...]


NOTHING = Marks(NO_MARKS, NO_MARKS, None, (), ())


def marks_of(t: Judged) -> Marks:
    """Of a trial that our own client ran; nothing of others', which round their times."""
    rows = Records.of(t.file.run.records)
    if client_of(t) != OURS or not len(rows):
        return NOTHING
    gaps = _unique(_gap_marks(rows))
    ends = _unique(_end_marks(rows))
    alive = bool(len(gaps) or len(ends))
    lag = t.file.run.probe.loop_lag_ns
    sums = tuple((k, v) for k, v in sorted(t.file.counters.items()) if k.endswith(SUMS) and v > 0) if alive else ()
    return Marks(
        gaps, ends, hash(tuple(lag)) if len(set(lag)) >= 16 else None, sums if len(sums) > 1 else (), _shape(rows)
    )


@cache
def _weights(count: int) -> np.ndarray:
    """Odd numbers without a pattern, the same every time."""
    made = np.random.default_rng(20261130).integers(1, 2**63 - 1, size=count, dtype=np.int64)
    return made.astype(np.uint64) | np.uint64(1)


def _gap_marks(rows: Records) -> np.ndarray:
    """A digest of every request's gaps in their order, where there are enough of several kinds."""
    gaps, starts, counts = rows.gaps_ns.astype(np.uint64), rows.gap_ends[:-1], np.diff(rows.gap_ends)
    has = counts >= LEAST_GAPS
    if not has.any() or _ticks(gaps):
        return NO_MARKS
    place = np.arange(len(gaps)) - np.repeat(starts, counts)
    mixed = gaps * _weights(1 << int(counts.max()).bit_length())[place]
    sums = np.diff(np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed ^ (mixed >> np.uint64(29)))))[rows.gap_ends])
    # Three kinds at least: one gap is neither the shortest nor the longest of its request.
    filled = starts[counts > 0]
    low, high = (np.repeat(f.reduceat(gaps, filled), counts[counts > 0]) for f in (np.minimum, np.maximum))
    between = np.concatenate(([0], np.cumsum((gaps != low) & (gaps != high))))
    return sums[has & (np.diff(between[rows.gap_ends]) > 0) & rows.ok]


def _end_marks(rows: Records) -> np.ndarray:
    """A digest of when each request's first chunk and its end came after it was sent."""
    good = rows.ok & (rows.chunks > 0)
    first, end = (rows.first_ns - rows.sent_ns)[good], (rows.done_ns - rows.sent_ns)[good]
    if not len(end) or _ticks(end.astype(np.uint64)):
        return NO_MARKS
    a, b = _weights(2)
    mixed = first.astype(np.uint64) * a
    return (mixed ^ (mixed >> np.uint64(31))) + end.astype(np.uint64) * b


def _ticks(times: np.ndarray) -> bool:
    some = times[times > 0]
    return not len(some) or float((some % np.uint64(TICK_NS) == 0).mean()) > TICKING


def _unique(marks: np.ndarray) -> np.ndarray:
    """Those that one request alone has; none where most are shared."""
    values, counts = np.unique(marks, return_counts=True)
    alone = values[counts == 1]
    return alone if 2 * len(alone) > len(marks) and len(alone) >= LEAST else NO_MARKS


def _shape(rows: Records) -> tuple[float, ...]:
    """Quantiles of the gaps in standard deviations from their mean, then how many they are, then how far rounding to whole
    nanoseconds may have moved a quantile. Stretching changes none of them."""
    gaps = rows.gaps_ns[rows.gaps_ns > 0].astype(np.float64)
    if len(gaps) < 50 or _ticks(rows.gaps_ns.astype(np.uint64)):
        return ()
    mean, sd = float(gaps.mean()), float(gaps.std())
    if sd < LEAST_SPREAD * mean:
        return ()
    ranks = [int(q * (len(gaps) - 1)) for q in QUANTILES]
    found = np.partition(gaps, ranks)[ranks]
    return (*((found - mean) / sd).tolist(), float(len(gaps)), 3 * ROUNDING_NS / sd)


def check_copies(trials: Iterable[Judged], marks: Mapping[str, object]) -> Iterator[Remark]:
    """Every trial that shares with an earlier one what no two measurements share, with the reason; each once."""
    known = {trial_path(t.key): t for t in trials}
    of = {path: m for path, m in marks.items() if isinstance(m, Marks) and path in known}
    told: set[str] = set()
    for path, other, why in (*_shared(of), *_stretched(known, of)):
        if path not in told:
            told.add(path)
            yield Remark(path, f"{why} {other}: no two measurements are alike to the nanosecond")


def _shared(of: Mapping[str, Marks]) -> Iterator[tuple[str, str, str]]:
    """(trial, earlier trial, why) for every two that share too much."""
    paths = sorted(of)
    for kind in ("gaps", "ends"):
        marks = [getattr(of[p], kind) for p in paths]
        for (first, second), count in sorted(_in_common(marks).items()):
            if count >= max(LEAST, SHARED * min(len(marks[first]), len(marks[second]))):
                yield paths[second], paths[first], f"{count} of its answers took exactly as long as those of"
    seen: dict[object, str] = {}
    for path in paths:
        m = of[path]
        for value, why in (
            (m.lag, "its client's lag was sampled exactly as in"),
            (m.sums, "its server counted exactly as over"),
        ):
            if value and (other := seen.setdefault(value, path)) != path:
                yield path, other, why


def _in_common(marks: list[np.ndarray]) -> dict[tuple[int, int], int]:
    """How many marks each two trials share, by their places; a mark of several is counted with the first that has it."""
    values = np.concatenate([NO_MARKS, *marks])
    owners = np.repeat(np.arange(len(marks)), [len(m) for m in marks])
    order = np.lexsort((owners, values))
    values, owners = values[order], owners[order]
    found: dict[tuple[int, int], int] = defaultdict(int)
    first = np.concatenate(([True], values[1:] != values[:-1])) if len(values) else np.zeros(0, bool)
    starts = np.maximum.accumulate(np.where(first, np.arange(len(values)), 0)) if len(values) else first
    for i in np.flatnonzero(~first):
        found[int(owners[starts[i]]), int(owners[i])] += 1
    return found


def _stretched(known: Mapping[str, Judged], of: Mapping[str, Marks]) -> Iterator[tuple[str, str, str]]:
    """Trials that are another one with all its times multiplied: of equal shape, and each gap in proportion."""
    places = sorted((m.shape, path) for path, m in of.items() if m.shape)
    for i, (shape, path) in enumerate(places):
        for other_shape, other in places[i + 1 :]:
            within = 2 * max(shape[-1], other_shape[-1])
            if other_shape[0] > shape[0] + within:
                break
            alike = all(abs(a - b) <= within for a, b in zip(shape[:-1], other_shape[:-1], strict=True))
            if alike and _proportional(known[path], known[other]):
                later, first = max(path, other), min(path, other)
                yield later, first, "its times are in one proportion those of"


def _proportional(one: Judged, two: Judged) -> bool:
    a, b = (np.sort(Records.of(t.file.run.records).gaps_ns).astype(np.float64) for t in (one, two))
    if len(a) != len(b) or not a.sum():
        return False
    times = b.sum() / a.sum()
    return bool((np.abs(b - times * a) <= ROUNDING_NS * max(1.0, times, 1 / times)).all())
