"""pao quant_compare: base, our checkpoint and the vendor's in one campaign, and which of them to ship."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.analysis.kernels import finding_words
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import FLAGS, MODEL
from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.drafting import (
    MeasureRequest,
    Quantized,
    checked,
    draft,
    measure,
    measures,
)
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import Started
from profile_and_optimize.ops.worlds import checked_engines, make_world
from profile_and_optimize.quant.checkpoint import read_checkpoint

OURS, VENDOR = "ours", "vendor"


class CompareRequest(MeasureRequest):
    base: Annotated[str, MODEL] = Field(
        description=says("base", "the folder of the model that the checkpoints were made from")
    )
    ours: Annotated[str, MODEL] = Field(description="folder of our checkpoint")
    vendor: Annotated[str | None, MODEL] = Field(default=None, description=says("vendor"))
    engine: str = Field(default="vllm", description=says("engine", "it serves all of them"))
    engine_flags: Annotated[str, FLAGS] = Field(default="", description=says("engine_flags"))
    tolerance_points: float = Field(default=1.0, gt=0, le=100, description=says("tolerance_points"))


def run(req: CompareRequest, say: Say) -> Result:
    engines = checked_engines(req.engine)
    if len(engines) != 1:
        raise WrongUse("one engine serves all of them", where="--engine", next="--engine vllm")
    if not Path(req.base).is_dir():
        raise WrongUse(
            "no such folder",
            where=f"--base {req.base}",
            next="--base FOLDER, the model that the checkpoint was made from",
        )
    model = checked(req.base, engines)
    arms = arms_of(req, engines[0])
    world = make_world(engines, say, req.engine_python, allowed=req.allowance)
    plan = draft(req, model, arms, world, Quantized(VENDOR if req.vendor else "", req.tolerance_points))
    found = measure(req, plan, world, "quant_compare")
    if req.dry_run:
        return found
    compared = read_json(Path(found.data["path"]) / "quant_compare.json")
    told = compared["verdicts"][0]
    line = f"{told['verdict'].upper()} [{told['tier']}]: {told['why']}"
    lines = [line, *(finding_words(f) for f in compared.get("kernel_findings", ()))]
    return Result({**found.data, "quant_compare": compared}, "\n".join([found.text, *lines]), found.warnings)


def started(req: CompareRequest) -> Started:
    """Base and checkpoints with the flags of all; the folders are looked at when it runs."""
    named = {"base": "", OURS: req.ours, **({VENDOR: req.vendor} if req.vendor else {})}
    return Started(tuple(Arm(n, req.engine, Role.CANDIDATE, checkpoint=c) for n, c in named.items()), _flags(req))


def arms_of(req: CompareRequest, engine: str) -> tuple[Arm, ...]:
    """Base, its twin, ours and the vendor's. Raises WrongUse for a folder that holds no quantized checkpoint."""
    made = [Arm("baseline", engine, Role.BASELINE), Arm("baseline-again", engine, Role.AA)]
    made.append(_arm(OURS, engine, req.ours, "--ours"))
    if req.vendor:
        made.append(_arm(VENDOR, engine, req.vendor, "--vendor"))
    return tuple(replace(a, flags=_flags(req)) for a in made)


def _flags(req: CompareRequest) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(req.engine_flags))
    except ValueError as e:
        raise WrongUse(f"not written as in a shell: {e}", where="--engine-flags", next="close the quotes") from e


def _arm(name: str, engine: str, folder: str, option: str) -> Arm:
    path = check_model(folder)
    found = read_checkpoint(Path(path))
    if found.quant_method is None:
        raise WrongUse(
            "its config.json names no quantization", where=f"{option} {folder}", next="pao quantize makes one"
        )
    return Arm(
        name, engine, Role.CANDIDATE, lever=f"{found.quant_method} {found.algo}", checkpoint=path,
        predicts="fewer bytes to read for every token; whether its arithmetic is faster depends on the kernel",
    )  # fmt: skip


OP = Op(
    "quant_compare", "Compare a base with our checkpoint and a vendor's: answers, speed, and which to ship.",
    Safety.SUBMITS_JOBS, CompareRequest, run, mcp_name="quant_compare", acts=measures, started=started,
    examples=(
        "pao quant_compare --base ./my-model --ours ./my-model-nvfp4 --questions questions.jsonl --budget-minutes 30",
        "pao quant_compare --base ./my-model --ours ./my-model-nvfp4 --vendor ./vendor-nvfp4 --budget-minutes 60",
    ),
)  # fmt: skip
