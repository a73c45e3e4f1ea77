"""Modules and tensors by their names: what is a router, a vision part, an expert, and what was left out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Any

DTYPES = ("dtype", "torch_dtype")
# Files with weights, whatever they are kept in, and lists of those.
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5",
           ".msgpack", ".onnx", ".onnx_data", ".ot", ".npz", ".mlmodel", ".tflite")  # fmt: skip
# What a quantization writes of itself.
RECORDS = ("hf_quant_config.json", "quantize.json", "coverage.json", "roundtrip.json", "calibration.json", "padding.json",
           "NOT_A_CHECKPOINT.txt")  # fmt: skip
VISION_WORDS = ("vision", "visual", "audio", "multi_modal_projector", "mm_projector")
ROUTER_WORDS = ("gate", "router", "shared_expert_gate")


def excluded(name: str, patterns: Iterable[str]) -> bool:
    """Is a module left out, by its own name or because it lies inside one that is?"""
    return any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(name, p + ".*") for p in patterns)


def cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [cleaned(inner) for inner in value]
    return re.sub(r"\.?\x00.*$", "", value) if isinstance(value, str) else value


ROUTER = re.compile(r"(^|\.)(gate|router|wg|shared_expert_gate|e_score_correction_bias)(\.|$)")
VISION = re.compile(
    r"(^|\.)(vision\w*|visual|audio_tower|multi_?modal_projector|mm_projector|embed_vision|image_newline)(\.|$)"
)


EXPERT = re.compile(r"^(.*\bexperts)\.(?:(\d+)\.)?(\w+?)(?:\.weight)?$")
# What a backend writes for each expert, where the base has all of them in one tensor.
APART = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("down_proj",), ("w2",))}
# What Granite's files call the tensors of all experts.
STACKS = {".input_linear.weight": ".experts.gate_up_proj", ".output_linear.weight": ".experts.down_proj"}
# What a kernel runs as one matrix and dequantizes with one global scale.
FUSED = (("gate_proj", "up_proj"), ("w1", "w3"), ("q_proj", "k_proj", "v_proj"))
# What engines run as one matrix, read in vLLM 0.32.0 (packed_modules_mapping) and SGLang 0.5.23; parts that a model does not have
# are passed over.
FUSED_BY = {
    "vllm": (*FUSED, ("q_a_proj", "kv_a_proj_with_mqa"), ("in_proj_qkv", "in_proj_z"), ("in_proj_b", "in_proj_a")),
    "sglang": (*FUSED, ("q_a_proj", "kv_a_proj_with_mqa")),
}  # fmt: skip


def stacked_name(name: str) -> str:
    """The usual name of a tensor of all experts: `a.block_sparse_moe.input_linear.weight` -> `a...experts.gate_up_proj`."""
    for end, usual in STACKS.items():
        if name.endswith("moe" + end):
            return name.removesuffix(end) + usual
    return name


def key(name: str) -> str:
    """What a module is called both in memory and in the files, where the two differ in what comes before the layers."""
    at = re.search(r"\w+\.\d+\.", name)
    tail = name[at.start() :] if at else name.rpartition(".")[2]
    return ("vision " if VISION.search(name) else "") + tail


def module_of(name: str) -> str:
    """`a.q_proj.weight` -> `a.q_proj`; a bare parameter is its own module."""
    stem, _, last = name.rpartition(".")
    return stem if last in ("weight", "bias") else name


# What older releases saved and newer ones make anew: tables of rotations, masks of causal attention.
BUFFER = re.compile(
    r"(^|\.)(inv_freq|rotary\w*\.(cos_cached|sin_cached)|attn\.(masked_)?bias|attention\.(masked_)?bias|position_ids)$"
)


def is_buffer(name: str) -> bool:
    """Whether a tensor is no weight but something that a loader computes itself."""
    return BUFFER.search(name) is not None


def is_spare(name: str, layers: object) -> bool:
    """Whether a tensor is of a layer for multi-token prediction, beyond the model's own: transformers does not load those."""
    number = re.match(r"^(?:\w+\.)*layers\.(\d+)\.", name)
    beyond = number is not None and isinstance(layers, int) and int(number[1]) >= layers
    return beyond or re.search(r"(^|\.)mtp(\.|$)", name) is not None


def is_sidecar(name: str) -> bool:
    """Whether a file of a model folder, by its path in there, travels as it is: tokenizers, templates, code, processors and
    whatever else is no weights, no configuration of them and no record of ours."""
    last = name.rpartition("/")[2]
    ours = "/" not in name and last in RECORDS
    return not (ours or name == "config.json" or last.endswith(WEIGHTS) or last.startswith("."))
