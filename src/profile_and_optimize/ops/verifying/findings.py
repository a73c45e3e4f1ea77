"""What verify found, and which of its three answers follows from that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.core.errors import PaoError

# Whatever a hostile run makes of a step: a line, never a traceback.
BAD = (
    PaoError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


class Answer(StrEnum):
    """HOLDS: everything was derived again and agrees. HOLDS IN PART: what was looked at agrees, and what was not is named.
    BROKEN: something does not agree."""

    HOLDS = "HOLDS"
    IN_PART = "HOLDS IN PART"
    BROKEN = "BROKEN"


@dataclass
class Findings:
    """Problems, warnings, and what could not be looked at, as lines; the facts that were found on the way."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_covered: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> Answer:
        return Answer.BROKEN if self.problems else Answer.IN_PART if self.not_covered else Answer.HOLDS

    def remark(self, remarks: Iterable[Remark]) -> None:
        for r in remarks:
            (self.warnings if r.doubt else self.problems).append(r.line)

    def step(self, what: str, look: Callable[[], list[str]]) -> None:
        """What a look finds; that it could not look is a finding as well."""
        try:
            self.problems += look()
        except BAD as e:
            self.problems.append(line_of(e, what))

    def add(self, part: Findings) -> None:
        """What another part of the same look found. How many derived files each compared adds up."""
        self.problems += part.problems
        self.warnings += part.warnings
        self.not_covered += part.not_covered
        count = self.facts.get("derived_files", 0) + part.facts.get("derived_files", 0)
        self.facts |= {**part.facts, "derived_files": count}


def line_of(e: BaseException, what: str) -> str:
    return f"{getattr(e, 'where', '') or what}: {getattr(e, 'message', '') or f'{type(e).__name__}: {e}'}"
