"""What is asked for: job.json as values, checked as it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .files import read_json, worker_sha256
from .stop import Stop
from .targets import Recipe, recipe_of

T = TypeVar("T", bound="Asked")
# What a job may leave unsaid.
DEFAULTS: dict[str, Any] = {"memory": "auto"}


@dataclass(frozen=True)
class Text:
    """Calibration text: what the user named, the corpus file (None: the built-in one), its digest, and how much of it."""

    source: str
    text: str | None
    text_sha256: str | None
    samples: int
    seq_len: int
    chat: bool


@dataclass(frozen=True)
class Held:
    """How much text is set aside for the comparison of answers."""

    samples: int
    seq_len: int


@dataclass(frozen=True)
class Asked:
    """Samples for one model: all that `calibrate` is told. `told` is the file as it was, for the records."""

    base: Path
    out: Path
    calibration: Text
    heldout: Held
    seed: int
    trust_remote_code: bool
    worker_sha256: str
    job_digest: str
    told: Mapping[str, Any] = field(repr=False)

    @property
    def partial(self) -> Path:
        """Where everything lies until the last check passed."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def work(self) -> Path:
        return self.partial / "work"

    @property
    def export(self) -> Path:
        return self.partial / "export"


@dataclass(frozen=True)
class Job(Asked):
    """One quantization."""

    base_digest: str
    backend: str
    target: str
    exclude: tuple[str, ...]
    threads: int
    device: str
    memory: str

    @property
    def asked_exclude(self) -> tuple[str, ...]:
        """What was asked beside the family's own patterns, which may name what a model does not have."""
        family = (self.told.get("family") or {}).get("exclude") or ()
        return tuple(p for p in self.exclude if p not in family)

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.backend, self.target)


def asked_of(told: Mapping[str, Any]) -> Asked:
    """Raises Stop for a job that lacks something, or was written for other workers than these."""
    return _checked(Asked, told, {})


def job_of(told: Mapping[str, Any]) -> Job:
    """Raises Stop for a job that lacks something, or asks for what there is not."""
    more: dict[str, Callable[[Any], Any]] = {
        "base_digest": str, "backend": str, "target": str, "exclude": lambda e: tuple(map(str, e)), "device": str,
        "threads": lambda n: max(1, int(n)),
    }  # fmt: skip
    job = _checked(Job, told, {**more, "memory": str})
    recipe_of(job.backend, job.target)
    return job


def _checked(kind: type[T], told: Mapping[str, Any], more: Mapping[str, Callable[[Any], Any]]) -> T:
    readers: dict[str, Callable[[Any], Any]] = {
        "base": Path, "out": Path, "calibration": lambda t: Text(**{"chat": False} | t), "heldout": lambda h: Held(**h),
        "seed": int, "trust_remote_code": bool, "worker_sha256": str, "job_digest": str, **more,
    }  # fmt: skip
    try:
        job = kind(**{name: read((DEFAULTS | dict(told))[name]) for name, read in readers.items()}, told=dict(told))
    except (KeyError, TypeError, ValueError) as error:
        what = f"no job: {type(error).__name__} {error}"
        raise Stop("wrong_use", what, where="JOB.json", next="pao quantize writes it") from error
    if job.worker_sha256 != worker_sha256():
        what = f"written for other workers ({job.worker_sha256[:12]}, these are {worker_sha256()[:12]})"
        more_ = "pao quantize writes the job and its workers anew"
        raise Stop("wrong_use", what, where="JOB.json worker_sha256", next=more_)
    return job


def read_asked(file: Path) -> Asked:
    return asked_of(read_json(file))


def read_job(file: Path) -> Job:
    return job_of(read_json(file))
