"""What is asked of a server: workloads, the load they run at, and the suite they form."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Point:
    """One workload at one load: closed loop with `concurrency` slots over `requests` requests."""

    workload: Workload
    concurrency: int
    requests: int

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.requests < 2 * self.concurrency:
            raise WrongUse(
                f"{self.workload.name}: {self.requests} requests at concurrency {self.concurrency}; at least "
                f"{2 * max(1, self.concurrency)} are needed, or ramp and drain dominate the throughput"
            )

    @property
    def key(self) -> str:
        return f"{self.workload.name}.c{self.concurrency}"


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
