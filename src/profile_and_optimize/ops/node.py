"""What the node and the model are, as far as it decides which levers exist."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from profile_and_optimize.campaign.world import World
from profile_and_optimize.engines.process import available_cores
from profile_and_optimize.optimize.levers import Facts

# Compute capability times ten by a word of the driver's name for the device (NVIDIA's CUDA GPU list).
SM = {
    "A100": 80, "A10": 86, "L4": 89, "L40S": 89, "H100": 90, "H200": 90, "GH200": 90, "B200": 100, "GB200": 100, "B300": 103,
    "GB300": 103,
}  # fmt: skip
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def facts(world: World, engine: str, model: str) -> Facts:
    """Of this node under that engine. What could not be seen is None."""
    hardware = world.host().get("hardware", "")
    devices = world.host().get("gpu_ids", "")
    cpu = bool(getattr(world.engine(engine), "is_cpu", not hardware.startswith("gpu:")))
    return Facts(
        cores=len(available_cores()), cpu=cpu, compiler=bool(shutil.which("g++") or shutil.which("clang++")),
        gpus=len(devices.split(",")) if hardware.startswith("gpu:") else 0 if hardware.startswith("cpu:") else None,
        sm=_sm(hardware), moe=has_experts(model), bf16=computes_bf16(_cpuinfo()),
    )  # fmt: skip


def _sm(hardware: str) -> int | None:
    words = re.findall(r"[A-Z]+\d+[A-Z]?", hardware.upper()) if hardware.startswith("gpu:") else []
    found = {SM[w] for w in words if w in SM}
    return found.pop() if len(found) == 1 else None


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def computes_bf16(cpuinfo: str) -> bool | None:
    """Whether the processor has instructions on bfloat16 (x86: AVX-512 BF16 or AMX; Arm: BF16); None where its flags are not told."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.M)
    return any(f in BF16 for f in lines[0].split()) if lines else None


def has_experts(model: str) -> bool | None:
    """Of a folder, by its config.json; None for a model that is still on a hub."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text())
        parts = [config, config.get("text_config") or {}]
        return any(int(part.get(name) or 0) > 1 for part in parts for name in EXPERTS)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
