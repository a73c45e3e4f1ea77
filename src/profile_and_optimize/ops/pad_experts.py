"""pao pad_experts: experts widened with zeros, for a kernel that wants each rank's share to be a multiple of 64."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.opens import MODEL, OUT
from profile_and_optimize.ops.acts import Act, Acts, long_if
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.quant.pad import ALIGN, pad_experts

QUICK_BYTES = 2 << 30


class PadRequest(Request):
    model: Annotated[str, MODEL] = Field(description="folder of a mixture-of-experts checkpoint, bf16 or quantized")
    tp: int = Field(default=1, ge=1, description="ranks that an expert's width is divided over")
    out: Annotated[str, OUT] = Field(description="folder for the padded copy; must not exist")


def acts(req: PadRequest) -> Acts:
    """Everything is copied: quick where it is small, and nobody knows of what is not there."""
    weights = [p.stat().st_size for p in Path(req.model).glob("*.safetensors") if p.is_file()]
    return long_if(not weights or sum(weights) > QUICK_BYTES, Act.WRITES)


def run(req: PadRequest, say: Say) -> Result:
    model = Path(not_an_option(req.model, "--model")).absolute()
    done = pad_experts(model, Path(not_an_option(req.out, "--out")).absolute(), req.tp, say)
    text = "\n".join((
        f"{done.folder}",
        f"experts {done.before} -> {done.after} wide, {done.after // (ALIGN * req.tp)} x {ALIGN} on each of {req.tp} ranks",
        f"{done.tensors} tensors grew by zeros; {done.bytes_before / 1e6:.2f} MB -> {done.bytes_after / 1e6:.2f} MB",
        "the same answers: nothing was rounded again",
    ))  # fmt: skip
    data = {
        "out": str(done.folder), "width_before": done.before, "width_after": done.after, "tensors": done.tensors,
        "bytes_before": done.bytes_before, "bytes_after": done.bytes_after,
    }  # fmt: skip
    return Result(data, text)


OP = Op(
    verb="pad_experts",
    help="Widen the experts of a checkpoint with zeros, when a kernel rejects their alignment.",
    safety=Safety.SUBMITS_JOBS,
    request=PadRequest,
    run=run,
    mcp_name="pad_experts",
    acts=acts,
    started=by_fields,
    examples=("pao pad_experts --model ./my-moe-nvfp4 --tp 4 --out ./my-moe-nvfp4-tp4",),
)
