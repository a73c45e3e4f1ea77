"""What another tool's result says, in our terms: one frozen value per timed run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from profile_and_optimize.core.metrics import DISTRIBUTIONS
from profile_and_optimize.core.records import RequestRecord

LONGEST_S = 100 * 24 * 3600.0
FIGURES = ("p50", "p90", "p99", "mean")
NAMES = tuple(m.name for m in DISTRIBUTIONS)


class LoadKind(StrEnum):
    """How requests were asked for, as the file says; UNKNOWN where it does not, and never a guess.

    CLOSED: a fixed number of slots, each sends when its answer ended. OPEN: arrivals at one rate, with or without a cap.
    CHANGING: arrivals at a rate that changes on purpose. BURST: everything at once. TRACE: recorded times.
    """

    CLOSED = "closed loop"
    OPEN = "open loop"
    CHANGING = "open loop with a changing rate"
    BURST = "all at once"
    TRACE = "trace replay"
    UNKNOWN = "load unknown"


@dataclass(frozen=True, slots=True)
class Stat:
    """One metric as the file states it, in seconds; `n` is how many observations it describes. None is not in the file."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    mean: float | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        for value in (self.p50, self.p90, self.p99, self.mean, self.n):
            if value is not None and (not math.isfinite(value) or value < 0):
                raise ValueError(f"{value!r} is not a measurement")

    @property
    def empty(self) -> bool:
        return self.p50 is None and self.p90 is None and self.p99 is None and self.mean is None

    @staticmethod
    def of(values: Sequence[float]) -> Stat:
        """The same figures computed from observations; empty without any."""
        if not len(values):
            return Stat()
        p50, p90, p99 = (float(q) for q in np.percentile(values, (50, 90, 99)))
        return Stat(p50, p90, p99, float(np.mean(values)), len(values))

    def filled(self, other: Stat) -> Stat:
        """This one, with what it lacks taken from `other`."""
        pairs = ((getattr(self, k), getattr(other, k)) for k in (*FIGURES, "n"))
        return Stat(*(b if a is None else a for a, b in pairs))

    def without(self, figures: Iterable[str]) -> Stat:
        """This one with some figures unknown."""
        return replace(self, **dict.fromkeys(figures))


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """One request as the file tells it, on its own clock: seconds since it was sent. None is not in the file.

    `gaps_s` are the times between chunks, empty for a single chunk. How many tokens a chunk held is in no file that
    we know of. `e2e_s` ends where the tool says; the importers' pages name it. `lag_s` is how late the client sent it,
    `sent_s` when, on the one clock of the run: seconds since its first request was due or sent.
    """

    ttft_s: float | None = None
    gaps_s: tuple[float, ...] | None = None
    e2e_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    lag_s: float | None = None
    sent_s: float | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Imported:
    """One timed run of another tool. Seconds, tokens, tokens per second; None is not in the file, never zero.

    `metrics` is by OUR metric name, translated by formula; `named` says which field of the tool each came from;
    `aside` keeps figures that are none of our metrics although their name says so, by the tool's name, in seconds.
    `concurrency` are the slots of a closed loop, else the cap on requests in flight. `failed` is None where nothing counts
    failures; `incomplete` were still running when the tool stopped, and are not among them.
    `requests` is every request of the run, failed ones too; `records` the same on one common clock, and empty
    where the file has no such clock or no chunk times. `prompts` are digests of the prompts in order, `texts` digests
    of the answers; empty where the file holds none. All four are empty where the file lists something else than the whole
    run, and `unlisted` says what. `errors` are (reason, count). `facts` is whatever context the file names.
    `path` ends in "#2" for the second run of a file that holds several.

    What to doubt: `unread` values that are none of the kind they should be (unknown then), `zeros` the figures of a
    latency that are exactly 0 (unknown then), by metric; `contradicts` figures that the file itself disproves; `silent`
    how it shows that requests counted as completed brought no answer ("" where it does not).
    """

    tool: str
    version: str | None
    path: str
    started: str | None = None
    load: LoadKind = LoadKind.UNKNOWN
    concurrency: int | None = None
    request_rate: float | None = None
    asked: int | None = None
    completed: int | None = None
    failed: int | None = None
    incomplete: int | None = None
    duration_s: float | None = None
    metrics: Mapping[str, Stat] = field(default_factory=dict)
    request_throughput: float | None = None
    output_throughput: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    delivered_concurrency: float | None = None
    records: tuple[RequestRecord, ...] = ()
    requests: tuple[RequestSeen, ...] = ()
    send_lag_s: tuple[float, ...] = ()
    errors: tuple[tuple[str, int], ...] = ()
    prompts: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    aside: Mapping[str, Stat] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    unlisted: str = ""
    unread: tuple[str, ...] = ()
    zeros: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contradicts: tuple[str, ...] = ()
    silent: str = ""

    def __post_init__(self) -> None:
        strange = [name for name in self.metrics if name not in NAMES]
        if strange:
            raise ValueError(f"{strange[0]!r} is not one of our metrics: {', '.join(NAMES)}")
        numbers = (
            self.concurrency, self.request_rate, self.asked, self.completed, self.failed, self.incomplete, self.duration_s,
            self.request_throughput, self.output_throughput, self.input_tokens, self.output_tokens, self.delivered_concurrency,
        )  # fmt: skip
        if any(n is not None and (not math.isfinite(n) or n < 0) for n in numbers):
            raise ValueError(f"{self.path}: a count or rate below zero or not finite")

    def stat(self, name: str) -> Stat:
        """The metric of that name; an empty one where the file lacks it."""
        return self.metrics.get(name, Stat())

    def with_facts(self, more: Mapping[str, str]) -> Imported:
        return replace(self, facts={**self.facts, **more})

    @property
    def good(self) -> tuple[RequestSeen, ...]:
        return tuple(r for r in self.requests if r.ok)


def whole_ns(seconds: float) -> int:
    """Integer nanoseconds of a time within a run. Raises ValueError beyond 100 days, which is none."""
    if abs(seconds) > LONGEST_S:
        raise ValueError(f"{seconds!r} seconds is not a time within a run")
    return round(seconds * 1e9)


def without_empty(stats: Mapping[str, Stat]) -> dict[str, Stat]:
    return {name: stat for name, stat in stats.items() if not stat.empty}


def counted(errors: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """(reason, count), most frequent first."""
    counts: dict[str, int] = {}
    for e in errors:
        counts[e] = counts.get(e, 0) + 1
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
