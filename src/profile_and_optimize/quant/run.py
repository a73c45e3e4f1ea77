"""Runs the four steps of a quantization here, as children that end with us, and hands back the checkpoint they made."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import BrokeMidway, PaoError, WrongUse
from profile_and_optimize.engines.base import Command
from profile_and_optimize.engines.process import Managed, real_error
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.quant.bundle import place_of, write_bundle
from profile_and_optimize.quant.checkpoint import Checkpoint, read_checkpoint
from profile_and_optimize.quant.families import in_range, text_part
from profile_and_optimize.quant.gaps import count_words
from profile_and_optimize.quant.job import Job, base_bytes, base_config
from profile_and_optimize.quant.pao_ptq.__main__ import STEPS
from profile_and_optimize.quant.pao_ptq.memory import free_memory
from profile_and_optimize.quant.pao_ptq.samples import REFERENCE_BYTES
from profile_and_optimize.quant.stops import error_of
from profile_and_optimize.toolenv.find import ToolEnv, find, from_python
from profile_and_optimize.toolenv.specs import PTQ

Say = Callable[[str], None]
POLL_S, TOLD_EVERY_S = 0.1, 2.0
RECORDS_BYTES = 20_000_000
KILLED = (137, 247, -9)


@dataclass(frozen=True, slots=True)
class Step:
    """One worker: its name, its command, and the settings that shape how it computes."""

    name: str
    command: Command


def quantized(job: Job, say: Say, python: Path | None = None) -> Checkpoint:
    """The checkpoint of a job: what is there already when it is of this very job, else made here, going on where a killed
    run was.

    `python` is an environment of the user's own in place of the `ptq` tool environment. Raises WrongUse for what cannot
    be begun, GateRefused when a check said no, BrokeMidway otherwise; under the job's name there is then nothing.
    """
    found = existing(job)
    if found is not None:
        say(f"{job.out} is there already, made by this very job and checked")
        return found
    env = environment(job, python)
    if model_digest(str(job.base)) != job.base_digest:
        raise WrongUse("the base is not what it was when the job was written", where=str(job.base), next="begin again")
    with only_one(job):
        require_room(job, say)
        write_bundle(job, place_of(job, acknowledged=True, python=str(env.python)))
        _tell(job, env, say)
        for step in steps(job, env.python):
            run_step(step, job, say)
    return _made(job)


def existing(job: Job) -> Checkpoint | None:
    """What lies under the job's name. Raises WrongUse when that is something else, or did not pass its checks."""
    if not os.path.lexists(job.out):
        return None
    found = read_checkpoint(job.out) if (job.out / "config.json").is_file() else None
    if found is None or found.job_digest != job.digest or not found.proven:
        ours = found is not None and found.job_digest == job.digest
        why = (
            found.not_proven_words
            if found is not None and ours
            else "is there already, and not of this job (or of other workers)"
        )
        raise WrongUse(why, where=f"--out {job.out}", next="give another --out, or move that folder away")
    return found


def environment(job: Job, python: Path | None) -> ToolEnv:
    """Raises WrongUse where there is none, or where its transformers is not one that the family's entry was written for."""
    env = from_python(python, "ptq") if python is not None else find("ptq")
    if env is None:
        raise WrongUse("the tool environment ptq is not installed", next="pao tools install ptq, or --ptq-python PATH")
    there = env.version("transformers")
    if there is not None and not in_range(there, job.family.transformers):
        raise WrongUse(
            f"transformers {there} is there, family {job.family.name} is known for {job.family.transformers}: the same "
            "model has other modules in other releases", where=str(env.python), next="pao tools install ptq",
        )  # fmt: skip
    return env


def require_room(job: Job, say: Say) -> None:
    """Raises BrokeMidway, before anything runs, where disk or memory cannot hold the work."""
    need = export_bytes(job) + side_bytes(job)
    there = sum(p.stat().st_size for p in job.partial.rglob("*") if p.is_file()) if job.partial.exists() else 0
    job.out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(job.out.parent).free + there
    if free < need:
        raise BrokeMidway(
            f"about {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free", where=str(job.out.parent),
            next="make room, or give --out on another disk",
        )  # fmt: skip
    memory = available_memory()
    if memory is not None and memory < PTQ.memory_floor_bytes:
        raise BrokeMidway(
            f"{memory / 1e9:.1f} GB of memory are free, the libraries alone take {PTQ.memory_floor_bytes / 1e9:.1f}",
            next="stop what takes it, or run the bundle elsewhere (--render-only)",
        )  # fmt: skip
    if memory is not None and memory < base_bytes(job.base) * 1.6:
        say("the base does not fit into memory: its layers are read from disk one at a time, which takes longer")


def export_bytes(job: Job) -> int:
    """At most: what is left out stays as big as it is, and nobody has counted that yet."""
    return int(base_bytes(job.base) * min(1.0, job.recipe.bits_per_weight / 16 + 0.25))


def available_memory() -> int | None:
    """Bytes, a container's limit among them; None where the system does not tell."""
    try:
        return free_memory()
    except OSError:
        return None


def side_bytes(job: Job) -> int:
    """What is written beside the export: log-probabilities of the held-out text, tokens in JSON, records, and the weights
    that the round trip widens again."""
    vocab = text_part(base_config(job.base)).get("vocab_size")
    rows = job.heldout.samples * job.heldout.seq_len
    reference = rows * vocab * 4 if isinstance(vocab, int) else REFERENCE_BYTES
    text = job.calibration.samples * job.calibration.seq_len * 8
    return min(reference, REFERENCE_BYTES) + text + RECORDS_BYTES + base_bytes(job.base)


@contextlib.contextmanager
def only_one(job: Job) -> Iterator[None]:
    """Two runs of one job would write the same files. Raises WrongUse for the second."""
    job.bundle.mkdir(parents=True, exist_ok=True)
    with open(job.bundle / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise WrongUse("is being made by another run right now", where=str(job.out), next="wait for it") from e
        yield


def steps(job: Job, python: Path) -> tuple[Step, ...]:
    """The workers in their order, from the bundle, with the environment settings that are recorded in the log."""
    return tuple(step_of(name, python, job.bundle, job.bundle / "job.json", job.threads) for name in STEPS)


def step_of(name: str, python: Path, workers: Path, job: Path, threads: int) -> Step:
    """One step of the workers that lie in the folder `workers`."""
    env = (*worker_env(threads), ("PYTHONPATH", str(workers)))
    return Step(name, Command((str(python), "-m", "pao_ptq", name, str(job)), env))


def worker_env(threads: int) -> tuple[tuple[str, str], ...]:
    """Threads are set, not left to each library's own count: on shared cores that is far slower, and it is recorded."""
    count = str(threads)
    return (
        ("OMP_NUM_THREADS", count), ("MKL_NUM_THREADS", count), ("OPENBLAS_NUM_THREADS", count),
        ("RAYON_NUM_THREADS", count), ("TOKENIZERS_PARALLELISM", "false"), ("HF_HUB_OFFLINE", "1"),
        ("HF_DATASETS_OFFLINE", "1"), ("PYTHONUNBUFFERED", "1"), ("PYTHONNOUSERSITE", "1"), ("PYTHONSAFEPATH", "1"),
    )  # fmt: skip


def run_step(step: Step, job: Job, say: Say) -> None:
    run_worker(step, job.bundle / "log.txt", say)


def run_worker(step: Step, log: Path, say: Say, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """One worker to its end. Raises the error that it named; whatever ends us ends it and all it started."""
    told = {"step": step.name, "argv": step.command.argv, "env": dict(step.command.env)}
    with log.open("ab") as file:
        file.write(f"\n# {json.dumps(told)}\n".encode())
        start = file.tell()
    reader = Lines(log, start, step.name, say)
    managed = Managed(step.command, log)
    try:
        while not managed.ended:
            reader.read()
            sleep(POLL_S)
        reader.read(rest=True)
    finally:
        managed.stop()
    # An end that nobody saw is no success.
    code = -1 if managed.exit_code is None else managed.exit_code
    if code or reader.error:
        raise _failure(step, code, reader, log)


class Lines:
    """Follows a worker's output: progress is shown, checks that failed too, the last error is kept."""

    def __init__(self, log: Path, start: int, step: str, say: Say) -> None:
        self.log, self.at, self.step, self.say = log, start, step, say
        self.error: dict[str, str] | None = None
        self.tail: list[str] = []
        self._rest = b""
        self._told = 0.0

    def read(self, *, rest: bool = False) -> None:
        with self.log.open("rb") as file:
            file.seek(self.at)
            data = file.read()
        self.at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in [*lines, self._rest] if rest else lines:
            self._line(line.decode(errors="replace"))

    def _line(self, line: str) -> None:
        if line.startswith("PAO-ERROR "):
            self.error = _object(line.removeprefix("PAO-ERROR "))
        elif line.startswith("PAO "):
            self._progress(_object(line.removeprefix("PAO ")) or {})
        elif line.strip():
            self.tail = [*self.tail[-11:], line]
            if line.startswith("FAIL "):
                self.say(redact(line, known_secrets(os.environ)))

    def _progress(self, told: dict[str, Any]) -> None:
        """What is said without a count, the ends of a count, and of what lies between a line every now and then."""
        says, done, of = str(told.get("says", "")), told.get("done"), told.get("of")
        now, count = time.monotonic(), ""
        if isinstance(done, int) and isinstance(of, int) and of > 0:
            if 0 < done < of and now - self._told < TOLD_EVERY_S:
                return
            self._told, count = now, f" {done}/{of}"
        left = told.get("left_s")
        then = f", {_duration(float(left))} left" if isinstance(left, int | float) and left > 0 else ""
        self.say(redact(f"{told.get('stage', self.step)}{count}: {says}{then}", known_secrets(os.environ)))


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _failure(step: Step, code: int, lines: Lines, log: Path) -> PaoError:
    """What the worker said, else what its log ends with."""
    told = lines.error
    if told is not None:
        return error_of(told, where=step.name, next=f"read {log}")
    if code in KILLED:
        return BrokeMidway(
            f"{step.name} was killed: mostly that is the memory running out", where=str(log),
            next="run it again: it resumes where it was; free memory first, or use a larger machine",
        )  # fmt: skip
    last = real_error(log) or (lines.tail[-1].strip() if lines.tail else "no output")
    return BrokeMidway(f"{step.name} ended with status {code}: {last[:300]}", where=str(log), next=f"read {log}")


def _tell(job: Job, env: ToolEnv, say: Say) -> None:
    """What is about to be done, before it is: the mixture's structure, the scope, the versions."""
    config = base_config(job.base)
    names = ("torch", "transformers", "nvidia-modelopt" if job.backend == "modelopt" else "llmcompressor")
    said = ", ".join(f"{n} {env.version(n) or 'unknown'}" for n in names)
    say(f"{job.family.model_type}: {count_words(config)}; family {job.family.name}, recipe {job.family.recipe}")
    if job.family.note:
        say(f"note: {job.family.note}")
    say(f"{job.target} by {job.backend} ({said}), {job.threads} threads; stays unquantized: {', '.join(job.exclude)}")


def _made(job: Job) -> Checkpoint:
    """Reads back what the last step put in place. Raises BrokeMidway where that is not what was asked."""
    if not (job.out / "config.json").is_file():
        raise BrokeMidway(
            "every step ended well, and there is no checkpoint", where=str(job.out), next=f"read {job.bundle}"
        )
    made = read_checkpoint(job.out)
    if made.job_digest != job.digest or not made.proven or made.quant_method != job.recipe.quant_method:
        raise BrokeMidway(
            f"it reports {made.quant_method}, coverage {made.coverage}, round trip {made.roundtrip}; {made.not_proven_words}",
            where=str(job.out), next="report this with its records",
        )  # fmt: skip
    return made
