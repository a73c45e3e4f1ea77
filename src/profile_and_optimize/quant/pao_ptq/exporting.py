"""The checkpoint's folder: the backend's files, names set right, sidecars of the base, and the record."""

from __future__ import annotations

import re
import resource
import shutil
from pathlib import Path
from typing import Any

from .backend import Backend
from .excludes import clean_excludes
from .files import SCHEMA, read_json, worker_sha256, write_json
from .headers import INDEX, rename_tensors, tensor_names, weight_files, weights_bytes
from .loading import Loaded
from .names import DTYPES, cleaned, is_sidecar, module_of
from .speaks import sha256
from .stop import Stop
from .work import Work


def export(work: Work, loaded: Loaded, backend: Backend) -> None:
    """The checkpoint and what a server reads beside it. A half export of an earlier start is thrown away."""
    from transformers import GenerationConfig

    work.say("export")
    shutil.rmtree(work.export, ignore_errors=True)
    work.export.mkdir(parents=True)
    loaded.model.generation_config = (
        GenerationConfig()
    )  # the base's own file is copied: some that load are refused on saving
    backend.export(work, loaded)
    renamed = file_tensor_names(work.base, work.export)
    rename_tensors(work.export, renamed)
    clean_excludes(work.export, {module_of(wrong): module_of(right) for wrong, right in renamed.items()})
    write_config(work.base, work.export)
    for path in [p for p in work.export.iterdir() if is_sidecar(p.name) and not (work.base / p.name).exists()]:
        path.unlink()  # what a library made up for a base that has none
    left = copy_sidecars(work.base, work.export)
    if left:
        work.note(f"not copied from the base: {', '.join(left)}")
    if (work.work / "calibration.json").exists():
        shutil.copy(work.work / "calibration.json", work.export / "calibration.json")


def file_tensor_names(base: Path, exported: Path) -> dict[str, str]:
    """Names to set right in the export. Two libraries' faults, both seen: ModelOpt's rename rule leaves its own marker in
    names, and llm-compressor calls gate_proj, down_proj, up_proj what Mixtral's files call w1, w2, w3."""
    words = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    numbered = any(re.search(r"\.experts\.\d+\.w1\.weight$", name) for name in tensor_names(base))

    def right(name: str) -> str:
        name = cleaned(name)
        return (
            re.sub(r"(\.experts\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{words.get(m[2], m[2])}.", name)
            if numbered
            else name
        )

    return {name: right(name) for name in tensor_names(exported) if right(name) != name}


def record(work: Work, loaded: Loaded) -> dict[str, Any]:
    """quantize.json. `peak_rss_bytes` counts mapped pages of the base's files; `peak_own_bytes`, by stage, does not."""
    from importlib.metadata import PackageNotFoundError, version

    def known(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    names = (
        "torch",
        "transformers",
        "nvidia-modelopt",
        "llmcompressor",
        "compressed-tensors",
        "accelerate",
        "safetensors",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    how = "one layer at a time from disk" if loaded.layered else "the whole model in memory"
    told = f"{how}; base {weights_bytes(work.base)} bytes; {'; '.join(work.notes)}"
    return {
        "schema": SCHEMA, "job": dict(work.job.told), "versions": {n: v for n in names if (v := known(n))}, "seconds": work.seconds,
        "peak_rss_bytes": peak, "peak_own_bytes": work.peaks, "threads": work.job.threads, "device": loaded.device,
        "model_type": loaded.model.config.model_type, "base_digest": work.job.base_digest, "load_peak_note": told,
        "worker_sha256": worker_sha256(), "facts_sha256": sha256(work.work / "facts.json"),
        "reference_sha256": sha256(work.work / "reference.safetensors"),
    }  # fmt: skip


def write_config(base: Path, exported: Path) -> None:
    """config.json: the base's own, and what the backend says of the quantization. A library writes a configuration anew as its
    release sees it, and leaves out what is its own default and another's not."""
    config, written = read_json(base / "config.json"), read_json(exported / "config.json")
    if not written.get("quantization_config"):
        told = "the backend wrote no quantization_config"
        raise Stop("broke", told, where=str(exported / "config.json"), next="report it with the backend's version")
    made = in_bf16(config)
    if not any(isinstance(made.get(k), str) for k in DTYPES):
        made["dtype"] = "bfloat16"
    write_json(exported / "config.json", made | {"quantization_config": written["quantization_config"]})


def in_bf16(value: Any) -> Any:
    """Whatever the base was stored in, it was loaded and is written in bf16."""
    if isinstance(value, dict):
        return {k: "bfloat16" if k in DTYPES and isinstance(v, str) else in_bf16(v) for k, v in value.items()}
    return value


def copy_sidecars(base: Path, exported: Path) -> list[str]:
    """Every file of the base beside its weights and configuration, byte for byte. Returns what is left behind: weights in
    other forms, and what a link leads out of the folder to."""
    left = []
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        if is_sidecar(name.as_posix()):
            (exported / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, exported / name)
        elif name.as_posix() not in ("config.json", INDEX) and path not in weight_files(base):
            left.append(name.as_posix())
    return left
