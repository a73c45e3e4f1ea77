"""Is the quantization that the configuration describes the one that the tensors have? Bits, groups, strategy, activations, KV cache:
read from the tensors and the recipe, and compared key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .evidence import Check, Evidence, fail
from .packed import Packed
from .targets import LLM_COMPRESSOR

# What may stand beside and says nothing of how a weight is read.
REMARKS = {
    "producer",
    "version",
    "observer",
    "observer_kwargs",
    "global_compression_ratio",
    "ignore",
    "scale_dtype",
}
# ModelOpt writes groups for these, and for no others.
GROUPED = ("NVFP4", "W4A16_NVFP4", "FP8")
# How each recipe rounds activations, as compressed-tensors says it: bits, type, strategy, dynamic.
ACTIVATIONS = {
    "nvfp4": (4, "float", "tensor_group", "local"), "fp8": (8, "float", "token", True), "fp8_static": (8, "float", "tensor", False),
    "int8": (8, "int", "token", True),
}  # fmt: skip
KV_SCALES = ("k_scale", "v_scale", "kv_scale", "k_zero_point", "v_zero_point", "q_scale", "prob_output_scale")


def described(ev: Evidence) -> Check:
    """config.json's quantization_config, and hf_quant_config.json beside it, say what the tensors are."""
    name, packed = "described", list(ev.packed.values())
    if not packed:
        return fail(name, "no quantized weight in the file", [])
    told = ev.config.get("quantization_config")
    if not isinstance(told, dict):
        return fail(name, "config.json has no quantization_config", [])
    bad = _mixed(packed)
    if not bad and ev.job.backend == LLM_COMPRESSOR:
        bad = compare(_compressed(ev, packed[0]), told, "quantization_config")
        bad += ["hf_quant_config.json: compressed-tensors writes none"] if ev.quant_config is not None else []
    elif not bad:
        bad = compare(_modelopt(ev, packed[0]), told, "quantization_config") + _beside(ev, packed[0], told)
    bad += _kv(ev, told)
    if bad:
        return fail(name, "the configuration is not what the tensors are", bad)
    return Check(name, True, f"{len(packed)} weights are {packed[0].format} as the configuration describes them")


def _mixed(packed: list[Packed]) -> list[str]:
    first = packed[0]
    return [
        f"{p.name}: {p.format} in groups of {p.group}, {first.name} is {first.format} in groups of {first.group}"
        for p in packed
        if (p.format, p.group) != (first.format, first.group)
    ]


def _kind(p: Packed) -> tuple[int, str]:
    return (4 if p.format in ("nvfp4", "mxfp4", "int4") else 8), ("int" if p.format.startswith("int") else "float")


def _modelopt(ev: Evidence, p: Packed) -> dict[str, Any]:
    algo = ev.job.recipe.algo
    told: dict[str, Any] = {"quant_method": "modelopt", "quant_algo": algo}
    if algo not in GROUPED:
        return told
    bits, kind = _kind(p)
    part: dict[str, Any] = {"dynamic": False, "num_bits": bits, "type": kind}
    part |= {"group_size": p.group} if p.group else {}
    group = {"weights": part, "targets": ["Linear"]}
    return told | {"config_groups": {"group_0": group | ({"input_activations": part} if _rounds(ev) else {})}}


def _rounds(ev: Evidence) -> bool:
    return ev.job.recipe.activations != "bf16"


def _compressed(ev: Evidence, p: Packed) -> dict[str, Any]:
    recipe, (bits, kind) = ev.job.recipe, _kind(p)
    strategy = {"nvfp4": "tensor_group", "int4": "group"}.get(p.format, "tensor" if p.scale.params == 1 else "channel")
    weights = {
        "num_bits": bits,
        "type": kind,
        "strategy": strategy,
        "group_size": p.group,
        "dynamic": False,
        "symmetric": True,
    }
    if recipe.method == "gptq":
        weights["actorder"] = "static"  # columns were taken in another order, and lie as they did
    group = {"format": recipe.algo, "targets": ["Linear"], "weights": weights}
    if _rounds(ev):
        a_bits, a_kind, a_strategy, dynamic = ACTIVATIONS[ev.job.target]
        group["input_activations"] = {
            "num_bits": a_bits, "type": a_kind, "strategy": a_strategy, "dynamic": dynamic, "symmetric": True,
            "group_size": 16 if a_strategy == "tensor_group" else None,
        }  # fmt: skip
    return {
        "quant_method": "compressed-tensors", "format": recipe.algo, "quantization_status": "compressed",
        "config_groups": {"group_0": group},
    }  # fmt: skip


def compare(wanted: Any, told: Any, at: str) -> list[str]:
    """Faults by key. What is not wanted must say nothing (null, false, empty), or be a remark."""
    if isinstance(wanted, dict):
        if not isinstance(told, Mapping):
            return [f"{at}: {_shown(told)}, wanted {', '.join(sorted(wanted))}"]
        faults = [f for key, value in wanted.items() for f in compare(value, told.get(key), f"{at}.{key}")]
        return faults + [
            f"{at}.{k}: {_shown(v)}, which no tensor says"
            for k, v in told.items()
            if k not in wanted and v and k not in REMARKS
        ]
    same = (
        str(wanted).lower() == str(told).lower()
        if at.endswith("quant_algo")
        else wanted == told and type(wanted) is type(told)
    )
    return [] if same else [f"{at}: {_shown(told)}, the tensors say {_shown(wanted)}"]


def _shown(value: Any) -> str:
    return str(value)[:80]


def _beside(ev: Evidence, p: Packed, told: Mapping[str, Any]) -> list[str]:
    """hf_quant_config.json says the same in its own words."""
    if ev.quant_config is None:
        return ["hf_quant_config.json: not there, and ModelOpt writes one"]
    quant = ev.quant_config.get("quantization")
    if not isinstance(quant, dict):
        return ["hf_quant_config.json quantization: not there"]
    at, bad = "hf_quant_config.json", []
    if str(quant.get("quant_algo")).lower() != str(told.get("quant_algo")).lower():
        bad.append(f"{at} quant_algo: {quant.get('quant_algo')}, {told.get('quant_algo')} in config.json")
    if p.format in ("nvfp4", "int4") and quant.get("group_size") != p.group:
        bad.append(f"{at} group_size: {quant.get('group_size')}, the tensors have {p.group}")
    if p.format not in ("nvfp4", "int4") and quant.get("group_size") not in (None, p.group):
        bad.append(f"{at} group_size: {quant.get('group_size')}, the tensors have {p.group}")
    if quant.get("has_zero_point"):
        bad.append(f"{at} has_zero_point: no tensor holds one")
    if bool(quant.get("pre_quant_scale")) != ev.job.target.endswith("_awq"):
        bad.append(f"{at} pre_quant_scale: {quant.get('pre_quant_scale')}, target {ev.job.target}")
    known = {"quant_algo", "kv_cache_quant_algo", "group_size", "exclude_modules", "has_zero_point", "pre_quant_scale"}
    bad += [f"{at} {k}: {_shown(v)}, which no tensor says" for k, v in quant.items() if k not in known and v]
    if ev.quant_config.get("producer") != told.get("producer"):
        bad.append(
            f"{at} producer: {_shown(ev.quant_config.get('producer'))}, {_shown(told.get('producer'))} in config.json"
        )
    return bad


def _kv(ev: Evidence, told: Mapping[str, Any]) -> list[str]:
    """No recipe here quantizes the cache of keys and values: a scheme for it would be read with scales of one."""
    scales = sorted(n for n in ev.export if n.rpartition(".")[2] in KV_SCALES and n not in ev.base)
    said = {
        "quantization_config.kv_cache_scheme": told.get("kv_cache_scheme"),
        "quantization_config.kv_cache_quant_algo": told.get("kv_cache_quant_algo"),
        "hf_quant_config.json kv_cache_quant_algo": ((ev.quant_config or {}).get("quantization") or {}).get("kv_cache_quant_algo"),
    }  # fmt: skip
    bad = [f"{at}: {_shown(v)}, and no tensor holds scales of keys and values" for at, v in said.items() if v]
    return bad + [f"{n}: a scale of keys or values, which no recipe here asks for" for n in scales]
