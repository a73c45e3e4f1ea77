"""What a lint says: findings with their evidence, and what it could not check."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from profile_and_optimize.importers.base import Imported


class Severity(StrEnum):
    """WRONG: a number in the result is not what it says. WEAK: it may be right and the result does not show it.
    UNKNOWN: the result lacks what it takes to tell."""

    WRONG = "wrong"
    WEAK = "weak"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """`result` is the path of the run, `seen` the numbers, `why` one sentence, `fix` a command or the tool's own flags."""

    code: str
    severity: Severity
    result: str
    seen: str
    why: str
    fix: str

    def __post_init__(self) -> None:
        if not all((self.code, self.seen, self.why, self.fix)):
            raise ValueError(f"{self.code}: a finding needs what was seen, why it matters and what to do")


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not be made, and what the result lacks for it."""

    code: str
    result: str
    lacks: str


Said = Finding | Unchecked
RunRule = Callable[[Imported], Iterable[Said]]


@dataclass(frozen=True, slots=True)
class Given:
    """One argument of the command and the runs found there: several given side by side are a comparison."""

    name: str
    runs: tuple[Imported, ...]


@dataclass(frozen=True, slots=True)
class Lint:
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]

    @staticmethod
    def of(said: Sequence[Said]) -> Lint:
        """Worst first, else in the order said."""
        rank = list(Severity)
        findings = sorted((s for s in said if isinstance(s, Finding)), key=lambda f: rank.index(f.severity))
        return Lint(tuple(findings), tuple(s for s in said if isinstance(s, Unchecked)))

    def count(self, severity: Severity) -> int:
        return sum(f.severity is severity for f in self.findings)


def finite(text: str | None) -> float | None:
    """A fact as a number; None where it is none: a user may have written anything under that name."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def ms(seconds: float) -> str:
    """Milliseconds with three figures that mean something: 0.003 ms, 54.5 ms, 1932 ms."""
    value = seconds * 1e3
    return f"{value:.0f} ms" if value >= 1000 else f"{value:.1f} ms" if value >= 1 else f"{value:.3f} ms"
