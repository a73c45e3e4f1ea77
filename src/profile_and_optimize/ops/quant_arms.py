"""What `--quant-target` asks for: the jobs of phase 4, the arms that serve what they make, and the same again after a kill."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field

from profile_and_optimize.campaign.checkpoints import JOBS
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.opens import DATA, MODEL, PYTHON
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.folder import RunFolder, workspace
from profile_and_optimize.ops.base import ACK_FLAG, Say
from profile_and_optimize.ops.corpus import corpus_of
from profile_and_optimize.ops.drafting import TuneRequest
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.quantize import QuantizeRequest, job_of
from profile_and_optimize.optimize.levers import Facts
from profile_and_optimize.optimize.quant_levers import quant_lever
from profile_and_optimize.optimize.quantized import Quantize
from profile_and_optimize.quant.checkpoint import read_checkpoint
from profile_and_optimize.quant.gaps import gaps_of
from profile_and_optimize.quant.job import Job, base_config, job_bytes, read_job
from profile_and_optimize.quant.run import quantized
from profile_and_optimize.quant.targets import RECIPES

VENDOR = "vendor"


class QuantRequest(TuneRequest):
    """The options of phases 4 and 5."""

    quant_target: str | None = Field(
        default=None,
        description="quantize first and compare: targets, separated by commas, with a backend or without: int8,modelopt:fp8",
    )
    vendor: Annotated[str | None, MODEL] = Field(default=None, description=says("vendor"))
    calib: Annotated[str | None, DATA] = Field(default=None, description=says("calib"))
    samples: int = Field(default=512, description=says("samples"))
    seq_len: int = Field(default=2048, description=says("seq_len"))
    exclude_pattern: str | None = Field(default=None, description=says("exclude_pattern"))
    tolerance_points: float = Field(default=1.0, gt=0, le=100, description=says("tolerance_points"))
    ptq_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("ptq_python"))
    i_understand_this_submits_jobs: bool = Field(default=False, description=says("i_understand_this_submits_jobs"))

    @property
    def quantizes(self) -> bool:
        return self.quant_target is not None or self.vendor is not None

    @property
    def submits(self) -> bool:
        return self.quant_target is not None

    def require_ack(self) -> None:
        """Raises WrongUse for jobs that nobody acknowledged: a quantization spends a node."""
        if self.submits and not (self.i_understand_this_submits_jobs or self.dry_run):
            raise WrongUse(
                "--quant-target runs quantization jobs", next=f"add {ACK_FLAG}, or --dry-run to see the plan"
            )


def jobs_of(req: QuantRequest, model: str, engine: str, facts: Facts, say: Say) -> dict[str, Job]:
    """By arm. Raises WrongUse for a model that cannot be quantized and for a target that no backend has."""
    names = [n.strip() for n in (req.quant_target or "").split(",") if n.strip()]
    if not names:
        return {}
    corpus = corpus_of(req.calib, say)
    made: dict[str, Job] = {}
    for backend, target in dict.fromkeys(_pair(n, engine, "cpu" if facts.cpu else "cuda") for n in names):
        asked = QuantizeRequest(
            model=model, backend=cast(Literal["modelopt", "llm-compressor"], backend), target=target, samples=req.samples,
            seq_len=req.seq_len, exclude_pattern=req.exclude_pattern, out=str(_place(req, model, target, backend)),
        )  # fmt: skip
        job = job_of(asked, corpus, None)
        made[target if target not in made else f"{target}-{backend}"] = job
        # Its arm is served without flags, so by one rank.
        for gap in gaps_of(base_config(job.base), target, engine=engine, device="cpu" if facts.cpu else "cuda"):
            say(f"known gap of {target}: {gap.words()}")
    return made


def _pair(name: str, engine: str, device: str) -> tuple[str, str]:
    """Backend and target of `modelopt:fp8`, or of `fp8`: then the first that makes what this engine serves on this device."""
    backend, _, target = name.rpartition(":")
    if backend:
        return backend, target
    found = [s for s in RECIPES if s.target == target]
    if not found:
        known = dict.fromkeys(s.target for s in RECIPES)
        raise WrongUse(unknown("target", target, known), where="--quant-target", next="docs/quantization.md lists them")
    served = [s for s in found if s.served_by(engine, device, moe=False)]
    return (served or found)[0].backend, target


def _place(req: QuantRequest, model: str, target: str, backend: str) -> Path:
    folder = workspace(req.campaigns_dir).absolute().parent / "checkpoints"
    return folder / f"{Path(model).name}-{target}-{backend}"


def arms_of(req: QuantRequest, jobs: dict[str, Job], engine: str, focus: str, facts: Facts) -> tuple[Arm, ...]:
    """One for each job, and the vendor's beside the first of them, so that the two stand in one block."""
    made = [_arm(name, job, engine, focus, facts) for name, job in jobs.items()]
    if req.vendor:
        path = check_model(req.vendor)
        told = read_checkpoint(Path(path))
        if told.quant_method is None:
            raise WrongUse(
                "its config.json names no quantization", where=f"--vendor {req.vendor}",
                next="give a quantized checkpoint, or leave out --vendor",
            )  # fmt: skip
        lever = f"the vendor's checkpoint, {told.quant_method} {told.algo}"
        made.insert(1, Arm(VENDOR, engine, Role.CANDIDATE, lever=lever, predicts="as ours", checkpoint=path))
    return tuple(made)


def _arm(name: str, job: Job, engine: str, focus: str, facts: Facts) -> Arm:
    told = quant_lever(job.recipe.weight_format, job.recipe.activations, cpu=facts.cpu)
    return Arm(
        name, engine, Role.CANDIDATE, lever=f"{job.target} by {job.backend}: weights {job.recipe.weight_format}, "
        f"activations {job.recipe.activations}", predicts=told.predicts, predicted=dict(told.predicted).get(focus),
        checkpoint=str(job.out),
    )  # fmt: skip


def phase(jobs: dict[str, Job], python: str | None) -> Quantize:
    return Quantize({name: partial(_make, job, Path(python) if python else None) for name, job in jobs.items()})


def _make(job: Job, python: Path | None, say: Callable[[str], None]) -> None:
    quantized(job, say, python)


def keep_jobs(folder: RunFolder, jobs: dict[str, Job]) -> None:
    for name, job in jobs.items():
        folder.write(f"{JOBS}/{name}.json", job_bytes(job), producer="optimize")


def kept_jobs(run: Path, plan: Plan) -> dict[str, Job]:
    """Of a run that goes on. Raises WrongUse where a checkpoint of ours is missing and how to make it was not kept."""
    mine = [a for a in plan.all_arms if a.checkpoint and a.id != plan.vendor]
    files = {a.id: run / JOBS / f"{a.id}.json" for a in mine}
    kept = {a.checkpoint for a in mine if files[a.id].is_file()}
    lost = [a.id for a in mine if a.checkpoint not in kept and not Path(a.checkpoint).is_dir()]
    if lost:
        raise WrongUse(f"how to make {lost[0]} was not kept", where=str(run), next="begin a new run")
    return {name: read_job(file) for name, file in files.items() if file.is_file()}
