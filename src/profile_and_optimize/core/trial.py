"""One timed run of a point inside a session, and the states it can end in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrialState(StrEnum):
    FULL = "full"
    PARTIAL = "partial"
    FAILED = "failed"


class Validity(StrEnum):
    VALID = "valid"
    DEGRADED = "degraded"
    INVALID = "invalid"


class Stage(StrEnum):
    """A race only chooses who is compared; calls rest on the blocks of the confirmation; a proof on blocks of its own."""

    RACE = "race"
    CONFIRM = "confirm"
    PROVE = "prove"

    @property
    def letter(self) -> str:
        """What names of trials and sessions of this stage begin with."""
        return {Stage.RACE: "r", Stage.CONFIRM: "b", Stage.PROVE: "p"}[self]


@dataclass(frozen=True, slots=True, order=True)
class TrialKey:
    """Where a trial sits: block (from 1 in each stage), arm, point and attempt (from 1: an invalid trial is run again)."""

    block: int
    arm: str
    point: str
    attempt: int = 1
    stage: Stage = Stage.CONFIRM

    @property
    def name(self) -> str:
        return f"{self.stage.letter}{self.block:03d}-{self.point}-a{self.attempt}"
