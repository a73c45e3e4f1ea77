"""pao pad_experts: experts widened with zeros, for a kernel that wants each rank's share to be a multiple of 64."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.opens import MODEL, OUT, PYTHON
from profile_and_optimize.ops.acts import Act, Acts, long_if
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.quantize import default_threads
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.quant.gaps import ALIGN
from profile_and_optimize.quant.pad import ANSWERS, BYTES, Padded, pad_experts

QUICK_BYTES = 2 << 30


class PadRequest(Request):
    model: Annotated[str, MODEL] = Field(
        description=says("model", "a mixture-of-experts checkpoint, bf16 or quantized")
    )
    tp: int = Field(default=1, ge=1, description=says("tp", "an expert's width is divided over them"))
    multiple: int = Field(default=ALIGN, ge=1, le=4096, description="what the width at each rank becomes a multiple of")
    out: Annotated[str, OUT] = Field(description=says("out", "a folder for the padded copy, which must not exist"))
    unchecked: bool = Field(
        default=False, description="write an unquantized copy without comparing its answers with the source's"
    )
    ptq_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("ptq_python"))


def acts(req: PadRequest) -> Acts:
    """Everything is copied, and both models are loaded: quick where they are small, and nobody knows of what is not there."""
    weights = [p.stat().st_size for p in Path(req.model).glob("*.safetensors") if p.is_file()]
    return long_if(not weights or sum(weights) > QUICK_BYTES, Act.WRITES)


def run(req: PadRequest, say: Say) -> Result:
    model = Path(not_an_option(req.model, "--model")).absolute()
    out = Path(not_an_option(req.out, "--out")).absolute()
    python = Path(not_an_option(req.ptq_python, "--ptq-python")) if req.ptq_python else None
    done = pad_experts(
        model,
        out,
        req.tp,
        say,
        multiple=req.multiple,
        unchecked=req.unchecked,
        python=python,
        threads=default_threads(),
    )
    text = "\n".join((
        f"{done.folder}",
        f"experts {done.before} -> {done.after} wide, {done.after // (req.multiple * req.tp)} x {req.multiple} at each of {req.tp} ranks",
        f"{done.tensors} tensors grew by zeros; {done.bytes_before / 1e6:.2f} MB -> {done.bytes_after / 1e6:.2f} MB",
        compared_words(done),
    ))  # fmt: skip
    data: dict[str, Any] = {
        "out": str(done.folder), "width_before": done.before, "width_after": done.after, "tensors": done.tensors,
        "bytes_before": done.bytes_before, "bytes_after": done.bytes_after, "compared": done.compared, "answers": done.answers,
    }  # fmt: skip
    return Result(data, text)


def compared_words(done: Padded) -> str:
    """What was compared, and no more."""
    if done.compared == ANSWERS and done.answers is not None:
        a = done.answers
        size = (
            "bit for bit"
            if a["bit_equal"]
            else f"a logit differs by {a['largest_difference']:.2g} at most, of {a['largest_logit']:.3g}"
        )
        return f"the same answers: logits of {a['tokens']} tokens compared in float32, {size}; every tensor compared"
    if done.compared == BYTES:
        return (
            "bytes compared, not answers: every stored weight is the source's, and what was added is exactly zero once "
            "dequantized; plain transformers cannot load a quantized mixture"
        )
    return "bytes compared; answers UNKNOWN: nobody has loaded the copy, as --unchecked asked"


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
