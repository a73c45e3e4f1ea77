"""Faults in the scales of quantized weights and of their inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planted_codes import Change
from planted_space import Entry, Hand, Kind, Packed, Planted

GLOBAL = ("weight_scale_2", "weight_global_scale")
INPUT = ("input_scale", "input_global_scale")
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def scales(change: Callable[[Planted, Packed, Entry], object], ending: tuple[str, ...] = ("weight_scale",)) -> Hand:
    def hand(p: Planted) -> tuple[str, ...] | None:
        there = [(q, q.scales[s]) for q in p.packed for s in ending if s in q.scales]
        if not there:
            return None
        q, name = p.rng.choice(there)
        before = bytes(p.tensors[name].raw)
        if change(p, q, p.tensors[name]) is False or bytes(p.tensors[name].raw) == before:
            return None
        p.save()
        return (name, *one_input(q)) if ending == INPUT else (name,)

    return hand


def one_input(q: Packed) -> tuple[str, ...]:
    """Modules that take the same input: a scale that differs between them may be said of either."""
    stem, _, last = q.module.rpartition(".")
    return tuple(f"{stem}.{m}" for group in FUSED for m in group if last in group and m != last)


def times(raw: np.ndarray, dtype: str, factor: float) -> np.ndarray | None:
    """Bytes of scales, about that many times as large; None where the format has no such number."""
    if dtype in ("BF16", "F32", "F16"):
        e = Entry(dtype, (), bytearray(raw.tobytes()))
        e.put(e.numbers() * factor)
        return np.frombuffer(e.raw, np.uint8).reshape(raw.shape)
    if dtype == "F8_E4M3":
        return np.clip(raw.astype(int) + {2.0: 8, 0.5: -8, 1.5: 4}[factor], 1, 0x7E).astype(np.uint8)
    steps = {2.0: 1, 0.5: -1}.get(factor)
    return None if steps is None else (raw.astype(int) + steps).astype(np.uint8)


def row_scaled(factor: float) -> Change:
    def change(p: Planted, q: Packed, e: Entry) -> bool:
        rows = len(p.tensors[q.codes].rows())
        if len(e.raw) % rows or len(e.raw) == 0:
            return False
        view = np.frombuffer(e.raw, np.uint8).reshape(rows, -1)
        i = p.rng.randrange(rows)
        new = times(view[i].copy(), e.dtype, factor)
        if new is None:
            return False
        view[i] = new
        return True

    return change


def all_scaled(factor: float) -> Change:
    def change(p: Planted, q: Packed, e: Entry) -> bool:
        new = times(e.bytes_.copy(), e.dtype, factor)
        if new is not None:
            e.raw[:] = new.tobytes()
        return new is not None

    return change


def one_scale(value: str) -> Change:
    """One block's (or row's) scale: doubled, zero, no number, negative."""

    def change(p: Planted, q: Packed, e: Entry) -> bool:
        size = {"BF16": 2, "F16": 2, "F32": 4}.get(e.dtype, 1)
        if len(e.raw) == size and value == "doubled":
            return False  # of the whole tensor: another kind
        at = p.rng.randrange(len(e.raw) // size) * size
        piece = np.frombuffer(bytes(e.raw[at : at + size]), np.uint8)
        new = special(piece, e.dtype, value)
        if new is None:
            return False
        e.raw[at : at + size] = new
        return True

    return change


def special(piece: np.ndarray, dtype: str, value: str) -> bytes | None:
    if value == "doubled":
        new = times(piece, dtype, 2.0)
        return None if new is None else new.tobytes()
    table = {
        "zero": {"BF16": b"\0\0", "F16": b"\0\0", "F32": bytes(4), "F8_E4M3": b"\0"},
        "NaN": {"BF16": b"\xc0\x7f", "F16": b"\0\x7e", "F32": b"\0\0\xc0\x7f", "F8_E4M3": b"\x7f", "U8": b"\xff", "F8_E8M0": b"\xff"},
    }  # fmt: skip
    if value == "negative":
        return None if dtype in ("U8", "F8_E8M0") else bytes(piece[:-1]) + bytes([piece[-1] ^ 0x80])
    return table[value].get(dtype)


def whole_doubled(p: Planted) -> tuple[str, ...] | None:
    """The one scale of a whole tensor: the global one, or the only one."""
    there = [q.scales[s] for q in p.packed for s in GLOBAL if s in q.scales]
    there += [q.scales["weight_scale"] for q in p.packed if len(p.tensors[q.scales["weight_scale"]].raw) <= 4]
    name = p.pick(there)
    if name is None:
        return None
    e = p.tensors[name]
    e.put(e.numbers() * 2)
    p.save()
    return (name,)


def unequal(p: Planted) -> tuple[str, ...] | None:
    """One member of a group that engines run as one has a global scale a little off."""
    there = [
        q
        for q in p.packed
        if any(q.module.endswith(f".{m}") for group in FUSED for m in group) and set(GLOBAL) & set(q.scales)
    ]
    if not there:
        return None
    q = p.rng.choice(there)
    name = next(q.scales[s] for s in GLOBAL if s in q.scales)
    p.tensors[name].put(p.tensors[name].numbers() * 1.02)
    p.save()
    stem, _, last = q.module.rpartition(".")
    group = next(g for g in FUSED if last in g)
    return (name, stem, *(f"{stem}.{m}" for m in group))


def of_another(p: Planted) -> tuple[str, ...] | None:
    """The input's scale of another module."""
    named = [q.scales[s] for q in p.packed for s in INPUT if s in q.scales]
    pairs = [
        (a, b)
        for a in named
        for b in named
        if p.tensors[a].raw != p.tensors[b].raw and a.rpartition(".")[2] == b.rpartition(".")[2]
    ]
    far = [
        (a, b) for a, b in pairs if not 0.7 < float(p.tensors[a].numbers()[0] / p.tensors[b].numbers()[0]) < 1.4
    ]  # between two that are nearly the same there is nothing to see, nor to lose
    if not far:
        return None
    a, b = p.rng.choice(far)
    p.tensors[a].raw[:] = p.tensors[b].raw
    p.save()
    return (a,)


def dropped(*endings: str) -> Hand:
    def hand(p: Planted) -> tuple[str, ...] | None:
        name = p.pick([q.scales[s] for q in p.packed for s in endings if s in q.scales])
        if name is None:
            return None
        del p.tensors[name]
        p.save()
        return (name,)

    return hand


def zero_point(p: Planted) -> tuple[str, ...] | None:
    there = [q for q in p.packed if q.kind in ("int4", "int8") and "weight_zero_point" not in q.scales]
    if not there:
        return None
    q = p.rng.choice(there)
    scale = p.tensors[q.scales["weight_scale"]]
    count = int(np.prod(scale.shape)) if scale.shape else 1
    name = f"{q.module}.weight_zero_point"
    p.tensors[name] = Entry("I8", scale.shape, bytearray(p.rng.randrange(1, 7) for _ in range(count)))
    p.save()
    return (name,)


def wrong_shape(p: Planted) -> tuple[str, ...] | None:
    name = p.pick([q.scales["weight_shape"] for q in p.packed if "weight_shape" in q.scales])
    if name is None:
        return None
    e = p.tensors[name]
    kind = {"I64": np.int64, "I32": np.int32}[e.dtype]
    shape = np.frombuffer(bytes(e.raw), kind).copy()
    e.raw[:] = shape[::-1].tobytes() if shape[0] != shape[1] else (shape * np.array([1, 2])).astype(kind).tobytes()
    p.save()
    return (name,)


def scales_exchanged(p: Planted, q: Packed, e: Entry) -> bool:
    """Of two rows whose scales differ."""
    rows = len(p.tensors[q.codes].rows())
    if len(e.raw) % rows or len(e.raw) < rows:
        return False
    view = np.frombuffer(e.raw, np.uint8).reshape(rows, -1)
    i, j = p.rng.sample(range(rows), 2)
    view[[i, j]] = view[[j, i]]
    return True


def one_step(p: Planted, q: Packed, e: Entry) -> bool:
    """The scales of a row to the next number of their format, or 5% up."""
    rows = len(p.tensors[q.codes].rows())
    if len(e.raw) % rows or len(e.raw) < rows or e.dtype in ("U8", "F8_E8M0"):
        return False
    view = np.frombuffer(e.raw, np.uint8).reshape(rows, -1)
    i = p.rng.randrange(rows)
    if e.dtype == "F8_E4M3":
        view[i] = np.minimum(view[i] + 1, 0x7E)
        return True
    row = Entry(e.dtype, (), bytearray(view[i].tobytes()))
    row.put(row.numbers() * 1.05)
    view[i] = np.frombuffer(row.raw, np.uint8)
    return True


def whole_off(p: Planted) -> tuple[str, ...] | None:
    """The one scale of a tensor 3% up, where nothing is fused with it."""
    mates = tuple(f".{m}" for group in FUSED for m in group)
    there = [q.scales[s] for q in p.packed for s in GLOBAL if s in q.scales and not q.module.endswith(mates)]
    name = p.pick(there)
    if name is None:
        return None
    p.tensors[name].put(p.tensors[name].numbers() * 1.03)
    p.save()
    return (name,)


SCALED: dict[str, Hand] = {
    "one scale doubled": scales(one_scale("doubled")),
    "one scale zero": scales(one_scale("zero")),
    "one scale NaN": scales(one_scale("NaN")),
    "one scale negative": scales(one_scale("negative")),
    "scales of a row x1.5": scales(row_scaled(1.5)),
    "scales of a row halved": scales(row_scaled(0.5)),
    "all scales of a weight doubled": scales(all_scaled(2.0)),
    "global scale doubled": whole_doubled,
    "global scales unequal in a fused group": unequal,
    "weight scale dropped": dropped("weight_scale"),
    "global scale dropped": dropped(*GLOBAL),
    "zero points of junk": zero_point,
    "weight_shape wrong": wrong_shape,
    "input scale NaN": scales(one_scale("NaN"), INPUT),
    "input scale zero": scales(one_scale("zero"), INPUT),
    "input scale negative": scales(one_scale("negative"), INPUT),
    "input scale x16": scales(lambda p, q, e: e.put(e.numbers() * 16), INPUT),
    "scales of two rows exchanged": scales(scales_exchanged),
    "scales of a row one step up": scales(one_step),
    "global scale x1.03": whole_off,
    "input scale of another module": of_another,
    "input scale dropped": dropped(*INPUT),
    "pre_quant_scale dropped": dropped("pre_quant_scale"),
}
KINDS = [Kind("scales", n, h) for n, h in SCALED.items()]
