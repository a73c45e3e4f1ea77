"""The last step: does the export hold what the recipe promised? Only then does it get its final name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .checks import BYTES, by_bytes, coverage, require_passed, shown
from .checks_config import round_trip
from .evidence import _json, gather
from .files import write_json
from .job import Job
from .progress import tell
from .speaks import RECORD, changed
from .stop import Stop


def require_intact(out: Path) -> None:
    """Raises Stop where a finished checkpoint is no longer what was checked."""
    told = (_json(out / RECORD) or {}).get("files")
    faults = changed(out, told) if isinstance(told, dict) else [f"{RECORD}: does not list the files it covers"]
    if faults:
        more = "move it away and quantize again"
        raise Stop("refused", f"not what was checked: {'; '.join(faults[:4])}", where=str(out), next=more)


def finish(partial: Path, out: Path) -> None:
    """Everything to the disk, then one rename. Raises Stop where the name is taken."""
    export = partial / "export"
    for path in [*export.rglob("*"), export]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if os.path.lexists(out):
        raise Stop("refused", "there is something under this name already", where=str(out), next="choose another --out")
    os.rename(export, out)
    shutil.rmtree(partial)


def say(done: int, says: str) -> None:
    tell("guard", says, done=done, of=len(BYTES) + 1)


def run(job: Job) -> None:
    """Raises Stop where a check says no; everything stays under OUT.partial then."""
    out, partial = job.out, job.partial
    if not (partial / "export").exists() and (out / "coverage.json").exists():
        # Killed between the rename and the clearing up, or run once more: what is there must be of this very job.
        made = (_json(out / "quantize.json") or {}).get("job", {}).get("job_digest")
        if made != job.job_digest:
            raise Stop("refused", "it was made by another job", where=str(out), next="choose another --out")
        require_intact(out)
        shutil.rmtree(partial, ignore_errors=True)
        say(len(BYTES) + 1, f"{out} is complete")
        return
    if os.path.lexists(out):
        raise Stop("refused", "there is something under this name already", where=str(out), next="choose another --out")
    ev = gather(job)
    checks = [*by_bytes(ev, say), round_trip(ev)]
    answer = coverage(ev, checks)
    write_json(partial / "work" / "coverage.json", answer)
    write_json(partial / "export" / "coverage.json", answer)
    shown(checks)
    require_passed(checks, partial / "work" / "coverage.json", out)
    finish(partial, out)
    say(len(BYTES) + 1, f"{out} is complete")
