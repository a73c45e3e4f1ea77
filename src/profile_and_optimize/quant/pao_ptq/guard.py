"""The last step: does the export hold what the recipe promised? Only then does it get its final name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checks_config import exclude_exact, round_trip
from .checks_described import described
from .checks_experts import amax_finite, experts_quantized, inputs_calibrated, unknown_moe
from .checks_file import dtypes_and_size, gate_up_scale, no_zero_scale, sizes, untouched
from .checks_folder import config_kept, files_named, records_match, sidecars_kept
from .checks_inputs import input_scales
from .checks_plain import plain_kept
from .checks_rounding import rounding
from .evidence import Check, Evidence, _json, gather
from .files import write_json
from .job import Job
from .progress import tell
from .speaks import RECORD, changed, files_told
from .stop import Stop

CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    files_named, config_kept, sidecars_kept, records_match, experts_quantized, amax_finite, inputs_calibrated, dtypes_and_size,
    no_zero_scale, gate_up_scale, described, exclude_exact, untouched, unknown_moe, rounding, plain_kept, input_scales, round_trip,
)  # fmt: skip


def coverage(ev: Evidence, say: Callable[[int, str], None] = lambda done, what: None) -> dict[str, Any]:
    """coverage.json: each check with its reason, and the shares."""
    checks = []
    for i, check in enumerate(CHECKS):
        say(i, check.__name__.replace("_", " "))
        checks.append(check(ev))
    quantized = sum(p.params for p in ev.packed.values())
    bits = 8 * sum(p.nbytes for p in ev.packed.values())
    return {
        "schema": 1,
        "passed": all(c.passed is True for c in checks),
        "checks": [
            {"name": c.name, "passed": c.passed, "reason": c.reason, "examples": list(c.examples)} for c in checks
        ],
        "quantized_share": quantized / sum(t.params for t in ev.base.values()),
        "bits_per_weight": bits / quantized if quantized else None,
        "bytes": sizes(ev),
    }


def require_intact(out: Path) -> None:
    """Raises Stop where a finished checkpoint is no longer what was checked."""
    told = (_json(out / RECORD) or {}).get("files")
    faults = changed(out, told) if isinstance(told, dict) else [f"{RECORD}: does not say which files it speaks of"]
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
    tell("guard", says, done=done, of=len(CHECKS))


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
        say(len(CHECKS), f"{out} is complete")
        return
    if os.path.lexists(out):
        raise Stop("refused", "there is something under this name already", where=str(out), next="choose another --out")
    ev = gather(job)
    answer = coverage(ev, say) | {"files": files_told(ev.folder)}
    write_json(partial / "work" / "coverage.json", answer)
    write_json(partial / "export" / "coverage.json", answer)
    for check in answer["checks"]:
        print(
            f"{'ok  ' if check['passed'] else 'FAIL'} {check['name']}: {check['reason']}",
            *check["examples"],
            sep="\n       ",
        )
    if not answer["passed"]:
        names = ", ".join(c["name"] for c in answer["checks"] if c["passed"] is not True)
        raise Stop("refused", f"the export does not pass: {names}", where=str(partial / "work" / "coverage.json"),
                   next=f"nothing was written under {out}; read the reasons there")  # fmt: skip
    finish(partial, out)
    say(len(CHECKS), f"{out} is complete")
