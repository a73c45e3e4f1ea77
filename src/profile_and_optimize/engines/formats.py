"""In which number format a checkpoint holds its weights, as its own config.json says: what kernels it needs of an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NONE, UNKNOWN, MIXED = "none", "unknown", "mixed"
NVFP4, W4A16_NVFP4, FP8, INT8, W4A16 = "nvfp4", "w4a16_nvfp4", "fp8", "int8", "w4a16"
FORMATS = (NONE, NVFP4, W4A16_NVFP4, FP8, INT8, W4A16, "w8a16", "mxfp4", "mxfp8", MIXED, UNKNOWN)
# The word of a ModelOpt checkpoint for its recipe.
_ALGOS = {
    "NVFP4": NVFP4, "NVFP4_AWQ": NVFP4, "W4A16_NVFP4": W4A16_NVFP4, "FP8": FP8, "FP8_PER_CHANNEL_PER_TOKEN": FP8,
    "FP8_PB_WO": FP8, "W4A16_AWQ": W4A16, "INT4_AWQ": W4A16, "W8A16": "w8a16", "W8A8_SQ_PER_CHANNEL": INT8, "MXFP4": "mxfp4",
    "MXFP8": "mxfp8", "MIXED_PRECISION": MIXED,
}  # fmt: skip
# Methods that say all by their name.
_METHODS = {"gptq": W4A16, "awq": W4A16, "fp8": FP8, "fbgemm_fp8": FP8, "mxfp4": "mxfp4"}


def format_of(model: str) -> str:
    """One of FORMATS: `none` for weights as trained, `unknown` for a model on a hub and for what we cannot read."""
    try:
        config = json.loads((Path(model) / "config.json").read_text())
        quantized = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
        return _format(quantized) if quantized else _beside(Path(model))
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return UNKNOWN


def _format(quantized: Mapping[str, Any]) -> str:
    method = str(quantized.get("quant_method", ""))
    if method.startswith("modelopt"):
        return _ALGOS.get(str(quantized.get("quant_algo", "")).upper(), UNKNOWN)
    if method == "compressed-tensors":
        return _one({_of_group(group) for group in quantized["config_groups"].values()})
    bits = quantized.get("bits", 4)
    return _METHODS.get(method, UNKNOWN) if bits in (4, None) or method not in ("gptq", "awq") else UNKNOWN


def _beside(folder: Path) -> str:
    """ModelOpt's older exports say it in a file of their own alone."""
    path = folder / "hf_quant_config.json"
    if not path.is_file():
        return NONE
    return _ALGOS.get(str(json.loads(path.read_text())["quantization"]["quant_algo"]).upper(), UNKNOWN)


def _of_group(group: Mapping[str, Any]) -> str:
    weights, inputs = group["weights"], group.get("input_activations")
    kind, bits, size = weights["type"], weights["num_bits"], weights.get("group_size")
    if kind == "float" and bits == 4:
        return {16: NVFP4 if inputs else W4A16_NVFP4, 32: "mxfp4"}.get(size, UNKNOWN)
    if kind == "float" and bits == 8:
        return "mxfp8" if size == 32 else FP8
    if kind == "int" and bits == 8:
        return INT8 if inputs else "w8a16"
    return W4A16 if (kind, bits) == ("int", 4) and not inputs else UNKNOWN


def _one(found: set[str]) -> str:
    return found.pop() if len(found) == 1 else MIXED if found else UNKNOWN
