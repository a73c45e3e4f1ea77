"""What the quantizing worker does with the real libraries; run by the Python of the `ptq` tool environment.

python worker_trials.py FOLDER_OF_PAO_PTQ MAKE_MODEL DEMO SAMPLES SPACE

One process for everything, for the imports cost more than the work. Prints one JSON object: what was seen, by trial.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")


def module_at(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, sys.argv[1])
maker = module_at(sys.argv[2])
calibration, files, headers, jobs, ours, quantize, stop = (
    importlib.import_module(f"pao_ptq.{name}")
    for name in ("calibration", "files", "headers", "job", "modelopt_cpu", "quantize", "stop")
)
DEMO, SAMPLES, SPACE = Path(sys.argv[3]), json.loads(Path(sys.argv[4]).read_text()), Path(sys.argv[5])
EXCLUDE = ["lm_head", "*mlp.gate", "*mixer.gate", "*conv1d"]


def job_of(base: Path, name: str, backend: str, target: str, **differs: Any) -> Any:
    work = SPACE / f"{name}.partial" / "work"
    work.mkdir(parents=True)
    for file, rows in (("calib", SAMPLES[4:]), ("heldout", SAMPLES[:4])):
        (work / f"{file}.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    (work / "calibration.json").write_text("{}")
    told = {
        "base": str(base), "base_digest": "b", "out": str(SPACE / name), "backend": backend, "target": target,
        "exclude": EXCLUDE, "family": {"exclude": EXCLUDE},
        "seed": 0, "threads": 1, "device": "cpu", "job_digest": name, "trust_remote_code": False,
        "calibration": {"source": "samples", "text": None, "text_sha256": None, "samples": len(SAMPLES) - 4, "seq_len": 32},
        "heldout": {"samples": 4, "seq_len": 32}, "worker_sha256": files.worker_sha256(), **differs,
    }  # fmt: skip
    return jobs.job_of(told)


def made(job: Any) -> Path:
    quantize.run(job)
    partial: Path = job.partial
    return partial


def digest(partial: Path) -> str:
    """Of every exported tensor file."""
    files = sorted((partial / "export").glob("*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def tensors(partial: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {n: t for file in (partial / "export").glob("*.safetensors") for n, t in load_file(file).items()}


def facts(partial: Path) -> dict[str, Any]:
    return dict(json.loads((partial / "work/facts.json").read_text()))


def divergence(partial: Path) -> float:
    from safetensors.torch import load_file

    kept = load_file(partial / "work/reference.safetensors")
    base, other = kept["base"].double(), kept["quantized"].double()
    return float((base.exp() * (base - other)).sum(-1).mean())


def awkward() -> Any:
    """Values at which rounding can go wrong: ties, zeros, blocks of zeros, tiny and huge ones."""
    import torch

    torch.manual_seed(1)
    rows = torch.randn(64, 256) * torch.logspace(-6, 4, 64)[:, None]
    rows[3] = 0
    rows[4, :32] = 0
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0] * 32)
    rows[5], rows[6] = ties, -ties
    return rows.bfloat16()


def arithmetic() -> dict[str, bool]:
    """Ours against what ModelOpt packs and unpacks again: equal numbers, to the last bit."""
    import torch
    from modelopt.torch.quantization.qtensor import MXFP4QTensor, NVFP4QTensor
    from modelopt.torch.quantization.qtensor.mxfp8_tensor import MXFP8QTensor

    x = awkward()
    amax = x.abs().amax().float()
    packed, scale, whole = NVFP4QTensor.quantize(x.clone(), 16, weights_scaling_factor_2=amax / 2688)
    nvfp4 = packed.dequantize(scale=scale, double_scale=whole, block_sizes={-1: 16})
    by_row = torch.stack([ours.nvfp4_fake(row[None], row.abs().amax()) for row in x[8:24]])[:, 0]
    theirs = [NVFP4QTensor.quantize(row[None].clone(), 16) for row in x[8:24]]
    rows = [p.dequantize(scale=s, double_scale=w, block_sizes={-1: 16})[0] for p, s, w in theirs]
    four, exponent = MXFP4QTensor.quantize(x, 32)
    mxfp4 = four.dequantize(scale=exponent, block_sizes={-1: 32})
    power = MXFP8QTensor.get_weights_scaling_factor(x)
    eight = MXFP8QTensor.quantize_with_scale(x, power).float().view(64, -1, 32)
    mxfp8 = (eight * torch.exp2(power.float() - 127)[..., None]).view(64, 256).bfloat16()
    blocks = x.view(-1, 16).abs().amax(dim=-1).float()
    static = ours.static_nvfp4_fake(x.view(-1, 16), blocks, amax, stored_scales=True, top=448.0).view_as(x)
    # A block under 2^-9 of the largest keeps the smallest scale in the packed form; the static kernel lets it become zero.
    seen = (scale.float().flatten() > 2.0**-9).repeat_interleave(16).view_as(x)
    return {
        "nvfp4": torch.equal(ours.nvfp4_fake(x, amax), nvfp4), "nvfp4 by row": torch.equal(by_row, torch.stack(rows)),
        "mxfp4": torch.equal(ours.mx_fake(x, block=32, bits=(2, 1)), mxfp4),
        "mxfp8": torch.equal(ours.mx_fake(x, block=32, bits=(4, 3)), mxfp8),
        "static": bool(seen.any()) and torch.allclose(static[seen].float(), nvfp4[seen].float(), rtol=2**-7, atol=0),
    }  # fmt: skip


def packed_weights_are_what_answered(partial: Path) -> float:
    """Largest difference between a weight unpacked from the export and the base's weight rounded as the model used it."""
    import torch
    from safetensors.torch import load_file

    base = load_file(DEMO / "model.safetensors")
    there, worst = tensors(partial), 0.0
    values = torch.tensor([0.0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    for name in [n for n in there if n.endswith(".weight") and there[n].dtype == torch.uint8]:
        stem = name.removesuffix(".weight")
        codes = torch.stack([there[name] & 15, there[name] >> 4], dim=-1).flatten(-2).long()
        scale = there[f"{stem}.weight_scale"].float() * there[f"{stem}.weight_scale_2"]
        unpacked = (values[codes].unflatten(-1, (-1, 16)) * scale[..., None]).flatten(-2).bfloat16()
        used = ours.nvfp4_fake(base[name], there[f"{stem}.weight_scale_2"] * 2688)
        worst = max(worst, float((unpacked.float() - used.float()).abs().max()))
    return worst


def killed_and_resumed(target: str, backend: str) -> dict[str, Any]:
    """A child is killed as soon as its ranges are on disk; the second start must not begin again."""
    whole = made(job_of(DEMO, f"whole-{target}", backend, target))
    job = job_of(DEMO, f"killed-{target}", backend, target)
    ranges = job.work / "ranges.safetensors"
    child = os.fork()
    if child == 0:
        step = calibration.Calibration._keep
        # The second half of the samples waits for the kill: without it the child could be done before we look.
        calibration.Calibration._keep = lambda self, done: (step(self, done), time.sleep(600 if done >= 6 else 0))
        quantize.run(job)
        os._exit(0)
    until = time.monotonic() + 600
    while time.monotonic() < until and seen_samples(ranges) < 6:
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    state = json.loads((job.partial / "STATE.json").read_text())
    done = seen_samples(ranges)
    resumed = made(job)
    note = json.loads((resumed / "export/quantize.json").read_text())["load_peak_note"]
    return {"killed": os.WIFSIGNALED(status) and not state["done"], "kept": done, "note": note,
            "same": digest(whole) == digest(resumed), "same facts": facts(whole) == facts(resumed)}  # fmt: skip


def seen_samples(ranges: Path) -> int:
    return int(headers.header_of(ranges)[0]["__metadata__"]["done"]) if ranges.exists() else 0


def both_ways(arch: str, backend: str) -> dict[str, Any]:
    """The model whole in memory, and its layers on disk: the same file, the same answers."""
    base = SPACE / "models" / arch
    if not base.exists():
        maker.make(arch, base, vocab_from=DEMO)
    one, other = (
        made(job_of(base, f"{arch}-{backend}-{m}", backend, "nvfp4", memory=m)) for m in ("resident", "layers")
    )
    said = facts(one)
    return {
        "same": digest(one) == digest(other) or same_tensors(one, other), "kl": (divergence(one), divergence(other)),
        "experts": said["experts"], "names": sorted(tensors(one)), "unquantized": said["unquantized"],
        "inputs": [q["saw_tokens"] for q in said["quantizers"] if q["enabled"] and q["of"] == "input"],
        "kinds": {m["name"]: m["kind"] for m in said["modules"]},
        "excludes": json.loads((one / "export/config.json").read_text())["quantization_config"]["ignore"],
        "base": sorted(headers.tensor_names(base)),
    }  # fmt: skip


def same_tensors(one: Path, other: Path) -> bool:
    import torch

    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(
        torch.equal(a[n].flatten().view(torch.uint8), b[n].flatten().view(torch.uint8)) for n in a
    )


def refused() -> dict[str, Any]:
    """Experts that no backend knows, and a format that a backend breaks on: before anything is written under export."""
    maker.make("odd_moe", SPACE / "models" / "odd_moe", vocab_from=DEMO)
    asked = [("odd_moe", backend, "nvfp4") for backend in quantize.BACKENDS] + [("qwen3_moe", "modelopt", "nvfp4_awq")]
    told = {}
    for arch, backend, target in asked:
        job = job_of(SPACE / "models" / arch, f"no-{arch}-{backend}", backend, target, trust_remote_code=True)
        try:
            quantize.run(job)
        except stop.Stop as said:
            told[f"{arch} {backend}"] = {**said.line(), "written": job.export.exists()}
    return told


def int8() -> dict[str, Any]:
    partial = made(job_of(DEMO, "int8", "llm-compressor", "int8"))
    config = json.loads((partial / "export/config.json").read_text())["quantization_config"]
    record = json.loads((partial / "export/quantize.json").read_text())
    return {"method": config["quant_method"], "kl": divergence(partial), "files": sorted(p.name for p in (partial / "export").iterdir()),
            "dtypes": sorted({str(t.dtype) for n, t in tensors(partial).items() if n.endswith("proj.weight")}),
            "peak": record["peak_rss_bytes"], "job": record["job"]["job_digest"], "state": facts(partial)["unquantized"]}  # fmt: skip


def main() -> None:
    seen: dict[str, Any] = {"arithmetic": arithmetic(), "nvfp4": killed_and_resumed("nvfp4", "modelopt")}
    seen["fp8_static"] = killed_and_resumed("fp8_static", "llm-compressor")
    seen["unpacked"] = packed_weights_are_what_answered(SPACE / "whole-nvfp4.partial")
    seen["int8"] = int8()
    for arch, backend in (("mixtral", "llm-compressor"), ("nemotron_h", "modelopt"), ("qwen3_moe", "modelopt")):
        seen[f"{arch} {backend}"] = both_ways(arch, backend)
    seen["refused"] = refused()
    print("SEEN " + json.dumps(seen))


if __name__ == "__main__":
    main()
