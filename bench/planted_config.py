"""Faults in what lies beside the weights: configuration, tokenizer files, the records of the making; and on finished checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from planted_plain import junk, kept, values
from planted_space import Hand, Kind, Planted, read_file, replace, write_file
from planted_weights import codes, exchanged, opposite, zeroed

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
ALGOS = {"NVFP4": "FP8", "FP8": "NVFP4", "W4A16_NVFP4": "NVFP4", "W8A8_SQ_PER_CHANNEL": "FP8", "MXFP4": "NVFP4", "NVFP4_AWQ": "FP8"}
METHODS = {"modelopt": "compressed-tensors", "compressed-tensors": "modelopt"}
KV = {"num_bits": 8, "type": "float", "dynamic": False, "strategy": "tensor", "symmetric": True}


def no_inputs(p: Planted) -> tuple[str, ...] | None:
    """Inputs are rounded as the scales say, and the configuration does not say so."""

    def change(c: dict[str, Any]) -> None:
        for g in (c.get("quantization_config", {}).get("config_groups") or {}).values():
            if g.get("input_activations"):
                g["input_activations"] = None

    return ("input_activations",) if p.json("config.json", change) else None


def ignored(change: Callable[[Planted, list[str]], list[str] | None], key: str = "ignore", file: str = "config.json") -> Hand:
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


# ---- tokenizer files and the like


def json_file(name: str, change: Callable[[dict[str, Any]], object]) -> Hand:
    return named(lambda p: p.json(name, change), name)


def words_swapped(t: dict[str, Any]) -> None:
    vocab = t["model"]["vocab"]
    a, b = sorted(vocab, key=vocab.get)[300:302]
    vocab[a], vocab[b] = vocab[b], vocab[a]


def merge_dropped(t: dict[str, Any]) -> None:
    del t["model"]["merges"][100]


def template(t: dict[str, Any]) -> None:
    if "chat_template" in t:
        t["chat_template"] = "{{ messages[0]['content'] }}"


def template_beside(p: Planted) -> tuple[str, ...] | None:
    """A template in a file of its own takes the place of the one in tokenizer_config.json."""
    file = p.folder / "chat_template.jinja"
    if file.exists():
        return None
    file.write_text("{{ messages[0]['content'] }}")
    return (file.name,)


# ---- records


def record(name: str, change: Callable[[dict[str, Any]], object], *names: str) -> Hand:
    return named(lambda p: p.json(name, change, work=True), *names, name)


def of_another(name: str, *, work: bool) -> Hand:
    """A record of another job."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        mine = (p.work if work else p.folder) / name
        model = p.folder.parent.name.partition("--")[0]
        rest = [o for n, o in p.others.items() if (o / ("work" if work else "export") / name).exists() and not n.startswith(model)]
        if not rest or not mine.exists():
            return None
        theirs = (p.rng.choice(rest) / ("work" if work else "export") / name).read_bytes()
        if theirs == mine.read_bytes():
            return None
        replace(mine, theirs)
        return (name,)

    return hand


def said_unquantized(p: Planted) -> tuple[str, ...] | None:
    names: list[str] = []

    def change(f: dict[str, Any]) -> None:
        m = p.rng.choice([m for m in f["modules"] if m["quantized"]])
        m.update(quantized=False, weight_format=None, group_size=None)
        f["unquantized"].append(m["name"])
        names.append(m["name"])

    return (*names, "facts.json") if p.json("facts.json", change, work=True) else None


def tied_by_word(p: Planted) -> tuple[str, ...] | None:
    """A matrix is gone, and the record says that it is tied to another."""
    name = "lm_head.weight" if "lm_head.weight" in p.plain else None
    if name is None:
        return None
    del p.tensors[name]
    p.save()
    p.json("facts.json", lambda f: f["tied"].append(["lm_head", "model.embed_tokens"]), work=True)
    return (name, "lm_head", "tie_word_embeddings")


def range_nan(f: dict[str, Any]) -> None:
    for q in f["quantizers"][:1]:
        q.update(enabled=True, dynamic=False, amax_finite=False, amax_min=None, amax_max=None)


def idle(f: dict[str, Any]) -> None:
    for e in f["experts"]:
        if e["tokens"]:
            e["tokens"][1] = 0


def reference(change: Callable[[np.ndarray], object]) -> Hand:
    """The answers of the model in process, as they were kept."""

    def hand(p: Planted) -> tuple[str, ...]:
        file = p.work / "reference.safetensors"
        tensors, meta = read_file(file)
        table = np.frombuffer(tensors["quantized"].raw, np.float16)
        change(table)
        write_file(file, tensors, meta)
        return (file.name, "reference")

    return hand


def all_nan(x: np.ndarray) -> None:
    x[:] = np.nan


def one_nan(x: np.ndarray) -> None:
    x[len(x) // 2] = np.nan


def base_as_both(p: Planted) -> tuple[str, ...]:
    """The base's answers in place of the quantized model's."""
    file = p.work / "reference.safetensors"
    tensors, meta = read_file(file)
    tensors["quantized"] = tensors["base"].copy()
    write_file(file, tensors, meta)
    return (file.name, "reference", "KL")


def held_out_cut(p: Planted) -> tuple[str, ...]:
    file = p.work / "heldout.jsonl"
    replace(file, b"".join(file.read_bytes().splitlines(keepends=True)[:1]))
    return (file.name, "held-out", "reference")


def base_changed(change: Callable[[Path], object]) -> Hand:
    """The base is no longer the one that the job names: a changed copy lies there."""

    def hand(p: Planted) -> tuple[str, ...]:
        copy = p.folder.parent / "work" / "base-changed"
        shutil.copytree(p.job["base"], copy, copy_function=os.link)
        change(copy)
        p.job["base"] = str(copy)
        return ("base", "base_digest")

    return hand


def base_weights(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-7] ^= 0x10
    replace(file, bytes(data))


def base_config(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told["max_position_embeddings"] = 1024
    replace(folder / "config.json", json.dumps(told, indent=1).encode())


def job_edited(key: str, value: Any) -> Hand:
    """job.json changed, its digest left."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        if p.job.get(key) == value:
            return None
        p.job[key] = value
        return (key, "job_digest", "job.json")

    return hand


def forged_trip(p: Planted) -> tuple[str, ...] | None:
    """Weights spoiled, and a roundtrip.json that says it held, with the right digest of them."""
    import hashlib

    done = codes(zeroed(7), wide=64)(p)  # type: ignore[operator]
    if done is None:
        return None
    sha = hashlib.sha256()
    for file in sorted(p.folder.glob("*.safetensors")):
        sha.update(file.name.encode() + b"\0" + file.read_bytes())
    told = {
        "schema": 1, "passed": True, "tokens": 512, "kl_base": {"in_process": 0.01, "reloaded": 0.01}, "kl_in_process_reloaded": 1e-7,
        "kl_limit": 1e-3, "top1_base": {"in_process": 1.0, "reloaded": 1.0}, "top1_in_process_reloaded": 1.0, "limit": "5%", "reason": "",
        "weights": {"checked": 9, "worst": 0.1, "worst_name": done[0], "note": ""}, "weights_sha256": sha.hexdigest(),
    }  # fmt: skip
    (p.folder / "roundtrip.json").write_text(json.dumps(told))
    return (*done, "roundtrip.json")


def flat_pass(told: dict[str, Any]) -> None:
    told["passed"] = True
    if told.get("checks"):
        told["checks"][0]["passed"] = False
    else:
        told["reason"] = "forged"


def spoiled_tensor(p: Planted) -> tuple[str, ...] | None:
    hand: Hand = p.rng.choice([codes(zeroed(7), wide=64), codes(opposite), codes(exchanged), values(kept, lambda p, x: x.fill(0)), junk])  # type: ignore[list-item]
    done = hand(p)
    return None if done is None else (*done, p.file.name, "roundtrip.json", "weights")


def after_file(name: str, hand: Hand) -> Hand:
    """On a finished checkpoint a refusal may name the file alone."""

    def more(p: Planted) -> tuple[str, ...] | None:
        done = hand(p)
        return None if done is None else (*done, name)

    return more


def weights_gone(p: Planted) -> tuple[str, ...]:
    p.file.unlink()
    return (p.file.name, "weights", "safetensors")


def weights_cut(p: Planted) -> tuple[str, ...]:
    replace(p.file, p.file.read_bytes()[:-5000])
    return (p.file.name, "weights", *p.tensors)


def one_byte(p: Planted) -> tuple[str, ...]:
    data = bytearray(p.file.read_bytes())
    data[-100] ^= 0x40
    replace(p.file, bytes(data))
    return (p.file.name, "weights", *p.tensors)


SETTINGS = [
    ("tie_word_embeddings", setting(lambda v: not v, "tie_word_embeddings")), ("one layer more", setting(lambda v: v + 1, "num_hidden_layers")),
    ("one layer fewer", setting(lambda v: v - 1, "num_hidden_layers")), ("rope theta", setting(lambda v: v * 2, "rope_theta")),
    ("rope scaling", rope_scaled), ("eps of the norms", setting(lambda v: v * 1000, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")),
    ("vocab_size", setting(lambda v: v + 64, "vocab_size")), ("experts per token", setting(lambda v: v - 1, "num_experts_per_tok")),
    ("activation", setting(lambda v: "relu" if v != "relu" else "gelu", "hidden_act", "hidden_activation", "activation_function")),
    ("sliding window", setting(lambda v: v // 2, "sliding_window")), ("dtype", setting(lambda v: "float16", "dtype", "torch_dtype")),
    ("architectures", setting(lambda v: ["MistralForCausalLM"], "architectures")), ("model_type", setting(lambda v: "mistral", "model_type")),
    ("end token", setting(lambda v: 7, "eos_token_id")), ("longest context", setting(lambda v: v * 4, "max_position_embeddings")),
    ("heads", setting(lambda v: v // 2, "num_attention_heads")), ("softmax scale", setting(lambda v: v * 4, "query_pre_attn_scalar")),
    ("scaling of the experts", setting(lambda v: v * 2 if not isinstance(v, bool) else not v, "routed_scaling_factor", "norm_topk_prob")),
    ("parts of rotary", setting(lambda v: v / 2, "partial_rotary_factor")), ("code of its own", added("auto_map", {"AutoModelForCausalLM": "own.Model"})),
]  # fmt: skip
QUANT = [
    ("bits of the weights", groups(other("num_bits", {4: 8, 8: 4}), "weights", "num_bits")), ("group size doubled", groups(by(2), "weights", "group_size")),
    ("group size halved", groups(by(0.5), "weights", "group_size")), ("type of the weights", groups(other("type", {"float": "int", "int": "float"}), "weights", "type")),
    ("strategy of the weights", groups(other("strategy", {"channel": "tensor", "group": "channel", "tensor_group": "channel", "tensor": "channel"}), "weights", "strategy")),
    ("weights not symmetric", groups(other("symmetric", {True: False}), "weights", "symmetric")),
    ("bits of the inputs", groups(other("num_bits", {4: 8, 8: 4}), "input_activations", "num_bits", "input_activations")),
    ("inputs dynamic or not", groups(other("dynamic", {True: False, False: True, "local": False}), "input_activations", "dynamic", "input_activations")),
    ("inputs not rounded", no_inputs), ("format name", quant(other("format", FORMATS), "format")), ("quant_algo", quant(other("quant_algo", ALGOS), "quant_algo")),
    ("quant_method", quant(other("quant_method", METHODS), "quant_method")), ("config_groups gone", quant(without("config_groups"), "config_groups")),
    ("targets", quant(lambda q: [g.update(targets=["Embedding"]) for g in (q.get("config_groups") or {}).values()], "targets")),
    ("a KV scheme without scales", quant(lambda q: q.update(kv_cache_scheme=dict(KV)), "kv_cache_scheme", "kv_cache")),
    ("quantization_config gone", named(lambda p: p.json("config.json", without("quantization_config")), "quantization_config", "quant_method")),
    ("ignore list: one missing", ignored(fewer)), ("ignore list: a quantized module", ignored(lambda p, e: [*e, one_module(p)])),
    ("ignore list: a wildcard over quantized ones", ignored(wildcard)), ("ignore list: a module that is not there", ignored(lambda p, e: [*e, "model.layers.99.mlp"])),
    ("ignore list empty", ignored(lambda p, e: [] if e else None)),
    ("hf_quant_config: quant_algo", beside(other("quant_algo", ALGOS), "quant_algo")), ("hf_quant_config: group_size", beside(by(2), "group_size")),
    ("hf_quant_config: KV in FP8", beside(lambda q: q.update(kv_cache_quant_algo="FP8"), "kv_cache_quant_algo", "kv_cache")),
    ("hf_quant_config: excludes", ignored(lambda p, e: [*e, one_module(p)], "exclude_modules", HF)), ("hf_quant_config gone", removed(HF)),
]  # fmt: skip
SIDECARS = [
    ("tokenizer.json: two words exchanged", json_file("tokenizer.json", words_swapped)), ("tokenizer.json: a merge dropped", json_file("tokenizer.json", merge_dropped)),
    ("tokenizer.json gone", removed("tokenizer.json")), ("chat template", json_file("tokenizer_config.json", template)), ("a template beside", template_beside),
    ("tokenizer_config.json gone", removed("tokenizer_config.json")), ("special_tokens_map", json_file("special_tokens_map.json", lambda t: t.update(eos_token="<|user|>"))),
    ("generation_config: temperature", json_file("generation_config.json", lambda t: t.update(temperature=0.1))),
    ("generation_config: end token", json_file("generation_config.json", lambda t: t.update(eos_token_id=5))), ("generation_config gone", removed("generation_config.json")),
]  # fmt: skip
RECORDS = [
    ("facts.json: a module said unquantized", said_unquantized), ("facts.json: tied by word alone", tied_by_word),
    ("facts.json: a range that is no number", record("facts.json", range_nan)), ("facts.json: an idle expert", record("facts.json", idle, "expert")),
    ("facts.json of another job", of_another("facts.json", work=True)), ("quantize.json of another job", of_another("quantize.json", work=False)),
    ("calibration.json edited", named(lambda p: p.json("calibration.json", lambda c: c.update(samples=c.get("samples", 0) + 100)), "calibration.json")),
    ("answers in process all NaN", reference(all_nan)), ("answers in process: one NaN", reference(one_nan)), ("answers in process are the base's", base_as_both),
    ("held-out text cut", held_out_cut), ("base's weights changed", base_changed(base_weights)), ("base's config changed", base_changed(base_config)),
    ("job.json: another target", job_edited("target", "mxfp8")), ("job.json: more excluded", job_edited("exclude", ["*"])),
    ("spoiled, and a forged roundtrip.json", forged_trip),
]  # fmt: skip
BETWEEN = [
    ("weights spoiled after the round trip", spoiled_tensor), ("roundtrip.json of another export", of_another("roundtrip.json", work=False)),
    ("roundtrip.json gone", removed("roundtrip.json")), ("roundtrip.json: passed with a reason", json_file("roundtrip.json", flat_pass)),
]  # fmt: skip
FINISHED = [
    ("finished: weights cut", weights_cut), ("finished: weights gone", weights_gone), ("finished: one byte", one_byte),
    ("finished: weights spoiled", spoiled_tensor),
    ("finished: eps of the norms", after_file("config.json", setting(lambda v: v * 1000, "rms_norm_eps", "layer_norm_eps"))),
    ("finished: group size", after_file("config.json", groups(by(2), "weights", "group_size"))),
    ("finished: ignore list", after_file("config.json", ignored(lambda p, e: [*e, one_module(p)]))),
    ("finished: tokenizer.json", json_file("tokenizer.json", words_swapped)), ("finished: generation_config gone", removed("generation_config.json")),
    ("finished: hf_quant_config", after_file(HF, beside(other("quant_algo", ALGOS)))), ("finished: coverage.json forged", json_file("coverage.json", flat_pass)),
    ("finished: coverage.json gone", removed("coverage.json")), ("finished: roundtrip.json gone", removed("roundtrip.json")),
    ("finished: a template beside", template_beside), ("finished: an extra file", lambda p: extra(p)),
]  # fmt: skip


def extra(p: Planted) -> tuple[str, ...]:
    shutil.copyfile(p.file, p.folder / "model-00001-of-00002.safetensors")
    return ("model-00001-of-00002.safetensors", "weights")


KINDS = [
    *(Kind("config", n, h) for n, h in SETTINGS), *(Kind("quantization_config", n, h) for n, h in QUANT),
    *(Kind("sidecars", n, h) for n, h in SIDECARS), *(Kind("records", n, h) for n, h in RECORDS),
    *(Kind("records", n, h, after="roundtrip") for n, h in BETWEEN), *(Kind("finished", n, h, after="finish") for n, h in FINISHED),
]  # fmt: skip
