"""Answers scored question by question: the lines of samples.jsonl, and the share of right ones with its interval."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.names import digest
from profile_and_optimize.evals.exact_match import could_be_right, is_right, is_unfinished
from profile_and_optimize.evidence.reading import read_bytes, strict_json
from profile_and_optimize.stats.accuracy import score as share_right
from profile_and_optimize.stats.distributions import t_ppf

FIELDS = {"task": str, "id": str, "scores": list, "expected": str, "said": list}


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a task. `id` is a digest of the question itself, the same in every run that asks it. `scores` (each from
    0 to 1) and `said` (the answer as it was scored) hold one value per sample. `cluster` is the declared
    one, "" for none."""

    task: str
    id: str
    scores: tuple[float, ...]
    expected: str
    said: tuple[str, ...]
    cluster: str = ""
    finish: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.scores or len(self.scores) != len(self.said) or len(self.finish) not in (0, len(self.said)):
            raise ValueError(f"{self.task} {self.id}: {len(self.scores)} scores of {len(self.said)} answers")
        if bad := [s for s in self.scores if not 0.0 <= s <= 1.0]:
            raise ValueError(f"{self.task} {self.id}: {bad[0]!r} is not a score from 0 to 1")

    @property
    def cut(self) -> int:
        """How many of its answers are unfinished, and so neither right nor wrong."""
        return sum(map(is_unfinished, self.finish))

    @property
    def mean(self) -> float | None:
        """Over the answers that are finished; None where none is."""
        known = [score for score, there in zip(self.scores, self._finished(), strict=True) if there]
        return fmean(known) if known else None

    def bounds(self, *, by_equality: bool) -> tuple[float, float]:
        """The least and the most that the score could be, whatever the unfinished answers would have become. Scored by equality,
        those that begin otherwise than the expected answer can no longer be right."""
        known = [score if there else 0.0 for score, there in zip(self.scores, self._finished(), strict=True)]
        open_ones = [said for said, there in zip(self.said, self._finished(), strict=True) if not there]
        hope = sum(1 for said in open_ones if not by_equality or could_be_right(said, self.expected))
        return sum(known) / len(known), (sum(known) + hope) / len(known)

    def _finished(self) -> tuple[bool, ...]:
        return tuple(not is_unfinished(f) for f in self.finish) or (True,) * len(self.said)

    @property
    def equal(self) -> tuple[bool, ...]:
        """Is the answer the expected one, but for white space around both?"""
        return tuple(is_right(said, self.expected) for said in self.said)

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task, "id": self.id, "scores": list(self.scores), "expected": self.expected, "said": list(self.said),
            **({"cluster": self.cluster} if self.cluster else {}), **({"finish": list(self.finish)} if self.finish else {}),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scored:
    """The mean score of a task's `n` questions with a finished answer as a share, with its 95% interval; None where one question
    cannot give one."""

    n: int
    score: float
    lower: float | None
    upper: float | None


def scored(samples: Sequence[Sample]) -> Scored | None:
    """Clopper-Pearson where every question is right or wrong as a whole, else Student-t over the questions' means, held
    within 0 and 1. None when no answer is known."""
    means = [s.mean for s in samples if s.mean is not None]
    if not means:
        return None
    if set(means) <= {0.0, 1.0}:
        found = share_right([m == 1.0 for m in means])
        assert found is not None
        return Scored(found.n, found.share, found.lower, found.upper)
    n, mean = len(means), fmean(means)
    if n == 1:
        return Scored(n, mean, None, None)
    half = t_ppf(0.975, n - 1) * stdev(means) / math.sqrt(n)
    return Scored(n, mean, max(0.0, mean - half), min(1.0, mean + half))


def questions_digest(samples: Iterable[Sample]) -> str:
    """Over the questions in the order asked and their declared clusters, whatever was answered."""
    return digest("\n".join(f"{s.id} {s.cluster}" if s.cluster else s.id for s in samples).encode())


def by_task(samples: Iterable[Sample]) -> dict[str, tuple[Sample, ...]]:
    """In the order in which the tasks come."""
    found: dict[str, list[Sample]] = {}
    for s in samples:
        found.setdefault(s.task, []).append(s)
    return {task: tuple(those) for task, those in found.items()}


def encode_samples(samples: Iterable[Sample]) -> bytes:
    lines = (json.dumps(s.to_json(), ensure_ascii=False, allow_nan=False) for s in samples)
    return "".join(line + "\n" for line in lines).encode()


def read_samples(path: Path) -> tuple[Sample, ...]:
    """Raises Corrupted naming file and line: no such line, or a question that stands twice in a task."""
    found: dict[tuple[str, str], Sample] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        try:
            sample = _sample(strict_json(line))
            if (sample.task, sample.id) in found:
                raise ValueError("this question stands twice")
            found[sample.task, sample.id] = sample
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise Corrupted(f"not a sample: {e}", where=f"{path}:{number}", next="evaluate again") from e
    return tuple(found.values())


def _sample(row: Any) -> Sample:
    if row.keys() - {"cluster", "finish"} != FIELDS.keys() or any(
        type(row[k]) is not kind for k, kind in FIELDS.items()
    ):
        raise ValueError(f"its fields are not {', '.join(FIELDS)}, and cluster and finish where there are some")
    cluster = row.get("cluster", "")
    if "cluster" in row and not (type(cluster) is str and cluster):
        raise ValueError(f"cluster must be a name in text, got {cluster!r}")
    if any(type(s) not in (int, float) for s in row["scores"]) or any(type(s) is not str for s in row["said"]):
        raise ValueError("scores are numbers, answers are texts")
    finish = row.get("finish", [])
    if "finish" in row and (type(finish) is not list or not finish or any(type(f) is not str for f in finish)):
        raise ValueError(f"finish must be a text per answer, got {finish!r}")
    return Sample(
        row["task"], row["id"], tuple(map(float, row["scores"])), row["expected"], tuple(row["said"]), cluster, tuple(finish)
    )  # fmt: skip
