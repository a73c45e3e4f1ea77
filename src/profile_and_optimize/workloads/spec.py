"""A workload as somebody writes it down, in a suite of the package or in a campaign file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import DATA
from profile_and_optimize.core.workload import ALIKE, RANDOM, Workload

Cache = Literal["cold", "prefixes", "warm"]


class WorkloadSpec(BaseModel):
    """A name alone is a workload of a suite; with lengths it is one of its own. `warm: true` is `cache: warm`."""

    model_config = ConfigDict(extra="forbid")

    name: str
    isl: int | None = None
    osl: int | None = None
    dataset: Annotated[str, DATA] = RANDOM
    api: Literal["chat", "completions"] = "chat"
    warm: bool = False
    kind: Literal["random", "prompts", "text", "conversations", "multi-turn", "shared-prefix"] | None = None
    isl_least: int = 0
    osl_least: int = 0
    cache: Cache | None = None
    shared: int = 0
    groups: int = 1
    turns: int = 0
    concurrencies: list[int] | None = Field(default=None, min_length=1)
    requests: int | None = None

    @property
    def is_name(self) -> bool:
        """Does it name a workload of a suite, and say at most how it is loaded?"""
        return self.model_fields_set <= {"name", "concurrencies", "requests"}

    def workload(self) -> Workload:
        """Raises WrongUse for one that cannot be."""
        if self.isl is None or self.osl is None:
            lacking = "isl" if self.isl is None else "osl"
            raise WrongUse(
                f"workload {self.name}: no {lacking}", where="workloads",
                next=f"give {lacking}, or the name alone of a workload of a suite: pao workloads",
            )  # fmt: skip
        if self.warm and self.cache not in (None, "warm"):
            raise WrongUse(f"workload {self.name}: warm, and cache: {self.cache}", next="leave out one")
        if self.kind in ALIKE and self.cache == "cold":
            raise WrongUse(f"workload {self.name}: {self.kind} prompts begin alike, so they cannot be cold")
        return Workload(
            self.name, self.isl, self.osl, self.dataset, self.api, self.warm or self.cache == "warm", self.kind or "",
            self.isl_least, self.osl_least, self.cache == "prefixes", self.shared, self.groups, self.turns,
        )  # fmt: skip
