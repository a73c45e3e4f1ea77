"""What is asked of a server: workloads, the load they run at, and the suite they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import checked_id


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of `isl` tokens asking for `osl`; `dataset` is "random" or the path of a JSONL file of prompts.

    `warm` declares that prompts may repeat within a server session; otherwise none does.
    """

    name: str
    isl: int
    osl: int
    dataset: str = "random"
    api: str = "chat"
    warm: bool = False

    def __post_init__(self) -> None:
        checked_id(self.name, "workload")
        if self.isl < 1 or self.osl < 1:
            raise WrongUse(f"workload {self.name}: isl {self.isl} and osl {self.osl} must be at least 1")
        if self.api not in ("chat", "completions"):
            raise WrongUse(f"workload {self.name}: api {self.api!r} is not chat or completions")


WARMUP_SLOTS = 8
# Fewer would not tell whether the server kept up (see `stats.open_load`).
LEAST_OPEN = 20


@dataclass(frozen=True, slots=True)
class Point:
    """One workload at one load, over `requests` requests: a closed loop with `concurrency` slots.

    With a `request_rate`, in requests per second, it is an open loop with Poisson arrivals, and `concurrency` is the
    number of slots of the warm-up before it.
    """

    workload: Workload
    concurrency: int
    requests: int
    request_rate: float | None = None

    def __post_init__(self) -> None:
        if self.request_rate is not None:
            self._check_open(self.request_rate)
        elif self.concurrency < 1 or self.requests < 2 * self.concurrency:
            raise WrongUse(
                f"{self.workload.name}: {self.requests} requests at concurrency {self.concurrency}; at least "
                f"{2 * max(1, self.concurrency)} are needed, or ramp and drain dominate the throughput"
            )

    def _check_open(self, rate: float) -> None:
        if not 0 < rate <= 1e5:
            raise WrongUse(f"{self.workload.name}: a request rate of {rate:g} requests a second is none")
        if self.requests < LEAST_OPEN or self.concurrency < 1:
            raise WrongUse(f"{self.workload.name}: {self.requests} requests in an open loop; at least {LEAST_OPEN}")

    @property
    def key(self) -> str:
        return point_key(self.workload.name, self.concurrency, self.request_rate)

    @property
    def load(self) -> str:
        """In words, as a trial's context keeps it."""
        if self.request_rate is None:
            return f"closed loop, concurrency {self.concurrency}, {self.requests} requests"
        return f"open loop, poisson {self.request_rate:g} req/s, {self.requests} requests"


def point_key(workload: str, concurrency: int | None, request_rate: float | None) -> str:
    """`chat.c8` for eight slots, `chat.r4` for four requests a second."""
    return f"{workload}.c{concurrency}" if request_rate is None else f"{workload}.r{request_rate:g}"


def point_from_json(data: dict[str, Any]) -> Point:
    """The inverse of `asdict`. A plan from before open loops has no rate."""
    return Point(Workload(**data["workload"]), data["concurrency"], data["requests"], data.get("request_rate"))


SUITES: dict[str, tuple[Workload, ...]] = {
    "demo": (Workload("short-chat", isl=64, osl=64),),
    "random-128-64": (Workload("random-128-64", isl=128, osl=64),),
}


def suite(name: str) -> tuple[Workload, ...]:
    """The suite of that name, or one workload of any suite. Raises WrongUse naming what there is."""
    if name in SUITES:
        return SUITES[name]
    for members in SUITES.values():
        for one in members:
            if one.name == name:
                return (one,)
    known = sorted(set(SUITES) | {w.name for members in SUITES.values() for w in members})
    raise WrongUse(f"unknown workload or suite {name!r}; there are {', '.join(known)}")
