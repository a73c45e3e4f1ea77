"""An open loop's load: what was asked, what was delivered, and did the server keep up? Pure.

Lateness of the client makes a run worse evidence; a server that falls behind makes it a finding. They are told apart:
the send lag is the client's alone, a backlog that grows while requests leave on time is the server's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from profile_and_optimize.core.records import ClientRun, RequestRecord

NS = 1e-9
LEAST_REQUESTS = 20
# The number in flight scatters about like a Poisson variable. Simulated queues (Poisson arrivals, exponential service, the
# most scattered that a server gets) of 400 requests: called saturated 0%, 1%, 16%, 64%, 97% at 0.5, 0.7, 0.9, 1.1 and
# 1.3 of the capacity, called kept up 98%, 86%, 63%, 14%, 0%; the rest is unknown.
GROWN, LEVEL = 3.0, 1.0
FALLING_BEHIND = 0.02  # of the arrivals
STILL = 0.9
SLOWER = 1.1


@dataclass(frozen=True, slots=True)
class Backlog:
    """Requests in flight, averaged over the second, third and last quarter of the arrivals and over their last eighth.

    `saturated` is True when they grow from the second quarter to the last one, beyond scatter and by more than 2% of the
    arrivals, have not come down at the end, and latencies grew with them. It is False when at the end they are back at
    the second quarter's level, within its scatter. Otherwise None: too short to tell, as is a ramp longer than the run.
    Rates are per second over the second half of the arrivals.
    """

    levels: tuple[float, float, float, float]
    arrivals_per_s: float
    completions_per_s: float
    saturated: bool | None

    def words(self) -> str:
        before, _, _, last = self.levels
        return (
            f"{self.arrivals_per_s:.2f} arrivals/s and {self.completions_per_s:.2f} completions/s in the second half; "
            f"in flight {before:.1f}, at the end {last:.1f}"
        )


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Rates in requests per second, from the first to the last request; lags in seconds; None is unknown.

    `intended_rate` is that of the intended times: the asked one, but for a replay whose sessions waited for answers.
    `waited` is how many requests found no idle connection.
    """

    arrival: str
    requested_rate: float
    intended_rate: float | None
    delivered_rate: float | None
    send_lag_p50_s: float | None
    send_lag_p99_s: float | None
    max_in_flight: int
    waited: int | None
    backlog: Backlog | None

    @property
    def delivered_of_requested(self) -> float | None:
        if not self.intended_rate or self.delivered_rate is None:
            return None
        return self.delivered_rate / self.intended_rate

    @property
    def saturated(self) -> bool | None:
        return self.backlog.saturated if self.backlog else None

    def to_json(self) -> dict[str, Any]:
        lags = {"send_lag_p50_ms": self.send_lag_p50_s, "send_lag_p99_ms": self.send_lag_p99_s}
        return {
            "arrival": self.arrival, "requested_rate_req_s": self.requested_rate, "intended_rate_req_s": self.intended_rate,
            "delivered_rate_req_s": self.delivered_rate, **{k: None if v is None else v * 1e3 for k, v in lags.items()},
            "max_in_flight": self.max_in_flight, "waited_for_connection": self.waited, "saturated": self.saturated,
            "backlog": None if self.backlog is None else self.backlog.words(),
        }  # fmt: skip


def open_load(run: ClientRun) -> OpenLoad | None:
    """None for a closed loop."""
    if run.request_rate is None:
        return None
    # A request that never left (no connection could be opened) has no moment of sending to be late at.
    sent = [r for r in run.records if r.ok or r.done_ns > r.sent_ns]
    lags = [(r.sent_ns - r.intended_ns) * NS for r in sent]
    p50, p99 = (float(x) for x in np.percentile(lags, (50, 99))) if lags else (None, None)
    return OpenLoad(
        arrival=run.arrival, requested_rate=run.request_rate, intended_rate=_rate([r.intended_ns for r in sent]),
        delivered_rate=_rate([r.sent_ns for r in sent]), send_lag_p50_s=p50, send_lag_p99_s=p99,
        max_in_flight=max_in_flight(run.records), waited=run.probe.waited_for_connection, backlog=backlog(run.records),
    )  # fmt: skip


def max_in_flight(records: Sequence[RequestRecord]) -> int:
    """Most requests between sent and done at once; an answer that ends as another request is sent makes room first."""
    edges = sorted([(r.sent_ns, 1) for r in records] + [(r.done_ns, -1) for r in records])
    return int(np.max(np.cumsum([step for _, step in edges]))) if edges else 0


def backlog(records: Sequence[RequestRecord]) -> Backlog | None:
    """None below 20 requests, or when all were meant at once. Counts from the intended times, as latencies do."""
    begin = np.sort(np.array([r.intended_ns for r in records], dtype=float)) * NS
    if len(begin) < LEAST_REQUESTS or begin[-1] <= begin[0]:
        return None
    ordered = sorted(records, key=lambda r: r.intended_ns)
    end = np.array([r.done_ns for r in ordered], dtype=float) * NS
    first, span = begin[0], begin[-1] - begin[0]
    parts = [(0.25, 0.5), (0.5, 0.75), (0.75, 1.0), (0.875, 1.0)]
    levels = tuple(_level(begin, end, first + a * span, first + b * span) for a, b in parts)
    half = (first + span / 2, first + span)
    arrivals, completions = (float(np.sum((t > half[0]) & (t <= half[1])) * 2 / span) for t in (begin, end))
    told = _saturated(levels, span, len(begin) / span, _growth(end - begin))
    return Backlog((levels[0], levels[1], levels[2], levels[3]), arrivals, completions, told)


def _saturated(levels: Sequence[float], span: float, rate: float, growth: float) -> bool | None:
    second, third, last, end = levels
    scatter = float(np.sqrt(second + 1))
    # From the middle of the second quarter to the middle of the last is half of the span.
    grown = last - second > max(GROWN * scatter, FALLING_BEHIND * rate * span / 2)
    if grown and end > STILL * last and last > STILL * third and growth > SLOWER:
        return True
    return False if end <= second + LEVEL * scatter else None


def _growth(latency: np.ndarray) -> float:
    """Median latency of the last eighth of the requests over that of their second quarter."""
    quarter = len(latency) // 4
    before = float(np.median(latency[quarter : 2 * quarter]))
    return float(np.median(latency[-(quarter // 2) :])) / before if before > 0 else 1.0


def _level(begin: np.ndarray, end: np.ndarray, a: float, b: float) -> float:
    """Mean number of requests in flight between a and b."""
    return float(np.sum(np.clip(np.minimum(end, b) - np.maximum(begin, a), 0, None)) / (b - a))


def _rate(times_ns: Sequence[int]) -> float | None:
    """Requests per second from the first to the last of them."""
    span = (max(times_ns) - min(times_ns)) * NS if times_ns else 0.0
    return (len(times_ns) - 1) / span if span > 0 else None
