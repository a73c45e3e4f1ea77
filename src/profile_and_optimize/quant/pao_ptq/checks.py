"""Every check of an export, run once for the same bytes: what can be seen without loading a model, first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .checks_config import exclude_exact
from .checks_described import described
from .checks_experts import amax_finite, experts_quantized, inputs_calibrated, unknown_moe
from .checks_file import dtypes_and_size, gate_up_scale, no_zero_scale, sizes, untouched
from .checks_folder import config_kept, files_named, records_match, sidecars_kept
from .checks_inputs import input_scales
from .checks_plain import plain_kept
from .checks_rounding import rounding
from .evidence import Check, Evidence
from .files import worker_sha256, write_json
from .headers import weight_files
from .speaks import RECORD, files_told, sha256
from .stop import Stop

BYTES: tuple[Callable[[Evidence], Check], ...] = (
    files_named, config_kept, sidecars_kept, records_match, experts_quantized, amax_finite, inputs_calibrated, dtypes_and_size,
    no_zero_scale, gate_up_scale, described, exclude_exact, untouched, unknown_moe, rounding, plain_kept, input_scales,
)  # fmt: skip
# Written by later steps: nothing of what is checked.
LATER = (RECORD, "roundtrip.json")


def by_bytes(ev: Evidence, say: Callable[[int, str], None] = lambda done, what: None) -> list[Check]:
    """What the files show. Looked at before, with these very bytes, it is not looked at again."""
    kept, now = ev.job.work / "checked.json", _bytes_of(ev)
    try:
        told = json.loads(kept.read_text())
        if told["bytes"] == now:
            return [Check(c["name"], c["passed"], c["reason"], tuple(c["examples"])) for c in told["checks"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    checks = []
    for i, check in enumerate(BYTES):
        say(i, check.__name__.replace("_", " "))
        checks.append(check(ev))
    write_json(kept, {"bytes": now, "checks": [asdict(c) for c in checks]})
    return checks


def _bytes_of(ev: Evidence) -> dict[str, Any]:
    """By digest what was written; the base's files, which are only read, as the system tells them apart."""
    base = [
        (p.name, p.stat().st_size, p.stat().st_mtime_ns, p.stat().st_ctime_ns)
        for p in (*weight_files(ev.job.base), *_beside(ev))
    ]
    written = {n: t for n, t in files_told(ev.folder).items() if n not in LATER}
    work = {
        p.name: sha256(p)
        for p in sorted(ev.job.work.glob("*.json*"))
        if p.name not in ("checked.json", "coverage.json")
    }
    told = {"export": written, "work": work, "base": base, "worker": worker_sha256(), "job": dict(ev.job.told)}
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain


def _beside(ev: Evidence) -> list[Path]:
    return sorted(p for p in ev.job.base.rglob("*") if p.is_file() and p.suffix != ".safetensors")


def require_passed(checks: list[Check], where: Path, out: Path) -> None:
    """Raises Stop, naming the first fault of each check that does not pass."""
    bad = [c for c in checks if c.passed is not True]
    if bad:
        told = "; ".join(f"{c.name}: {next(iter(c.examples), c.reason)}" for c in bad[:4])
        more = f" and {len(bad) - 4} checks more" if len(bad) > 4 else ""
        raise Stop("refused", f"the export does not pass: {told}{more}", where=str(where),
                   next=f"nothing was written under {out}; read the reasons there")  # fmt: skip


def shown(checks: list[Check]) -> None:
    for c in checks:
        print(f"{'ok  ' if c.passed else 'FAIL'} {c.name}: {c.reason}", *c.examples, sep="\n       ")


def coverage(ev: Evidence, checks: list[Check]) -> dict[str, Any]:
    """coverage.json: each check with its reason, the shares, and the files that all of it speaks of."""
    quantized = sum(p.params for p in ev.packed.values())
    bits = 8 * sum(p.nbytes for p in ev.packed.values())
    return {
        "schema": 1, "passed": all(c.passed is True for c in checks),
        "checks": [asdict(c) | {"examples": list(c.examples)} for c in checks],
        "quantized_share": quantized / sum(t.params for t in ev.base.values()),
        "bits_per_weight": bits / quantized if quantized else None, "bytes": sizes(ev), "files": files_told(ev.folder),
    }  # fmt: skip
