"""When an open loop's requests are to be sent: drawn beforehand from a seed, so that every arm meets the same times. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.records import ARRIVALS, CLOSED

MOST_REQUESTS = 1_000_000
BURSTINESS = (0.01, 10_000.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """`at_ns[i]` is when request i is meant to be sent, in nanoseconds after t0, in ascending order from 0.

    `request_rate` is requests per second from the first to the last of them. `after[i]`, of a replay with sessions, is
    the earlier request whose answer request i waits for (None: it waits for nothing), and `think_ns[i]` the pause after
    that answer; it is then meant at max(at_ns[i], that answer's end + think_ns[i]). Both are empty without sessions.
    """

    arrival: str
    request_rate: float
    at_ns: tuple[int, ...]
    after: tuple[int | None, ...] = ()
    think_ns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.arrival not in ARRIVALS or self.arrival == CLOSED:
            raise ValueError(f"arrival {self.arrival!r}: one of {', '.join(a for a in ARRIVALS if a != CLOSED)}")
        if not (math.isfinite(self.request_rate) and self.request_rate > 0):
            raise ValueError(f"request rate must be above 0, got {self.request_rate!r}")
        if not self.at_ns or self.at_ns[0] != 0 or list(self.at_ns) != sorted(self.at_ns):
            raise ValueError("times of sending start at 0 and ascend")
        if len(self.after) != len(self.think_ns) or len(self.after) not in (0, len(self.at_ns)):
            raise ValueError("`after` and `think_ns` have one entry per request, or none at all")
        if any(a is not None and not 0 <= a < i for i, a in enumerate(self.after)) or min(self.think_ns, default=0) < 0:
            raise ValueError("a request waits for an earlier one, and for a time that is not negative")

    @property
    def span_s(self) -> float:
        """From the first to the last intended send, as drawn."""
        return self.at_ns[-1] / 1e9

    @property
    def longest_chain(self) -> int:
        """Most requests that wait for one another in a row; 1 without sessions."""
        depth = [1] * len(self.at_ns)
        for i, before in enumerate(self.after):
            depth[i] = 1 if before is None else depth[before] + 1
        return max(depth)


def draw(arrival: str, rate: float, count: int, seed: str, burstiness: float = 1.0) -> Schedule:
    """`count` sends at `rate` requests per second; the first at 0, the last at exactly (count - 1) / rate seconds.

    constant: gaps of exactly 1/rate. poisson: exponential gaps. gamma: gaps of shape `burstiness` and scale
    1 / (rate * burstiness), as vllm bench and sglang define it: 1 is Poisson, below 1 comes in bursts, above 1 is more
    even (coefficient of variation 1 / sqrt(burstiness)). Drawn gaps are then scaled by one factor so that they add up:
    given its number of arrivals and its length, a Poisson process is distributed just so, and the load that ran is the
    load that was asked. Raises WrongUse naming what is out of bounds.
    """
    _check(rate, count, burstiness)
    if arrival == "constant":
        return Schedule(arrival, rate, tuple(round(i * 1e9 / rate) for i in range(count)))
    rng = random.Random(seed)
    if arrival == "poisson":
        gaps = [rng.expovariate(1.0) for _ in range(count - 1)]
    elif arrival == "gamma":
        gaps = [rng.gammavariate(burstiness, 1.0 / burstiness) for _ in range(count - 1)]
    else:
        raise WrongUse(f"arrival {arrival!r}: poisson, constant or gamma")
    return Schedule(arrival, rate, _times(gaps, rate))


def _times(gaps: Sequence[float], rate: float) -> tuple[int, ...]:
    whole_s = len(gaps) / rate
    if gaps and sum(gaps) <= 0:
        raise WrongUse("all requests would come at once", next="a larger burstiness")
    step = whole_s / math.fsum(gaps) * 1e9 if gaps else 0.0
    at, times = 0.0, [0]
    for gap in gaps:
        at += gap * step
        times.append(round(at))
    return tuple(times)


def _check(rate: float, count: int, burstiness: float) -> None:
    if not (math.isfinite(rate) and rate > 0):
        raise WrongUse(
            f"request rate must be above 0, got {rate:g}", next="give a rate above 0, such as --request-rate 10"
        )
    if not 1 <= count <= MOST_REQUESTS:
        raise WrongUse(
            f"{count} requests: from 1 to {MOST_REQUESTS} in one run", next="change --requests or --duration-s"
        )
    if not BURSTINESS[0] <= burstiness <= BURSTINESS[1]:
        raise WrongUse(f"burstiness {burstiness:g}: from {BURSTINESS[0]:g} to {BURSTINESS[1]:g}; 1 is Poisson")
