"""The step that quantizes and exports, killed and started again as often as need be."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from .answers import answers, base_answers
from .backend import Backend
from .base import base_config
from .base_values import require_finite
from .by_compressor import (
    compressor_export,
    compressor_onloaded,
    compressor_quantize,
    compressor_quantizer_facts,
    compressor_refuse,
    compressor_weight_quantizers,
    linearize,
)
from .by_modelopt import (
    modelopt_export,
    modelopt_join,
    modelopt_quantize,
    modelopt_quantizer_facts,
    modelopt_refuse,
    modelopt_weight_quantizers,
)
from .calibration import Calibration, TokenCount
from .exporting import export, record
from .facts import facts_of
from .files import write_json
from .folder import is_made, mark, opened, state_of
from .headers import keep_tensors
from .job import Job
from .loading import TO_QUANTIZE, bare_model, load
from .memory import Peak
from .samples import batches_of, samples_in
from .scope import describe, scope
from .stop import Stop
from .work import Work, check_room

BACKENDS = {
    "modelopt": Backend(
        modelopt_refuse, lambda work, loaded: None, modelopt_quantize, modelopt_join, lambda loaded: contextlib.nullcontext(),
        modelopt_quantizer_facts, modelopt_weight_quantizers, modelopt_export,
    ),
    "llm-compressor": Backend(
        compressor_refuse, linearize, compressor_quantize, lambda model: None, compressor_onloaded,
        compressor_quantizer_facts, compressor_weight_quantizers, compressor_export,
    ),
}  # fmt: skip


def run(job: Job) -> None:
    """Raises Stop. The order: what can be refused without torch, the base's answers, quantization, its answers, facts, export."""
    base_config(job)
    opened(job)
    work = Work(job)
    if is_made(job) or "quantize" in state_of(job.partial).get("done", []):
        work.say("done before: nothing to do")
        return
    check_room(work)
    mark(job.partial, "quantize")
    calib, held = samples_in(work.work / "calib.jsonl"), samples_in(work.work / "heldout.jsonl")
    require_finite(work)
    quantize(work, calib, held)
    work.say("quantized", done=1, of=1)


def quantize(work: Work, calib: list[list[int]], held: list[list[int]]) -> None:
    import torch

    job = work.job
    work.peak = Peak()
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    backend = BACKENDS[job.backend]
    with work.timed("load"):
        loaded = load(job, work.base, TO_QUANTIZE, lambda names: lacking(work.base, names))
        work.note(
            "layers are read from disk one at a time" if loaded.layered else f"base loaded whole on {loaded.device}"
        )
        work.patterns = scope(loaded.model, job.exclude)
        describe(work, loaded.model)
        backend.refuse(work, bare_model(job, work.base))
    with work.timed("base answers"):
        base = base_answers(work, loaded.model, held)
    with work.timed("quantize"):
        backend.prepare(work, loaded)
        tokens = TokenCount()
        calibration = Calibration(work, batches_of(calib, 8 if loaded.layered else 1), tokens)
        saw = backend.quantize(work, loaded, calibration)
        backend.join(loaded.model)
    with work.timed("quantized answers"):
        work.say("answers of the quantized model on held-out text")
        with backend.answering(loaded):
            quantized = answers(loaded.model, held)
        keep_tensors(work.work / "reference.safetensors", {"base": base, "quantized": quantized})
    write_json(work.work / "facts.json", facts_of(work, loaded, saw, tokens, backend).to_json())
    with work.timed("export"):
        export(work, loaded, backend)
    shutil.rmtree(work.work / "offload", ignore_errors=True)
    write_json(work.export / "quantize.json", record(work, loaded))


def lacking(base: Path, names: list[str]) -> Stop:
    told = f"weights are missing or of another shape: {', '.join(names[:4])}"
    return Stop("wrong_use", told, where=str(base), next="fetch it again")
