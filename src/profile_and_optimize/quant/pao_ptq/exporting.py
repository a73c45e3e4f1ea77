"""The checkpoint's folder: the backend's files, names set right, sidecars of the base, and the record."""

from __future__ import annotations

import re
import resource
import shutil
from pathlib import Path
from typing import Any

from .backend import Backend
from .files import SCHEMA
from .headers import rename_tensors, tensor_names, weights_bytes
from .loading import Loaded
from .names import cleaned
from .work import Work

COPIED = ("tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "added_tokens.json", "tekken.json",
          "chat_template*", "*processor_config.json", "generation_config.json")  # fmt: skip


def export(work: Work, loaded: Loaded, backend: Backend) -> None:
    """The checkpoint and what a server reads beside it. A half export of an earlier start is thrown away."""
    work.say("export")
    shutil.rmtree(work.export, ignore_errors=True)
    work.export.mkdir(parents=True)
    backend.export(work, loaded)
    rename_tensors(work.export, file_tensor_names(work.base, work.export))
    for pattern in COPIED:
        for path in work.base.glob(pattern):
            shutil.copy(path, work.export / path.name)
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
    }  # fmt: skip
