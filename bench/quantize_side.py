"""One backend's side of `bench/quantize.py`, in the ptq environment: our steps and the library's own default, in turn.

    PTQ_PYTHON quantize_side.py FOLDER_OF_PAO_PTQ JOB.json...      a line of JSON on stdout for each job

"Own default" is the library's configuration as it ships, on the same calibration text and the same held-out tokens: ModelOpt's
`*_DEFAULT_CFG`, llm-compressor's scheme with `ignore=["lm_head"]` as its examples have it. Where ModelOpt's arithmetic needs
CUDA, ours stands in (the same numbers as its packed tensors). What is compared is the KL to the base of the model in process;
of ours, that of what was written and read back too.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])
program, compare, jobs, modelopt_cpu, by_ours = (
    importlib.import_module(f"pao_ptq.{n}") for n in ("__main__", "compare", "job", "modelopt_cpu", "by_modelopt")
)


def main() -> None:
    for file in sys.argv[2:]:
        job = jobs.read_job(Path(file))
        with contextlib.redirect_stdout(sys.stderr):
            told = {"job": file, **ours(job, file)}
            told |= {"theirs": attempt(job)}
        print(json.dumps(told), flush=True)


def ours(job: Any, file: str) -> dict[str, Any]:
    began = time.monotonic()
    for step in program.STEPS:
        if step == "roundtrip":
            keep_text(job)
        code = program.main([step, file])
        if code != 0:
            return {"failed": f"{step} ended with {code}{why(job)}"}
    return {
        "seconds": time.monotonic() - began,
        "coverage": json.loads((job.out / "coverage.json").read_text()),
        "roundtrip": json.loads((job.out / "roundtrip.json").read_text()),
    }


def why(job: Any) -> str:
    """The checks that said no, where it came to checks."""
    told = job.work / "coverage.json"
    checks = json.loads(told.read_text())["checks"] if told.exists() else []
    return "".join(
        f"; {c['name']}: {c['reason']}, {', '.join(c['examples'][:1])}" for c in checks if c["passed"] is not True
    )


def text_of(job: Any) -> Path:
    text: Path = job.out.with_name(job.out.name + ".text")
    return text


def keep_text(job: Any) -> None:
    """The guard clears the work folder up; the other side wants the same samples and the base's answers."""
    text_of(job).mkdir(exist_ok=True)
    for name in ("calib.jsonl", "heldout.jsonl", "reference.safetensors"):
        (text_of(job) / name).write_bytes((job.work / name).read_bytes())


def attempt(job: Any) -> dict[str, Any]:
    began = time.monotonic()
    try:
        return {**theirs(job), "seconds": time.monotonic() - began}
    except Exception as e:  # whatever a library raises is its answer here
        return {"failed": f"{type(e).__name__}: {e}"[:200]}


def rows_of(file: Path) -> list[list[int]]:
    return [json.loads(line)["input_ids"] for line in file.read_text().splitlines() if line.strip()]


def theirs(job: Any) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    kept = text_of(job)
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.bfloat16).eval()
    by = {"modelopt": by_modelopt, "llm-compressor": by_llm_compressor}[job.backend]
    model = by(model, job.recipe, rows_of(kept / "calib.jsonl"))
    base = load_file(kept / "reference.safetensors")["base"]
    sums, at = compare.Sums(), 0
    for row in rows_of(kept / "heldout.jsonl"):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0].float()
        part = base[at : at + len(logits)]
        sums.add(part, torch.log_softmax(logits[: len(part)], -1))
        at += len(part)
    return {"kl": sums.mean, "top1": sums.top1, "tokens": sums.rows}


def by_modelopt(model: Any, recipe: Any, rows: list[list[int]]) -> Any:
    import modelopt.torch.quantization as mtq
    import torch

    modelopt_cpu.patch_modelopt()

    def loop(whole: Any) -> None:
        with torch.no_grad():
            for row in rows:
                whole(input_ids=torch.tensor([row]), use_cache=False)

    model = mtq.quantize(model, copy.deepcopy(getattr(mtq, recipe.settings)), loop)
    by_ours.modelopt_join(model)  # its own export does this before it writes
    return model


def by_llm_compressor(model: Any, recipe: Any, rows: list[list[int]]) -> Any:
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    torch.Tensor.pin_memory = lambda self, *a, **k: self  # there is no GPU to pin for
    asked: dict[str, Any] = {}
    if recipe.data != "none":
        data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(r) for r in rows]})
        most = max(map(len, rows))
        asked = {
            "dataset": data,
            "num_calibration_samples": len(rows),
            "max_seq_length": most,
            "shuffle_calibration_samples": False,
        }
    modifier = QuantizationModifier(targets="Linear", scheme=recipe.settings, ignore=["lm_head"])
    oneshot(model=model, recipe=modifier, **asked)
    return model


if __name__ == "__main__":
    main()
