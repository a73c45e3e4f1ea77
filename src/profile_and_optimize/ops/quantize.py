"""pao quantize: a quantized checkpoint of a base, with the records that prove what it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.opens import DATA, MODEL, OUT, PYTHON
from profile_and_optimize.engines.process import available_cores
from profile_and_optimize.evidence.folder import workspace
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.ops.acts import Act, Acts, long_if
from profile_and_optimize.ops.base import Acknowledged, Op, Result, Safety, Say
from profile_and_optimize.ops.corpus import Corpus, corpus_of, is_fetched, warnings_of
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.quant.bundle import place_of, write_bundle
from profile_and_optimize.quant.checkpoint import UNKNOWN, Checkpoint
from profile_and_optimize.quant.gaps import count_words, gaps_of
from profile_and_optimize.quant.job import Job, base_bytes, base_config, new_job
from profile_and_optimize.quant.run import environment, existing, export_bytes, quantized, side_bytes, steps
from profile_and_optimize.quant.targets import served_words
from profile_and_optimize.quant.vendor import Scope, vendor_scope

__all__ = ["OP", "default_out", "quantized"]


class QuantizeRequest(Acknowledged):
    model: Annotated[str, MODEL] = Field(description=says("model", "the unquantized base, a folder with its tokenizer"))
    backend: Literal["modelopt", "llm-compressor"] = Field(
        default="modelopt", description=says("backend", "the quantization library")
    )
    target: str = Field(
        description="number format of the weights: nvfp4, fp8, w4a16_nvfp4, int8, w4a16, ... (docs/quantization.md)"
    )
    calib: Annotated[str | None, DATA] = Field(
        default=None,
        description=says("calib"),
    )
    samples: int = Field(default=512, description=says("samples"))
    seq_len: int = Field(default=2048, description=says("seq_len"))
    chat: bool = Field(default=False, description=says("chat", "default: plain text"))
    exclude_pattern: str | None = Field(default=None, description=says("exclude_pattern"))
    match_vendor: Annotated[str | None, MODEL] = Field(
        default=None, description="a vendor's quantized checkpoint; its exclusions are used too"
    )
    out: Annotated[str | None, OUT] = Field(
        default=None, description=says("out", "default: checkpoints/MODEL-TARGET-BACKEND")
    )
    tp: int = Field(default=1, ge=1, description=says("tp", "known gaps of engines are looked up for it"))
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="device of the computation")
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="threads of computation; default: half of the cores"
    )
    seed: int = Field(default=0, ge=0, description=says("seed", "it draws the samples"))
    ptq_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("ptq_python"))
    trust_remote_code: bool = Field(default=False, description="run the Python code that the model folder brings")
    render_only: bool = Field(default=False, description="write the bundle to run elsewhere, and start nothing")


def acts(req: QuantizeRequest) -> Acts:
    """Without a job only a corpus that has to be fetched takes long."""
    if req.dry_run or req.render_only:
        return long_if(is_fetched(req.calib), Act.WRITES)
    return frozenset({Act.WRITES, Act.LONG, Act.STARTS, *((Act.CODE,) if req.trust_remote_code else ())})


def run(req: QuantizeRequest, say: Say) -> Result:
    if not req.render_only:
        req.require_ack()
    corpus = corpus_of(req.calib, say)
    scope = vendor_scope(Path(req.match_vendor)) if req.match_vendor else None
    job = job_of(req, corpus, scope)
    python = Path(req.ptq_python) if req.ptq_python else None
    told = (*warnings_of(corpus, req.chat), *_faulty(scope), *_gaps(job, req.tp))
    if req.dry_run:
        return _dry_run(job, python, told)
    if req.render_only:
        return _rendered(job, acknowledged=req.i_understand_this_submits_jobs, warnings=told)
    was_there = existing(job) is not None
    made = quantized(job, say, python)
    return _shown(job, made, told, reused=was_there)


def job_of(req: QuantizeRequest, corpus: Corpus, scope: Scope | None) -> Job:
    base = Path(not_an_option(req.model, "--model"))
    patterns = [p.strip() for p in (req.exclude_pattern or "").split(",") if p.strip()]
    return new_job(
        base, Path(req.out) if req.out else default_out(base, req.target, req.backend), backend=req.backend,
        target=req.target, calibration=corpus.calibration(req.samples, req.seq_len, req.chat), exclude=patterns,
        vendor_exclude=scope.exclude if scope else None, seed=req.seed, threads=req.threads or default_threads(),
        device=req.device, trust_remote_code=req.trust_remote_code,
    )  # fmt: skip


def default_out(base: Path, target: str, backend: str) -> Path:
    """In a folder `checkpoints` beside the workspace of campaigns: both outlive a run, and neither holds the other."""
    return workspace().absolute().parent / "checkpoints" / f"{base.absolute().name}-{target}-{backend}"


def default_threads() -> int:
    """Half of the cores: the other half of a shared pair slows every matrix product down more than it helps."""
    return max(1, len(available_cores()) // 2)


def _faulty(scope: Scope | None) -> tuple[str, ...]:
    if scope is None or not scope.faulty:
        return ()
    return (
        f"the vendor's list has entries that name nothing, which are left aside: {', '.join(map(ascii, scope.faulty))}",
    )


def _gaps(job: Job, tp: int) -> tuple[str, ...]:
    """What is known not to serve it, said before the work and again at its end."""
    return tuple(f"known gap: {g.words()}" for g in gaps_of(base_config(job.base), job.target, tp))


def _dry_run(job: Job, python: Path | None, warnings: tuple[str, ...]) -> Result:
    env = environment(job, python)
    commands = [
        {"step": s.name, "argv": list(s.command.argv), "env": dict(s.command.env)} for s in steps(job, env.python)
    ]
    room = {
        "base_bytes": base_bytes(job.base),
        "export_bytes_at_most": export_bytes(job),
        "side_bytes": side_bytes(job),
    }
    lines = [
        f"{job.family.model_type}: {count_words(base_config(job.base))}; family {job.family.name}",
        f"stays unquantized: {', '.join(job.exclude)}",
        f"served by: {served_words(job.recipe)}",
        f"disk: {_size(room['export_bytes_at_most'])} at most for the export, {_size(room['side_bytes'])} beside it",
        *(shlex.join([*(f"{k}={v}" for k, v in s["env"].items()), *s["argv"]]) for s in commands),  # type: ignore[attr-defined]
        f"result: {job.out}",
    ]
    return Result({"job": job.to_json(), "commands": commands, "room": room}, "\n".join(lines), warnings)


def _rendered(job: Job, *, acknowledged: bool, warnings: tuple[str, ...]) -> Result:
    folder = write_bundle(job, place_of(job, acknowledged=acknowledged))
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    text = f"{folder}\n  {', '.join(names)}\nnext: read {folder / 'README.md'}"
    return Result({"bundle": str(folder), "files": names, "job": job.to_json()}, text, warnings)


def _shown(job: Job, made: Checkpoint, warnings: tuple[str, ...], *, reused: bool) -> Result:
    coverage, trip, calibration = (
        _record(job.out / name) for name in ("coverage.json", "roundtrip.json", "calibration.json")
    )
    record = _record(job.out / "quantize.json")
    seconds = record.get("seconds", {})
    data = {
        "checkpoint": made.to_json(), "job_digest": job.digest, "reused": reused, "coverage": coverage, "roundtrip": trip,
        "calibration": calibration, "seconds": seconds, "peak_own_bytes": record.get("peak_own_bytes", {}), "bundle": str(job.bundle),
    }  # fmt: skip
    warnings = (*warnings, *map(str, calibration.get("warnings") or ()))
    lines = [
        f"{job.target} by {job.backend}: {made.folder}" + ("  (was there already)" if reused else ""),
        _sizes(made, coverage),
        _answers(trip),
        f"calibration    {calibration.get('samples', UNKNOWN)} samples, {calibration.get('tokens', UNKNOWN)} tokens of "
        f"{calibration.get('source', UNKNOWN)}",
        _checks(coverage),
        _peaks(record),
        f"served by      {served_words(job.recipe)}",
        f"next: pao quant_compare --base {shlex.quote(str(job.base))} --ours {shlex.quote(str(job.out))}, or "
        f"pao optimize --model {shlex.quote(str(job.base))} --quant-target {job.target}",
    ]
    return Result(data, "\n".join(lines), warnings)


def _record(file: Path) -> Mapping[str, Any]:
    found = read_json(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def _sizes(made: Checkpoint, coverage: Mapping[str, Any]) -> str:
    sizes = coverage.get("bytes") or {}
    share, bits = coverage.get("quantized_share"), made.bits_per_weight
    parts = [
        f"{_size(sizes.get('base'))} -> {_size(made.bytes)}",
        f"{bits:.2f} bits a quantized weight" if bits is not None else "bits a weight unknown",
        f"{share:.1%} of the weights quantized" if isinstance(share, int | float) else "share unknown",
    ]
    return "size           " + ", ".join(parts)


def _answers(trip: Mapping[str, Any]) -> str:
    kl, top = trip.get("kl_base") or {}, trip.get("top1_base") or {}
    return (
        f"against base   KL {_number(kl.get('reloaded'))} as read back, {_number(kl.get('in_process'))} in process; "
        f"the same first token {_share(top.get('reloaded'))}; on {trip.get('tokens', UNKNOWN)} held-out tokens"
    )


def _checks(coverage: Mapping[str, Any]) -> str:
    checks = coverage.get("checks") or []
    passed = sum(c.get("passed") is True for c in checks)
    return f"checks         {passed} of {len(checks)} passed: {', '.join(str(c.get('name')) for c in checks)}"


def _peaks(record: Mapping[str, Any]) -> str:
    """The most memory of its own that each stage held."""
    peaks = record.get("peak_own_bytes") or {}
    told = ", ".join(f"{stage} {_size(peak)}" for stage, peak in peaks.items())
    return f"memory         {told or UNKNOWN}"


def _size(count: object) -> str:
    if not isinstance(count, int | float):
        return UNKNOWN
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def _number(value: object) -> str:
    return f"{value:.5f}" if isinstance(value, int | float) else UNKNOWN


def _share(value: object) -> str:
    return f"{value:.2%}" if isinstance(value, int | float) else UNKNOWN


OP = Op(
    "quantize", "Quantize a base after training, and prove what was written.", Safety.SUBMITS_JOBS, QuantizeRequest, run,
    mcp_name="quantize", acts=acts, started=by_fields,
    examples=(
        "pao quantize --model ./my-model --target nvfp4 --dry-run",
        "pao quantize --model ./my-model --backend llm-compressor --target int8 --i-understand-this-submits-jobs",
        "pao quantize --model ./my-model --target nvfp4 --calib texts.jsonl --samples 256 --render-only",
    ),
)  # fmt: skip
