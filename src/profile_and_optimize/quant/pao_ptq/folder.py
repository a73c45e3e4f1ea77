"""The folder of one job: begun, how far it is (STATE.json), and whether it is made already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .files import write_json, write_whole
from .job import Asked
from .stop import Stop

MARKER = "NOT_A_CHECKPOINT.txt"


def is_made(job: Asked) -> bool:
    """Is the checkpoint there already, of this job? Raises Stop when something else has its name."""
    out = job.out
    if not os.path.lexists(out):
        return False
    try:
        made = json.loads((out / "quantize.json").read_text())["job"]["job_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        made = None
    if made != job.job_digest:
        told = "there is something else under this name already"
        raise Stop("refused", told, where=str(out), next="give another --out")
    return True


def opened(job: Asked) -> Path:
    """OUT.partial with its mark, made where it is missing. Raises Stop when it was begun for another job and holds samples
    of that: one that ended before leaves nothing that another could be taken for."""
    partial = job.partial
    (partial / "work").mkdir(parents=True, exist_ok=True)
    if not (partial / MARKER).exists():
        name = job.out.name
        write_whole(partial / MARKER, f"Half made. What is checked and whole appears as {name}, beside this folder.\n")
    state = state_of(partial)
    if state.get("job_digest", job.job_digest) != job.job_digest and (partial / "work" / "calib.jsonl").exists():
        told = "this folder was begun for another job"
        raise Stop("wrong_use", told, where=str(partial), next="give another --out, or remove that folder")
    write_json(partial / "STATE.json", state | {"job_digest": job.job_digest})
    return partial


def state_of(partial: Path) -> dict[str, Any]:
    try:
        found = json.loads((partial / "STATE.json").read_text())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"stage": "calibrate", "done": [], "failed": None}


def mark(partial: Path, stage: str, *, done: bool = False, failed: dict[str, str] | None = None) -> None:
    """Notes where the job is: at a stage, past it, or how it failed there."""
    state = state_of(partial)
    finished = [s for s in state.get("done", []) if s != stage] + ([stage] if done else [])
    told = None if failed is None else {"stage": stage, **failed}
    write_json(partial / "STATE.json", state | {"stage": stage, "done": finished, "failed": told})
