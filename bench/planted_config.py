"""Faults in what lies beside the weights: configuration, tokenizer files, the records of the making; and on finished checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from planted_space import Hand, Kind, Planted

HF = "hf_quant_config.json"
GONE = object()


def named(hand: Callable[[Planted], bool], *names: str) -> Hand:
    return lambda p: names if hand(p) else None


# ---- the model's own settings


def setting(change: Callable[[Any], Any], *keys: str) -> Hand:
    """The first of these keys that config.json has, anywhere, gets another value."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        for key in keys:
            if p.json("config.json", lambda c, key=key: found(c, key, change)):
                return (key,)
        return None

    return hand


def found(value: Any, key: str, change: Callable[[Any], Any]) -> bool:
    if not isinstance(value, dict):
        return False
    if key in value and value[key] is not None:
        new = change(value[key])
        if new is GONE:
            del value[key]
        else:
            value[key] = new
        return True
    return any(found(inner, key, change) for name, inner in value.items() if name != "quantization_config")


def added(key: str, value: Any) -> Hand:
    return named(lambda p: p.json("config.json", lambda c: c.update({key: value})), key)


def rope_scaled(p: Planted) -> tuple[str, ...] | None:
    """Positions stretched fourfold."""
    if "rope_parameters" not in p.config() and "rope_scaling" not in p.config():
        return None

    def change(c: dict[str, Any]) -> None:
        if isinstance(c.get("rope_parameters"), dict):
            inner = c["rope_parameters"].get("full_attention", c["rope_parameters"])
            inner.update({"rope_type": "linear", "factor": 4.0})
        else:
            c["rope_scaling"] = {"rope_type": "linear", "factor": 4.0}

    return ("rope_parameters", "rope_scaling", "rope_type") if p.json("config.json", change) else None


# ---- what it says of the quantization


def quant(change: Callable[[dict[str, Any]], object], *names: str) -> Hand:
    return named(lambda p: p.json("config.json", lambda c: change(c.get("quantization_config") or {})), *names)


def groups(change: Callable[[dict[str, Any]], object], part: str, *names: str) -> Hand:
    """On `weights` or `input_activations` of every group of config.json."""

    def every(q: dict[str, Any]) -> None:
        for g in (q.get("config_groups") or {}).values():
            if isinstance(g.get(part), dict):
                change(g[part])

    return quant(every, *names)


def by(factor: float) -> Callable[[dict[str, Any]], object]:
    def change(w: dict[str, Any]) -> None:
        if isinstance(w.get("group_size"), int):
            w["group_size"] = int(w["group_size"] * factor)

    return change


def other(key: str, values_: dict[Any, Any]) -> Callable[[dict[str, Any]], object]:
    """A key's value for the one in the table."""

    def change(w: dict[str, Any]) -> None:
        if key in w and w[key] in values_:
            w[key] = values_[w[key]]

    return change


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda q: q.pop(key, None)


FORMATS = {"nvfp4-pack-quantized": "pack-quantized", "pack-quantized": "nvfp4-pack-quantized", "float-quantized": "int-quantized",
           "int-quantized": "float-quantized"}  # fmt: skip
ALGOS = {
    "NVFP4": "FP8",
    "FP8": "NVFP4",
    "W4A16_NVFP4": "NVFP4",
    "W8A8_SQ_PER_CHANNEL": "FP8",
    "MXFP4": "NVFP4",
    "NVFP4_AWQ": "FP8",
}
METHODS = {"modelopt": "compressed-tensors", "compressed-tensors": "modelopt"}
STRATEGIES = {"channel": "tensor", "group": "channel", "tensor_group": "channel", "tensor": "channel"}
RANGES = {True: False, False: True, "local": False}
KV = {"num_bits": 8, "type": "float", "dynamic": False, "strategy": "tensor", "symmetric": True}


def ordered(w: dict[str, Any]) -> None:
    """Groups in the order of activations, where no tensor says which column is in which."""
    if w.get("strategy") == "group" and "actorder" in w:
        w["actorder"] = "group"


def second_group(p: Planted) -> tuple[str, ...] | None:
    """Another group of settings for the down projections, of other bits."""

    def change(q: dict[str, Any]) -> None:
        there = q.get("config_groups") or {}
        if "group_0" in there:
            copy = json.loads(json.dumps(there["group_0"]))
            copy["weights"]["num_bits"] = 12 - copy["weights"]["num_bits"]
            there["group_1"] = copy | {"targets": ["re:.*down_proj", "re:.*fc2"]}

    return quant(change, "group_1", "config_groups", "num_bits")(p)


def compressed(change: Callable[[dict[str, Any]], object], *names: str) -> Hand:
    """On keys that compressed-tensors alone has."""

    def only(q: dict[str, Any]) -> None:
        if q.get("quant_method") == "compressed-tensors":
            change(q)

    return quant(only, *names)


def beside_compressed(p: Planted) -> tuple[str, ...] | None:
    """ModelOpt's own file beside an export that is not ModelOpt's: some engines look there first."""
    file = p.folder / HF
    if file.exists():
        return None
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    file.write_text(json.dumps(told))
    return (HF,)


def not_quantized(p: Planted) -> tuple[str, ...] | None:
    done = p.json("config.json", without("quantization_config"))
    return ("quantization_config", "quant_method") if done else None


def no_groups(p: Planted) -> tuple[str, ...] | None:
    """Of compressed-tensors alone: for ModelOpt the algorithm's name says what engines need."""
    if p.config()["quantization_config"].get("quant_method") != "compressed-tensors":
        return None
    return quant(without("config_groups"), "config_groups")(p)


def no_inputs(p: Planted) -> tuple[str, ...] | None:
    """Inputs are rounded as the scales say, and the configuration does not say so."""

    def change(c: dict[str, Any]) -> None:
        for g in (c.get("quantization_config", {}).get("config_groups") or {}).values():
            if g.get("input_activations"):
                g["input_activations"] = None

    return ("input_activations",) if p.json("config.json", change) else None


def ignored(
    change: Callable[[Planted, list[str]], list[str] | None], key: str = "ignore", file: str = "config.json"
) -> Hand:
    """The list of what is left out, in one of the two files. The entry that is wrong may be named, or its key."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        wrong: list[str] = []

        def edit(c: dict[str, Any]) -> None:
            part = c.get("quantization" if file == HF else "quantization_config", {})
            if isinstance(part.get(key), list):
                new = change(p, list(part[key]))
                if new is not None:
                    wrong.extend(sorted(set(new) ^ set(part[key])))
                    part[key] = new

        return (*wrong, key, "exclude") if p.json(file, edit) else None

    return hand


def one_module(p: Planted) -> str:
    return p.rng.choice(p.packed).module


def fewer(p: Planted, entries: list[str]) -> list[str] | None:
    return [e for e in entries if e != entries[0]] if entries else None


def wildcard(p: Planted, entries: list[str]) -> list[str]:
    last = one_module(p).rpartition(".")[2]
    method = p.config()["quantization_config"].get("quant_method")
    return [*entries, f"re:.*{last}" if method == "compressed-tensors" else f"*{last}"]


def beside(change: Callable[[dict[str, Any]], object], *names: str) -> Hand:
    return named(lambda p: p.json(HF, lambda c: change(c["quantization"])), *names, HF)


def removed(name: str) -> Hand:
    def hand(p: Planted) -> tuple[str, ...] | None:
        file = p.folder / name
        if not file.exists():
            return None
        file.unlink()
        return (name,)

    return hand


SETTINGS: dict[str, Hand] = {
    "tie_word_embeddings": setting(lambda v: not v, "tie_word_embeddings"),
    "one layer more": setting(lambda v: v + 1, "num_hidden_layers"),
    "one layer fewer": setting(lambda v: v - 1, "num_hidden_layers"),
    "rope theta": setting(lambda v: v * 2, "rope_theta"),
    "rope scaling": rope_scaled,
    "eps of the norms": setting(lambda v: v * 1000, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"),
    "vocab_size": setting(lambda v: v + 64, "vocab_size"),
    "experts per token": setting(lambda v: v - 1, "num_experts_per_tok"),
    "activation": setting(
        lambda v: "relu" if v != "relu" else "gelu", "hidden_act", "hidden_activation", "activation_function"
    ),
    "sliding window": setting(lambda v: v // 2, "sliding_window"),
    "dtype": setting(lambda v: "float16", "dtype", "torch_dtype"),
    "architectures": setting(lambda v: ["MistralForCausalLM"], "architectures"),
    "model_type": setting(lambda v: "mistral", "model_type"),
    "end token": setting(lambda v: 7, "eos_token_id"),
    "longest context": setting(lambda v: v * 4, "max_position_embeddings"),
    "heads": setting(lambda v: v // 2, "num_attention_heads"),
    "softmax scale": setting(lambda v: v * 4, "query_pre_attn_scalar"),
    "scaling of the experts": setting(
        lambda v: v * 2 if not isinstance(v, bool) else not v, "routed_scaling_factor", "norm_topk_prob"
    ),
    "parts of rotary": setting(lambda v: v / 2, "partial_rotary_factor"),
    "kv heads": setting(lambda v: v * 2, "num_key_value_heads"),
    "size of a head": setting(lambda v: v * 2, "head_dim", "v_head_dim"),
    "width of the MLP": setting(lambda v: v * 2, "intermediate_size", "ffn_dim"),
    "width of the experts": setting(lambda v: v * 2, "moe_intermediate_size"),
    "number of experts": setting(lambda v: v * 2, "num_experts", "n_routed_experts", "num_local_experts"),
    "dense layers first": setting(lambda v: v - 1, "first_k_dense_replace"),
    "layer types exchanged": setting(
        lambda v: v[::-1] if v != v[::-1] else [*v[1:], "sliding_attention"], "layer_types"
    ),
    "pad token": setting(lambda v: v + 1, "pad_token_id"),
    "biases or none": setting(lambda v: not v, "attention_bias", "enable_bias"),
    "code of its own": added("auto_map", {"AutoModelForCausalLM": "own.Model"}),
}
QUANT: dict[str, Hand] = {
    "bits of the weights": groups(other("num_bits", {4: 8, 8: 4}), "weights", "num_bits"),
    "group size doubled": groups(by(2), "weights", "group_size"),
    "group size halved": groups(by(0.5), "weights", "group_size"),
    "type of the weights": groups(other("type", {"float": "int", "int": "float"}), "weights", "type"),
    "strategy of the weights": groups(
        other("strategy", STRATEGIES),
        "weights",
        "strategy",
    ),
    "weights not symmetric": groups(other("symmetric", {True: False}), "weights", "symmetric"),
    "bits of the inputs": groups(other("num_bits", {4: 8, 8: 4}), "input_activations", "num_bits", "input_activations"),
    "inputs dynamic or not": groups(
        other("dynamic", RANGES),
        "input_activations",
        "dynamic",
        "input_activations",
    ),
    "inputs not rounded": no_inputs,
    "format name": quant(other("format", FORMATS), "format"),
    "quant_algo": quant(other("quant_algo", ALGOS), "quant_algo"),
    "quant_method": quant(other("quant_method", METHODS), "quant_method"),
    "config_groups gone": no_groups,
    "targets": quant(
        lambda q: [g.update(targets=["Embedding"]) for g in (q.get("config_groups") or {}).values()], "targets"
    ),
    "a KV scheme without scales": quant(lambda q: q.update(kv_cache_scheme=dict(KV)), "kv_cache_scheme", "kv_cache"),
    "quantization_config gone": not_quantized,
    "ignore list: one missing": ignored(fewer),
    "ignore list: a quantized module": ignored(lambda p, e: [*e, one_module(p)]),
    "ignore list: a wildcard over quantized ones": ignored(wildcard),
    "ignore list: a module that is not there": ignored(lambda p, e: [*e, "model.layers.99.mlp"]),
    "ignore list empty": ignored(lambda p, e: [] if e else None),
    "hf_quant_config: quant_algo": beside(other("quant_algo", ALGOS), "quant_algo"),
    "hf_quant_config: group_size": beside(by(2), "group_size"),
    "hf_quant_config: KV in FP8": beside(
        lambda q: q.update(kv_cache_quant_algo="FP8"), "kv_cache_quant_algo", "kv_cache"
    ),
    "hf_quant_config: excludes": ignored(lambda p, e: [*e, one_module(p)], "exclude_modules", HF),
    "hf_quant_config gone": removed(HF),
    "hf_quant_config beside compressed-tensors": beside_compressed,
    "a second group": second_group,
    "order of activations": groups(ordered, "weights", "actorder"),
    "status of the quantization": compressed(
        lambda q: q.update(quantization_status="initialized"), "quantization_status"
    ),
    "sparse": compressed(
        lambda q: q.update(sparsity_config={"format": "sparse-24-bitmask", "targets": ["Linear"]}), "sparsity_config"
    ),
    "transforms": compressed(
        lambda q: q.update(transform_config={"config_groups": {"R1": {"type": "hadamard", "apply": []}}}),
        "transform_config",
    ),
}

KINDS = [
    *(Kind("config", n, h) for n, h in SETTINGS.items()),
    *(Kind("quantization_config", n, h) for n, h in QUANT.items()),
]
