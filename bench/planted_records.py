"""Faults in tokenizer files, in the records of the making, and in checkpoints that were finished."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from planted_codes import codes, exchanged, opposite, zeroed
from planted_config import ALGOS, HF, beside, by, groups, ignored, named, one_module, other, removed, setting
from planted_plain import junk, kept, values
from planted_space import Hand, Kind, Planted, read_file, replace, write_file

TRUE = ".true"


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


def new_file(name: str, told: dict[str, Any]) -> Hand:
    """A file that loaders look for, where the base has none."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        if (p.folder / name).exists():
            return None
        (p.folder / name).write_text(json.dumps(told))
        return (name,)

    return hand


# ---- records


def record(name: str, change: Callable[[dict[str, Any]], object], *names: str) -> Hand:
    return named(lambda p: p.json(name, change, work=True), *names, name)


def of_another(name: str, *, work: bool) -> Hand:
    """A record of another job."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        mine = (p.work if work else p.folder) / name
        model = Path(p.job["out"]).name.partition("--")[0]
        rest = [o / ("work" if work else "export") / name for n, o in p.others.items() if not n.startswith(model)]
        rest = [file for file in rest if file.exists()]
        if not rest or not mine.exists():
            return None
        theirs = p.rng.choice(rest).read_bytes()
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
    return (name, "lm_head", "tie_word_embeddings", "facts.json")


def range_nan(f: dict[str, Any]) -> None:
    for q in f["quantizers"][:1]:
        q.update(enabled=True, dynamic=False, amax_finite=False, amax_min=None, amax_max=None)


def idle(f: dict[str, Any]) -> None:
    """An expert without a token, where ranges of inputs are taken from tokens."""
    for e in f["experts"]:
        if e["tokens"] and any(q["of"] == "input" and q["enabled"] and not q["dynamic"] for q in f["quantizers"]):
            e["tokens"][1] = 0


def other_trip(p: Planted) -> tuple[str, ...] | None:
    """What the round trip said of other weights."""
    told = {"weights_sha256": "0" * 64, "tokens": 1024}
    return ("roundtrip.json",) if p.json("roundtrip.json", lambda r: r.update(told)) else None


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


def base_changed(change: Callable[[Path], tuple[str, ...]]) -> Hand:
    """The base is no longer what it was: a changed copy lies in its place, until `base_again`."""

    def hand(p: Planted) -> tuple[str, ...]:
        base = Path(p.job["base"])
        true = base.with_name(f".{base.name}{TRUE}")
        os.replace(base, true)
        shutil.copytree(true, base, copy_function=os.link)
        return (*change(base), "base_digest")

    return hand


def base_again(models: Path) -> None:
    """Puts back every base that was changed."""
    for true in models.glob(f".*{TRUE}"):
        base = true.with_name(true.name[1:].removesuffix(TRUE))
        shutil.rmtree(base, ignore_errors=True)
        os.replace(true, base)


def base_weights(folder: Path) -> tuple[str, ...]:
    """One number of the last tensor of a file."""
    file = sorted(folder.glob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-7] ^= 0x10
    replace(file, bytes(data))
    return (list(read_file(file)[0])[-1], file.name)


def base_config(folder: Path) -> tuple[str, ...]:
    told = json.loads((folder / "config.json").read_text())
    told["max_position_embeddings"] = 1024
    replace(folder / "config.json", json.dumps(told, indent=1).encode())
    return ("max_position_embeddings", "config.json")


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
    done = codes(zeroed(7), wide=64)(p)
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


def over_limit(told: dict[str, Any]) -> None:
    """It passed, and the figure it passed with is over the limit beside it."""
    told["kl_in_process_reloaded"] = 10 * told["kl_limit"]


def flat_pass(told: dict[str, Any]) -> None:
    told["passed"] = True
    told["checks"][0]["passed"] = False


def spoiled_tensor(p: Planted) -> tuple[str, ...] | None:
    hand: Hand = p.rng.choice(
        [codes(zeroed(7), wide=64), codes(opposite), codes(exchanged), values(kept, lambda p, x: x.fill(0)), junk]
    )
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


def extra(p: Planted) -> tuple[str, ...]:
    shutil.copyfile(p.file, p.folder / "model-00001-of-00002.safetensors")
    return ("model-00001-of-00002.safetensors", "weights")


def rewritten(p: Planted) -> tuple[str, ...]:
    """Every file once more with the bytes it had."""
    for file in sorted(p.folder.iterdir()):
        if file.is_file():
            replace(file, file.read_bytes())
    return ()


SIDECARS: dict[str, Hand] = {
    "tokenizer.json: two words exchanged": json_file("tokenizer.json", words_swapped),
    "tokenizer.json: a merge dropped": json_file("tokenizer.json", merge_dropped),
    "tokenizer.json gone": removed("tokenizer.json"),
    "chat template": json_file("tokenizer_config.json", template),
    "a template beside": template_beside,
    "tokenizer_config.json gone": removed("tokenizer_config.json"),
    "special_tokens_map": json_file("special_tokens_map.json", lambda t: t.update(eos_token="<|user|>")),
    "generation_config: temperature": json_file("generation_config.json", lambda t: t.update(temperature=0.1)),
    "generation_config: end token": json_file("generation_config.json", lambda t: t.update(eos_token_id=5)),
    "generation_config gone": removed("generation_config.json"),
    "an adapter beside": new_file("adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "other"}),
    "added tokens beside": new_file("added_tokens.json", {"<|end|>": 7}),
}
RECORDS: dict[str, Hand] = {
    "facts.json: a module said unquantized": said_unquantized,
    "facts.json: tied by word alone": tied_by_word,
    "facts.json: a range that is no number": record("facts.json", range_nan),
    "facts.json: an idle expert": record("facts.json", idle, "expert"),
    "facts.json of another job": of_another("facts.json", work=True),
    "quantize.json of another job": of_another("quantize.json", work=False),
    "calibration.json edited": named(
        lambda p: p.json("calibration.json", lambda c: c.update(samples=c.get("samples", 0) + 100)), "calibration.json"
    ),
    "answers in process all NaN": reference(all_nan),
    "answers in process: one NaN": reference(one_nan),
    "answers in process are the base's": base_as_both,
    "held-out text cut": held_out_cut,
    "base's weights changed": base_changed(base_weights),
    "base's config changed": base_changed(base_config),
    "job.json: another target": job_edited("target", "mxfp8"),
    "job.json: more excluded": job_edited("exclude", ["*"]),
    "spoiled, and a forged roundtrip.json": forged_trip,
}
BETWEEN: dict[str, Hand] = {
    "weights spoiled after the round trip": spoiled_tensor,
    "roundtrip.json of another export": other_trip,
    "roundtrip.json gone": removed("roundtrip.json"),
    "roundtrip.json: passed over its limit": json_file("roundtrip.json", over_limit),
}
FINISHED: dict[str, Hand] = {
    "finished: weights cut": weights_cut,
    "finished: weights gone": weights_gone,
    "finished: one byte": one_byte,
    "finished: weights spoiled": spoiled_tensor,
    "finished: eps of the norms": after_file(
        "config.json", setting(lambda v: v * 1000, "rms_norm_eps", "layer_norm_eps")
    ),
    "finished: group size": after_file("config.json", groups(by(2), "weights", "group_size")),
    "finished: ignore list": after_file("config.json", ignored(lambda p, e: [*e, one_module(p)])),
    "finished: tokenizer.json": json_file("tokenizer.json", words_swapped),
    "finished: generation_config gone": removed("generation_config.json"),
    "finished: hf_quant_config": after_file(HF, beside(other("quant_algo", ALGOS))),
    "finished: coverage.json forged": json_file("coverage.json", flat_pass),
    "finished: coverage.json gone": removed("coverage.json"),
    "finished: roundtrip.json gone": removed("roundtrip.json"),
    "finished: a template beside": template_beside,
    "finished: an extra file": lambda p: extra(p),
}


KINDS = [
    *(Kind("sidecars", n, h) for n, h in SIDECARS.items()),
    *(Kind("records", n, h) for n, h in RECORDS.items()),
    *(Kind("records", n, h, after="roundtrip") for n, h in BETWEEN.items()),
    *(Kind("finished", n, h, after="finish") for n, h in FINISHED.items()),
    Kind("finished", "finished: the same bytes anew", rewritten, after="finish", harmless=True),
]
