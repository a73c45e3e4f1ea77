"""pao calibration_prepare: a corpus as the samples that a quantizer takes, with what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.opens import DATA, MODEL, OUT, PYTHON
from profile_and_optimize.evidence.folder import workspace
from profile_and_optimize.ops.acts import Act, Acts, long_if
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.corpus import corpus_of, is_fetched, warnings_of
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.quant.job import Heldout, require_tokenizer
from profile_and_optimize.quant.prepare import Wanted, our_python, own_python_will_do, prepared
from profile_and_optimize.toolenv.find import find, from_python

# Tokenized by us in a few seconds.
QUICK_TOKENS = 4_000_000


class PrepareRequest(Request):
    model: Annotated[str, MODEL] = Field(description=says("model", "its tokenizer is used"))
    calib: Annotated[str | None, DATA] = Field(default=None, description=says("calib"))
    samples: int = Field(default=512, description=says("samples"))
    seq_len: int = Field(default=2048, description=says("seq_len"))
    chat: bool = Field(default=False, description=says("chat", "default: plain text"))
    out: Annotated[str | None, OUT] = Field(
        default=None, description=says("out", "default: checkpoints/MODEL-calibration")
    )
    seed: int = Field(default=0, ge=0, description=says("seed", "it draws the samples"))
    ptq_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("ptq_python"))


def acts(req: PrepareRequest) -> Acts:
    """Our own tokenizer is quick; another Python, or a download, takes as long as it takes."""
    quick = req.ptq_python is None and not req.chat and not is_fetched(req.calib) and own_tokens(req) <= QUICK_TOKENS
    return long_if(not quick, Act.WRITES)


def own_tokens(req: PrepareRequest) -> int:
    return req.samples * req.seq_len


def run(req: PrepareRequest, say: Say) -> Result:
    base = Path(not_an_option(req.model, "--model")).absolute()
    require_tokenizer(base)
    corpus = corpus_of(req.calib, say)
    out = Path(req.out) if req.out else workspace().absolute().parent / "checkpoints" / f"{base.name}-calibration"
    wanted = Wanted(base, out.absolute(), corpus.calibration(req.samples, req.seq_len, req.chat), Heldout(), req.seed)
    made = prepared(wanted, say, _python(req, wanted))
    lengths = made["lengths"]
    text = "\n".join((
        f"{wanted.out}",
        f"{made['samples']} samples, {made['tokens']} tokens of {made['documents']} documents of {made['source']}",
        f"lengths {lengths['min']} to {lengths['max']} tokens, median {lengths['median']}",
        f"{made['heldout_samples']} samples held out, {made['heldout_tokens']} tokens",
        f"sha256 {made['sha256']}",
        f"next: pao quantize --model {base} --target nvfp4 --calib {wanted.out / 'calib.jsonl'} --samples {req.samples} "
        f"--seq-len {req.seq_len} --dry-run",
    ))  # fmt: skip
    return Result(
        {"out": str(wanted.out), "calibration": dict(made)},
        text,
        (*warnings_of(corpus, req.chat), *map(str, made.get("warnings", ()))),
    )


def _python(req: PrepareRequest, wanted: Wanted) -> Path:
    if req.ptq_python:
        return from_python(Path(req.ptq_python), "ptq").python
    if own_python_will_do(wanted):
        return our_python()
    env = find("ptq")
    if env is None:
        raise WrongUse("chat templates and Parquet files want the ptq environment", next="pao tools install ptq")
    return env.python


OP = Op(
    "calibration_prepare", "Tokenize a corpus into calibration samples, and say what they are.", Safety.SUBMITS_JOBS,
    PrepareRequest, run, mcp_name="calibration_prepare", acts=acts, started=by_fields,
    examples=("pao calibration_prepare --model ./my-model --calib texts.jsonl --samples 256 --seq-len 1024",),
)  # fmt: skip
