"""Faults in tensors that no recipe touches, and in the files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from planted_space import WIDTH, Entry, Hand, Kind, Planted, Tensors, read_file, replace, write_file

Pick = Callable[[Planted], list[str]]


def norms(p: Planted) -> list[str]:
    return [n for n in p.plain if "norm" in n and len(p.tensors[n].shape) == 1 and n.endswith("weight")]


def kept(p: Planted) -> list[str]:
    """Matrices that stay as they are: embeddings, heads, what a recipe leaves out; no routers."""
    return [n for n in p.plain if len(p.tensors[n].shape) == 2 and n.endswith("weight") and n not in routers(p)]


def embeddings(p: Planted) -> list[str]:
    return [n for n in kept(p) if re.search(r"embed_tokens|embed_in|wte|word_embeddings", n)]


def routers(p: Planted) -> list[str]:
    return [n for n in p.plain if re.search(r"\.(gate|router)\.weight$", n)]


def router_biases(p: Planted) -> list[str]:
    return [n for n in p.plain if re.search(r"router\.bias$|e_score_correction_bias$", n)]


def biases(p: Planted) -> list[str]:
    return [n for n in p.plain if re.search(r"\.bias$|_bias$|sinks$", n) and n not in router_biases(p)]


def values(pick: Pick, change: Callable[[Planted, np.ndarray], object]) -> Hand:
    """A hand on the numbers of one tensor, in its shape."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        name = p.pick(pick(p))
        if name is None or p.tensors[name].dtype not in ("BF16", "F16", "F32"):
            return None
        e = p.tensors[name]
        before = bytes(e.raw)
        numbers = e.numbers().copy().reshape(e.shape)
        change(p, numbers)
        e.put(numbers)
        if bytes(e.raw) == before:
            return None
        p.save()
        return (name,)

    return hand


def at(value: float) -> Callable[[Planted, np.ndarray], object]:
    def change(p: Planted, x: np.ndarray) -> None:
        x.reshape(-1)[p.rng.randrange(x.size)] = value

    return change


def one_sign(p: Planted, x: np.ndarray) -> None:
    i = int(np.argmax(np.abs(x)))
    x[i] = -x[i]


def last_bit(p: Planted, x: np.ndarray) -> None:
    i = p.rng.randrange(x.size)
    x.reshape(-1)[i] *= 1.0079


def all_ones(p: Planted, x: np.ndarray) -> None:
    x[:] = 1


def all_zero(p: Planted, x: np.ndarray) -> None:
    x[:] = 0


def rows_zero(p: Planted, x: np.ndarray) -> None:
    x[p.rng.sample(range(len(x)), min(7, len(x)))] = 0


def rows_swapped(p: Planted, x: np.ndarray) -> None:
    i, j = p.rng.sample(range(len(x)), 2)
    x[[i, j]] = x[[j, i]]


def columns_swapped(p: Planted, x: np.ndarray) -> None:
    i, j = p.rng.sample(range(x.shape[1]), 2)
    x[:, [i, j]] = x[:, [j, i]]


def as_int8(p: Planted, x: np.ndarray) -> None:
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    x[:] = np.rint(x / step) * step


def as_fp8(p: Planted, x: np.ndarray) -> None:
    """To four significant bits, as E4M3 keeps them."""
    fraction, power = np.frexp(x)
    x[:] = np.ldexp(np.rint(fraction * 16) / 16, power)


def through_f16(p: Planted, x: np.ndarray) -> None:
    x[:] = x.astype(np.float16).astype(np.float32)


def scaled(p: Planted, x: np.ndarray) -> None:
    x *= 1.05


def of_another_layer(p: Planted) -> tuple[str, ...] | None:
    pairs = [(n, n.replace("layers.0.", "layers.1.")) for n in norms(p) if "layers.0." in n]
    pairs = [(a, b) for a, b in pairs if b in p.tensors and p.tensors[a].raw != p.tensors[b].raw]
    if not pairs:
        return None
    a, b = p.rng.choice(pairs)
    p.tensors[a].raw[:] = p.tensors[b].raw
    p.save()
    return (a,)


def gone(pick: Pick) -> Hand:
    def hand(p: Planted) -> tuple[str, ...] | None:
        name = p.pick(pick(p))
        if name is None:
            return None
        del p.tensors[name]
        p.save()
        return (name,)

    return hand


def junk(p: Planted) -> tuple[str, ...]:
    """A tensor that no model asked for."""
    name = p.rng.choice(["model.layers.0.self_attn.rotary_emb.scale", "model.extra.weight", "lm_head.adapter.weight"])
    p.tensors[name] = Entry("BF16", (32, 16), bytearray(p.rng.randbytes(2 * 32 * 16)))
    p.save()
    return (name,)


def doubled(p: Planted) -> tuple[str, ...] | None:
    """A tensor once more, under the name of a layer that is not there."""
    name = p.pick([n for n in p.tensors if "layers.0." in n])
    if name is None:
        return None
    more = name.replace("layers.0.", "layers.17.")
    p.tensors[more] = p.tensors[name].copy()
    p.save()
    return (more,)


def relabelled(p: Planted) -> tuple[str, ...] | None:
    name = p.pick([n for n in p.plain if p.tensors[n].dtype == "BF16"])
    if name is None:
        return None
    e = p.tensors[name]
    p.tensors[name] = Entry("F16", e.shape, e.raw)
    p.save()
    return (name,)


def turned(p: Planted) -> tuple[str, ...] | None:
    """A matrix said to be as wide as it is high."""
    name = p.pick([n for n in kept(p) if p.tensors[n].shape[0] != p.tensors[n].shape[1]])
    if name is None:
        return None
    e = p.tensors[name]
    p.tensors[name] = Entry(e.dtype, e.shape[::-1], e.raw)
    p.save()
    return (name,)


def fewer_words(p: Planted) -> tuple[str, ...] | None:
    name = p.pick(embeddings(p))
    if name is None:
        return None
    e = p.tensors[name]
    rows, width = e.shape
    p.tensors[name] = Entry(e.dtype, (rows - 64, width), e.raw[: (rows - 64) * width * WIDTH[e.dtype]])
    p.save()
    return (name,)


# ---- files


def cut(keep: Callable[[int], int]) -> Hand:
    def hand(p: Planted) -> tuple[str, ...]:
        data = p.file.read_bytes()
        replace(p.file, data[: keep(len(data))])
        return (p.file.name, *p.tensors)

    return hand


def longer(p: Planted) -> tuple[str, ...]:
    replace(p.file, p.file.read_bytes() + b"\1" * 4096)
    return (p.file.name,)


def missing(p: Planted) -> tuple[str, ...]:
    p.file.unlink()
    return (p.file.name, "safetensors")


def overlapping(p: Planted) -> tuple[str, ...] | None:
    """Two tensors of one size share their bytes."""
    data = p.file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    sizes: dict[tuple[object, ...], list[str]] = {}
    for n, e in header.items():
        if n != "__metadata__" and len(p.tensors[n].raw) > 64:
            sizes.setdefault((e["dtype"], tuple(e["shape"])), []).append(n)
    twins = [names for names in sizes.values() if len(names) > 1]
    if not twins:
        return None
    a, b = p.rng.sample(p.rng.choice(twins), 2)
    if p.tensors[a].raw == p.tensors[b].raw:
        return None
    header[a]["data_offsets"] = header[b]["data_offsets"]
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    replace(p.file, len(head).to_bytes(8, "little") + head + data[8 + size :])
    return (a, p.file.name)


def shards(p: Planted, count: int) -> tuple[list[Path], Path]:
    """The same tensors in several files with an index that is right."""
    names = list(p.tensors)
    files, where = [], {}
    for i in range(count):
        file = p.folder / f"model-{i + 1:05d}-of-{count:05d}.safetensors"
        part = {n: p.tensors[n] for n in names[i::count]}
        write_file(file, part, p.meta or {"format": "pt"})
        where |= dict.fromkeys(part, file.name)
        files.append(file)
    p.file.unlink()
    index = p.folder / "model.safetensors.index.json"
    total = sum(len(e.raw) for e in p.tensors.values())
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1) + "\n")
    return files, index


def split(p: Planted) -> tuple[str, ...]:
    shards(p, 3)
    return ()


def shard_missing(p: Planted) -> tuple[str, ...]:
    files, _ = shards(p, 3)
    files[1].unlink()
    return (files[1].name, *read_names(p, 1, 3))


def read_names(p: Planted, i: int, count: int) -> list[str]:
    return list(p.tensors)[i::count]


def index_wrong(p: Planted) -> tuple[str, ...]:
    """The index sends one tensor to a file that does not hold it."""
    files, index = shards(p, 2)
    told = json.loads(index.read_text())
    name = p.rng.choice(list(told["weight_map"]))
    old = told["weight_map"][name]
    told["weight_map"][name] = next(f.name for f in files if f.name != old)
    replace(index, json.dumps(told).encode())
    return (name,)


def index_short(p: Planted) -> tuple[str, ...]:
    _, index = shards(p, 2)
    told = json.loads(index.read_text())
    name = p.rng.choice(list(told["weight_map"]))
    del told["weight_map"][name]
    replace(index, json.dumps(told).encode())
    return (name,)


def index_of_another(p: Planted) -> tuple[str, ...]:
    """An index beside the one file, of files that are not there."""
    where = {n: "model-00001-of-00002.safetensors" for n in p.tensors}
    (p.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return ("model-00001-of-00002.safetensors", "model.safetensors.index.json")


def turned_values(tensors: Tensors) -> Tensors:
    out = {n: e.copy() for n, e in tensors.items()}
    for e in out.values():
        if e.dtype == "BF16":
            e.raw[1::2] = bytes(b ^ 0x80 for b in e.raw[1::2])
        elif e.dtype in ("U8", "I8", "F8_E4M3"):
            e.raw[:] = bytes(b ^ 0x08 for b in e.raw)
    return out


def stale_shards(p: Planted) -> tuple[str, ...]:
    """A second set of files with other values beside the one that counts."""
    other = turned_values(p.tensors)
    names = list(other)
    files = [p.folder / f"model-{i + 1:05d}-of-00002.safetensors" for i in range(2)]
    for i, file in enumerate(files):
        write_file(file, {n: other[n] for n in names[i::2]}, p.meta)
    return tuple(f.name for f in files)


def extra_file(p: Planted) -> tuple[str, ...]:
    write_file(p.folder / "adapter.safetensors", {"model.adapter.weight": Entry("F32", (4,), bytearray(16))}, None)
    return ("adapter.safetensors", "model.adapter.weight")


def pickle(p: Planted) -> tuple[str, ...]:
    (p.folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    return ("pytorch_model.bin",)


def other_framework(p: Planted) -> tuple[str, ...]:
    p.meta = {"format": "tf"}
    p.save()
    return ("format", "__metadata__", "metadata")


def reordered(p: Planted) -> tuple[str, ...]:
    names = list(p.tensors)
    p.rng.shuffle(names)
    p.tensors = {n: p.tensors[n] for n in names}
    p.save()
    return ()


def told_more(p: Planted) -> tuple[str, ...]:
    p.meta = {**(p.meta or {"format": "pt"}), "made": "once more"}
    p.save()
    return ()


def respaced(p: Planted) -> tuple[str, ...]:
    """config.json with its keys in another order and other blanks."""
    file = p.folder / "config.json"
    told = json.loads(file.read_text())
    replace(file, json.dumps(dict(sorted(told.items(), reverse=True)), indent=4).encode())
    return ()


def readme(p: Planted) -> tuple[str, ...]:
    (p.folder / "README.md").write_text("# A model\n")
    return ()


def bigger_header(p: Planted) -> tuple[str, ...]:
    """The header padded by blanks, as some writers do."""
    data = p.file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    replace(p.file, (size + 512).to_bytes(8, "little") + data[8 : 8 + size] + b" " * 512 + data[8 + size :])
    assert set(read_file(p.file)[0]) == set(p.tensors)
    return ()


PLAIN = [
    ("norm: a sign", values(norms, one_sign)), ("norm: one NaN", values(norms, at(float("nan")))), ("norm: one Inf", values(norms, at(float("inf")))),
    ("norm: last bit of one value", values(norms, last_bit)), ("norm of all ones", values(norms, all_ones)), ("norm of another layer", of_another_layer),
    ("norm x1.05", values(norms, scaled)), ("norm gone", gone(norms)), ("embedding rows zeroed", values(embeddings, rows_zero)),
    ("embedding rows exchanged", values(embeddings, rows_swapped)), ("embedding: one NaN", values(embeddings, at(float("nan")))),
    ("embedding with fewer words", fewer_words), ("a kept matrix rounded to int8", values(kept, as_int8)),
    ("a kept matrix rounded to fp8", values(kept, as_fp8)), ("a kept matrix through f16", values(kept, through_f16)),
    ("columns of a kept matrix exchanged", values(kept, columns_swapped)), ("a kept matrix gone", gone(kept)),
    ("a kept matrix turned", turned), ("bias zeroed", values(biases, all_zero)), ("bias: one sign", values(biases, one_sign)),
    ("bias gone", gone(biases)), ("router rows exchanged", values(routers, rows_swapped)), ("router rounded to int8", values(routers, as_int8)),
    ("router bias zeroed", values(router_biases, all_zero)), ("router bias gone", gone(router_biases)), ("a junk tensor", junk),
    ("a tensor twice", doubled), ("bf16 called f16", relabelled),
]  # fmt: skip
FILES = [
    ("file cut by 5000 bytes", cut(lambda n: n - 5000)), ("file cut in half", cut(lambda n: n // 2)), ("file cut in its header", cut(lambda n: 300)),
    ("file emptied", cut(lambda n: 0)), ("junk after the tensors", longer), ("file missing", missing), ("two tensors share bytes", overlapping),
    ("shard missing", shard_missing), ("index names a wrong file", index_wrong), ("index leaves a tensor out", index_short),
    ("index of other files", index_of_another), ("stale shards beside", stale_shards), ("an extra safetensors file", extra_file),
    ("a pickle beside", pickle), ("metadata of another framework", other_framework),
]  # fmt: skip
HARMLESS = [
    ("tensors in another order", reordered), ("split into three files", split), ("more metadata", told_more), ("config.json respaced", respaced),
    ("a README.md beside", readme), ("a longer header", bigger_header),
]  # fmt: skip
KINDS = [
    *(Kind("plain", n, h) for n, h in PLAIN), *(Kind("files", n, h) for n, h in FILES),
    *(Kind("harmless", n, h, harmless=True) for n, h in HARMLESS),
]  # fmt: skip
