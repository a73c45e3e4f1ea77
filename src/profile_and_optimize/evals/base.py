"""What an evaluation is: tasks and how they are asked, in; a row per question, out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from profile_and_optimize.evals.exact_match import Question
from profile_and_optimize.evals.pao_eval.sampling import Pins
from profile_and_optimize.evals.samples import Sample

APIS = ("chat", "completions")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One task: `questions` of our own, or what `load` names (a task's name, a YAML file), with data from `splits` (split to
    file; the split "" stands for all) or from the hub where there are none.

    `format` is the prompt of our own questions, `until` where their answers end, `max_tokens` how long they may be.
    """

    name: str
    load: str = ""
    questions: tuple[Question, ...] = ()
    splits: tuple[tuple[str, Path], ...] = ()
    format: str = "{question}"
    until: tuple[str, ...] = ()
    max_tokens: int = 256
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.load) == bool(self.questions):
            raise ValueError(f"task {self.name}: either a name to load or questions")

    @property
    def needs_hub(self) -> bool:
        return not (self.questions or self.splits)


@dataclass(frozen=True, slots=True)
class Asking:
    """How every question is asked. `url` is the server's root, `addresses` those that its name was judged to stand for (none:
    it is an address itself). `limit` and `fewshot` are None where the task decides.

    `cluster_field` is the field of a task's data that names which questions may flip together, "" for none.
    `samples` answers per question: the same one each time at temperature 0, so more than one needs a temperature.
    """

    url: str
    model: str
    api: str
    limit: int | None = None
    fewshot: int | None = None
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int | None = None
    metric: str = ""
    concurrency: int = 8
    timeout_s: float = 600.0
    seed: int = 0
    addresses: tuple[str, ...] = ()
    cluster_field: str = ""

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise ValueError(f"api {self.api!r}: one of {', '.join(APIS)}")
        if self.samples > 1 and self.temperature <= 0:
            raise ValueError("several samples at temperature 0 are one sample")


@dataclass(frozen=True, slots=True)
class Shown:
    """What was sent for a question and what came back whole, per sample: to read, not to score. `question` is its own text,
    without examples and template: near-duplicates are found by it."""

    task: str
    id: str
    asked: str
    answers: tuple[str, ...]
    question: str


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task, asked. `kind` is lm-eval's (`generate_until`, `multiple_choice`), `version` the task's own, `of` how many questions
    it has, of which the first were asked."""

    task: str
    metric: str
    kind: str
    fewshot: int
    version: str
    of: int
    samples: tuple[Sample, ...]
    shown: tuple[Shown, ...]
    wanted: str = ""

    @property
    def cut(self) -> int:
        """How many answers are unfinished."""
        return sum(s.cut for s in self.samples)


@dataclass(frozen=True, slots=True)
class Failed:
    """A task without a score: a stable code, why, and what to do."""

    task: str
    code: str
    message: str
    next: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`pins` is what was sent with every question, None where no answer was generated; `worker_sha256` who asked, `job_sha256` what
    any model asked in this way is asked."""

    runs: tuple[TaskRun, ...]
    failed: tuple[Failed, ...]
    pins: Pins | None = None
    worker_sha256: str = ""
    job_sha256: str = ""


class Evaluator(Protocol):
    @property
    def version(self) -> str: ...

    def run(self, wanted: tuple[Wanted, ...], asking: Asking, workdir: Path, say: Callable[[str], None]) -> Outcome:
        """Every task asked, one after the other; what one cannot give does not keep the others from being asked."""
        ...
