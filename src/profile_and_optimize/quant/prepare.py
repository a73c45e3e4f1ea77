"""Calibration text by itself: tokenized once, looked at, and given to any number of quantizations."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import canonical, digest_of
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.quant.job import Calibration, Heldout
from profile_and_optimize.quant.pao_ptq.files import worker_files, worker_sha256
from profile_and_optimize.quant.run import run_worker, step_of

Say = Callable[[str], None]
RECORD = "calibration.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Samples for one model, into the folder `out`, which is there whole or not at all."""

    base: Path
    out: Path
    calibration: Calibration
    heldout: Heldout = field(default_factory=Heldout)
    seed: int = 0
    trust_remote_code: bool = False

    @property
    def partial(self) -> Path:
        return self.out.with_name(self.out.name + ".partial")

    def to_json(self) -> dict[str, Any]:
        told = {
            "schema": 1, "base_digest": model_digest(str(self.base)), "calibration": asdict(self.calibration),
            "heldout": asdict(self.heldout), "seed": self.seed, "trust_remote_code": self.trust_remote_code,
            "worker_sha256": worker_sha256(),
        }  # fmt: skip
        return told | {"job_digest": digest_of(told), "base": str(self.base), "out": str(self.out)}


def own_python_will_do(wanted: Wanted) -> bool:
    """Plain text and a tokenizer.json want the tokenizers library alone, which we have; the rest wants transformers."""
    asked = wanted.calibration
    return (wanted.base / "tokenizer.json").is_file() and not asked.chat and not (asked.text or "").endswith(".parquet")


def prepared(wanted: Wanted, say: Say, python: Path) -> Mapping[str, Any]:
    """The record of what was made. Raises WrongUse where the name is taken, and what the worker says otherwise."""
    if os.path.lexists(wanted.out):
        raise WrongUse("there is something under this name already", where=f"--out {wanted.out}", next="give another")
    job = wanted.to_json()
    file = wanted.partial / "job.json"
    if file.exists() and read_json(file).get("job_digest") != job["job_digest"]:
        shutil.rmtree(wanted.partial)  # tokens of a run that was stopped, for other samples
    write_atomic(file, canonical(job) + b"\n")
    for name, data in worker_files().items():
        write_atomic(wanted.partial / "pao_ptq" / name, data)
    run_worker(step_of("calibrate", python, wanted.partial, file, 1), wanted.partial / "log.txt", say)
    os.rename(wanted.partial / "work", wanted.out)
    shutil.rmtree(wanted.partial)
    found: dict[str, Any] = read_json(wanted.out / RECORD)
    return found


def our_python() -> Path:
    return Path(sys.executable)
