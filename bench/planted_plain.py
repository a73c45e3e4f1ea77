"""Faults in tensors that no recipe touches."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from planted_space import WIDTH, Entry, Hand, Kind, Planted

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


def swapped_places(pick: Pick, fits: Callable[[str, str], bool]) -> Hand:
    """Two tensors of one shape change places."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        names = pick(p)
        pairs = [
            (a, b) for a in names for b in names
            if a < b and p.tensors[a].shape == p.tensors[b].shape and p.tensors[a].raw != p.tensors[b].raw and fits(a, b)
        ]  # fmt: skip
        if not pairs:
            return None
        a, b = p.rng.choice(pairs)
        p.tensors[a], p.tensors[b] = p.tensors[b], p.tensors[a]
        p.save()
        return (a, b)

    return hand


def other_layer(a: str, b: str) -> bool:
    return re.sub(r"\.\d+\.", ".N.", a) == re.sub(r"\.\d+\.", ".N.", b)


def same_layer(a: str, b: str) -> bool:
    return re.findall(r"\.\d+\.", a) == re.findall(r"\.\d+\.", b)


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


PLAIN: dict[str, Hand] = {
    "norm: a sign": values(norms, one_sign),
    "norm: one NaN": values(norms, at(float("nan"))),
    "norm: one Inf": values(norms, at(float("inf"))),
    "norm: last bit of one value": values(norms, last_bit),
    "norm of all ones": values(norms, all_ones),
    "norm of another layer": of_another_layer,
    "norm x1.05": values(norms, scaled),
    "norm gone": gone(norms),
    "embedding rows zeroed": values(embeddings, rows_zero),
    "embedding rows exchanged": values(embeddings, rows_swapped),
    "embedding: one NaN": values(embeddings, at(float("nan"))),
    "embedding with fewer words": fewer_words,
    "a kept matrix rounded to int8": values(kept, as_int8),
    "a kept matrix rounded to fp8": values(kept, as_fp8),
    "a kept matrix through f16": values(kept, through_f16),
    "columns of a kept matrix exchanged": values(kept, columns_swapped),
    "a kept matrix gone": gone(kept),
    "a kept matrix turned": turned,
    "bias zeroed": values(biases, all_zero),
    "bias: one sign": values(biases, one_sign),
    "bias gone": gone(biases),
    "router rows exchanged": values(routers, rows_swapped),
    "router rounded to int8": values(routers, as_int8),
    "router bias zeroed": values(router_biases, all_zero),
    "router bias gone": gone(router_biases),
    "a junk tensor": junk,
    "a tensor twice": doubled,
    "bf16 called f16": relabelled,
    "norms of one layer exchanged": swapped_places(norms, same_layer),
    "biases of two layers exchanged": swapped_places(biases, other_layer),
    "kept matrices exchanged": swapped_places(kept, lambda a, b: True),
    "routers of two layers exchanged": swapped_places(routers, other_layer),
}
KINDS = [Kind("plain", n, h) for n, h in PLAIN.items()]
