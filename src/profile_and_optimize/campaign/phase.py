"""What a phase is: a name, what it needs, what it writes, and a gate that stops the run when it is red."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from profile_and_optimize.campaign.world import World
from profile_and_optimize.evidence.folder import RunFolder


@dataclass(frozen=True, slots=True)
class GateResult:
    """`passed` False stops the run; `next` is the command or edit that would turn it green."""

    passed: bool
    reason: str
    next: str = ""


class Phase(Protocol):
    """`number` as in the road ("0", "1", "3", ...); `needs` and `writes` are paths relative to the run."""

    @property
    def number(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def writes(self) -> tuple[str, ...]: ...

    def run(self, folder: RunFolder, world: World) -> GateResult: ...
