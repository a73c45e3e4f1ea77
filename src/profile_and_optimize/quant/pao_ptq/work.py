"""What one run of `quantize` carries along: its job, clock, notes and memory peaks."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .headers import weights_bytes
from .job import Job
from .memory import Peak
from .progress import tell
from .stop import Stop
from .targets import Recipe


@dataclass
class Work:
    """One job's folder, its clock and its progress. `patterns` say what is left out, by names in memory (see `scope`)."""

    job: Job
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    peak: Peak | None = None
    peaks: dict[str, int | None] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.job.work

    @property
    def export(self) -> Path:
        return self.job.export

    @property
    def base(self) -> Path:
        return self.job.base

    @property
    def recipe(self) -> Recipe:
        return self.job.recipe

    def say(self, says: str, *, done: int = 0, of: int = 0, left_s: float | None = None) -> None:
        tell("quantize", says, done=done, of=of, left_s=left_s)

    def note(self, told: str) -> None:
        self.notes.append(told)
        self.say(told)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        before = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - before, 2)
        self.peaks[stage] = self.peak.taken() if self.peak else None


def check_room(work: Work) -> None:
    """Raises Stop when the export and its side files cannot fit on the disk."""
    need = int(weights_bytes(work.base) * (work.recipe.bits_per_weight / 16 + 0.1)) + 10_000_000
    there = sum(p.stat().st_size for p in work.export.rglob("*") if p.is_file()) if work.export.exists() else 0
    free = shutil.disk_usage(work.job.partial).free + there
    if free < need:
        told = f"about {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise Stop(
            "broke",
            told,
            where=str(work.job.partial),
            next="make room, or give --out on another disk; then run it again",
        )
