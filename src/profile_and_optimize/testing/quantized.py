"""A small campaign of base, ours and the vendor's checkpoint on fakes: folders without weights, questions with answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.smoke import Answer
from profile_and_optimize.evidence.modelfolder import weights_sha256
from profile_and_optimize.quant.checkpoint import files_told
from profile_and_optimize.testing.fakes import fake_ask
from profile_and_optimize.testing.synthetic import synthetic_plan

BASE_DIGEST = "sha256:" + "ab" * 32
QUANT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


def checkpoint(
    folder: Path, *, base: str = BASE_DIGEST, coverage: bool = True, record: bool = True, generation: str = ""
) -> Path:
    """A folder that says what a checkpoint says of itself; `record` False is one of a vendor, which says less. `generation` is
    its generation_config.json, if any."""
    folder.mkdir(parents=True)
    if generation:
        (folder / "generation_config.json").write_text(generation)
    (folder / "model.safetensors").write_bytes(bytes(64))
    checks = [{"name": "no-zero-scale", "passed": True}, {"name": "untouched", "passed": coverage}]
    files: dict[str, Any] = {"config.json": {"model_type": "qwen3", "quantization_config": QUANT}}
    if record:
        files |= {
            "quantize.json": {"schema": 1, "job": {"base_digest": base}},
            "coverage.json": {"schema": 1, "passed": coverage, "checks": checks},
            "roundtrip.json": {
                "schema": 1, "passed": True, "kl_base": {"in_process": 0.003, "reloaded": 0.003},
                "weights_sha256": weights_sha256(folder),
            },
        }  # fmt: skip
    told = files.pop("coverage.json", None)
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data))
    if told is not None:
        (folder / "coverage.json").write_text(json.dumps(told | {"files": files_told(folder)}))
    return folder


# What pao leaves in a checkpoint and no vendor publishes.
OUR_RECORDS = ("quantize.json", "calibration.json", "coverage.json", "roundtrip.json")


def vendor_like(ours: Path, folder: Path) -> Path:
    """A checkpoint as a vendor publishes it: the weights under a shard's name with an index, a card and a licence beside them,
    and none of our records."""
    shutil.copytree(ours, folder, ignore=shutil.ignore_patterns(*OUR_RECORDS))
    shard = "model-00001-of-00001.safetensors"
    weights = (folder / "model.safetensors").rename(folder / shard).read_bytes()
    (names := json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])).pop("__metadata__", None)
    index = {"metadata": {"total_size": len(weights)}, "weight_map": dict.fromkeys(sorted(names), shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlibrary_name: Model Optimizer\n---\n# Quantized\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "LICENSE").write_text("Apache License 2.0\n")
    (folder / "special_tokens_map.json").write_text("{}")
    return folder


def questions(path: Path, n: int = 600) -> Path:
    """The right answer is the last word of each, as `fake_ask` gives it."""
    rows = ({"question": f"repeat w{i}", "answer": f"w{i}", "kind": "ab"[i % 2]} for i in range(n))
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def quantized_plan(folder: Path, *, vendor: bool = True, **of_ours: Any) -> Plan:
    """Base, its twin, `ours` and, if asked for, `vendor`."""
    arms = [
        Arm("baseline", "fake", Role.BASELINE), Arm("aa", "fake", Role.AA),
        Arm("ours", "fake", Role.CANDIDATE, lever="NVFP4", checkpoint=str(checkpoint(folder / "ours", **of_ours))),
    ]  # fmt: skip
    if vendor:
        there = str(checkpoint(folder / "vendor", record=False))
        arms.append(Arm("vendor", "fake", Role.CANDIDATE, lever="the vendor's", checkpoint=there))
    return replace(
        synthetic_plan(blocks=4, questions=str(questions(folder / "questions.jsonl"))), arms=tuple(arms), client="stream",
        model_digest=BASE_DIGEST, accuracy_margin=0.01, vendor="vendor" if vendor else "", slug="quantized",
    )  # fmt: skip


def forgetful(arms: Mapping[str, Collection[int]]) -> Callable[..., Answer]:
    """As `fake_ask`, but these arms answer these questions wrong."""

    def ask(url: str, model: str, prompt: str, **more: Any) -> Answer:
        said = fake_ask(url, model, prompt, **more)
        arm, last = url.split("/")[3], prompt.split()[-1]
        wrong = last.startswith("w") and last[1:].isdigit() and int(last[1:]) in arms.get(arm, ())
        return replace(said, text="no idea") if wrong else said

    return ask
