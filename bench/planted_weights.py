"""Faults in quantized weights: their codes, their scales, their places."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from planted_space import Entry, Kind, Packed, Planted

ZERO = {"nvfp4": 0x00, "mxfp4": 0x00, "int4": 0x88, "fp8": 0x00, "int8": 0x00}
GLOBAL = ("weight_scale_2", "weight_global_scale")
INPUT = ("input_scale", "input_global_scale")
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

Change = Callable[[Planted, Packed, Entry], object]


def codes(change: Change, *, wide: int = 0, fits: Callable[[Packed], bool] = lambda q: True) -> object:
    """A hand that changes the codes of one weight; a change that says False found nothing to spoil."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        there = [q for q in p.packed if fits(q) and len(p.tensors[q.codes].rows()) >= wide]
        if not there:
            return None
        q = p.rng.choice(there)
        before = bytes(p.tensors[q.codes].raw)
        if change(p, q, p.tensors[q.codes]) is False or bytes(p.tensors[q.codes].raw) == before:
            return None
        p.save()
        return (q.codes,)

    return hand


def zeroed(count: int) -> Change:
    def change(p: Planted, q: Packed, e: Entry) -> None:
        rows = e.rows()
        for i in p.rng.sample(range(len(rows)), count):
            rows[i] = ZERO[q.kind]

    return change


def opposite(p: Planted, q: Packed, e: Entry) -> None:
    """The sign of one row."""
    rows = e.rows()
    i = p.rng.randrange(len(rows))
    rows[i] = negated(rows[i], q.kind)


def negated(row: np.ndarray, kind: str) -> np.ndarray:
    if kind in ("nvfp4", "mxfp4"):
        return row ^ 0x88
    if kind == "fp8":
        return row ^ 0x80
    if kind == "int8":
        return (-np.maximum(row.view(np.int8), -127)).view(np.uint8)
    low, high = ((16 - (row & 15)) & 15), ((16 - (row >> 4)) & 15)  # eight stays eight: -0
    low, high = np.where(row & 15, low, 15), np.where(row >> 4, high, 15)  # -8 has no opposite: 7
    return (low | high << 4).astype(np.uint8)


def exchanged(p: Planted, q: Packed, e: Entry) -> None:
    rows = e.rows()
    i, j = p.rng.sample(range(len(rows)), 2)
    rows[[i, j]] = rows[[j, i]]


def columns(p: Planted, q: Packed, e: Entry) -> None:
    """Two columns (of four bits: two pairs of them), from either half."""
    rows = e.rows()
    half = rows.shape[1] // 2
    i, j = p.rng.randrange(half), half + p.rng.randrange(half)
    rows[:, [i, j]] = rows[:, [j, i]]


def nibbles(p: Planted, q: Packed, e: Entry) -> None:
    rows = e.rows()
    i = p.rng.randrange(len(rows))
    rows[i] = (rows[i] << 4) | (rows[i] >> 4)


def rolled(p: Planted, q: Packed, e: Entry) -> None:
    rows = e.rows()
    i = p.rng.randrange(len(rows))
    rows[i] = np.roll(rows[i], 1)


def flipped(p: Planted, q: Packed, e: Entry) -> bool:
    """One code becomes another, eight places away: the opposite sign, twice the size, or eight steps."""
    flat = e.bytes_
    big = {"nvfp4": (flat & 7) >= 5, "mxfp4": (flat & 7) >= 5, "int4": flat >= 0, "int8": np.abs(flat.view(np.int8)) < 100,
           "fp8": ((flat & 0x7F) > 0x38) & ((flat & 0x7F) < 0x70)}[q.kind]  # fmt: skip
    places = np.flatnonzero(big)
    if not len(places):
        places = np.flatnonzero(((flat & 0x7F) > 0x20) & ((flat & 0x7F) < 0x70))
    if not len(places):
        return False
    at = int(places[p.rng.randrange(len(places))])
    e.raw[at] = (e.raw[at] ^ 8) if q.four else (e.raw[at] + 8) & 0xFF
    return True


def coarse(p: Planted, q: Packed, e: Entry) -> None:
    """The low bits of every code cleared: a weight of fewer bits than said."""
    e.raw[:] = (e.bytes_ & {"nvfp4": 0xEE, "mxfp4": 0xEE, "int4": 0xEE, "fp8": 0xFC, "int8": 0xF0}[q.kind]).tobytes()


def clipped(p: Planted, q: Packed, e: Entry) -> None:
    """No code of more than about half of the range."""
    if q.kind == "int8":
        e.raw[:] = np.clip(e.bytes_.view(np.int8), -50, 50).tobytes()
    elif q.kind == "fp8":
        size = np.minimum(e.bytes_ & 0x7F, np.percentile(e.bytes_ & 0x7F, 60).astype(np.uint8))
        e.raw[:] = (size | e.bytes_ & 0x80).astype(np.uint8).tobytes()
    else:
        both = []
        for nibble in (e.bytes_ & 15, e.bytes_ >> 4):
            both.append(np.clip(nibble, 5, 11) if q.kind == "int4" else np.minimum(nibble & 7, 4) | nibble & 8)
        e.raw[:] = (both[0] | both[1] << 4).astype(np.uint8).tobytes()


def block_of_noise(p: Planted, q: Packed, e: Entry) -> None:
    """Sixteen bytes in a row drawn anew."""
    at = p.rng.randrange(len(e.raw) // 16) * 16
    mask = {"fp8": 0xBF}.get(q.kind, 0xFF)  # no NaN among them
    e.raw[at : at + 16] = bytes(p.rng.randrange(256) & mask for _ in range(16))


def first_rows(p: Planted, q: Packed, e: Entry) -> None:
    """The last quarter of the rows repeats the first."""
    rows = e.rows()
    quarter = len(rows) // 4
    rows[-quarter:] = rows[:quarter]


# ---- scales


def scales(change: Callable[[Planted, Packed, Entry], object], ending: tuple[str, ...] = ("weight_scale",)) -> object:
    def hand(p: Planted) -> tuple[str, ...] | None:
        there = [(q, q.scales[s]) for q in p.packed for s in ending if s in q.scales]
        if not there:
            return None
        q, name = p.rng.choice(there)
        before = bytes(p.tensors[name].raw)
        if change(p, q, p.tensors[name]) is False or bytes(p.tensors[name].raw) == before:
            return None
        p.save()
        return (name,)

    return hand


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
    there = [q for q in p.packed if any(q.module.endswith(f".{m}") for group in FUSED for m in group) and set(GLOBAL) & set(q.scales)]
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
    pairs = [(a, b) for a in named for b in named if p.tensors[a].raw != p.tensors[b].raw and a.rpartition(".")[2] == b.rpartition(".")[2]]
    far = [
        (a, b) for a, b in pairs if not 0.7 < float(p.tensors[a].numbers()[0] / p.tensors[b].numbers()[0]) < 1.4
    ]  # between two that are nearly the same there is nothing to see, nor to lose
    if not far:
        return None
    a, b = p.rng.choice(far)
    p.tensors[a].raw[:] = p.tensors[b].raw
    p.save()
    return (a,)


def dropped(*endings: str) -> object:
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


# ---- places


def swap(p: Planted, one: str, two: str) -> tuple[str, ...] | None:
    """All tensors under one prefix for those under the other, where every pair has the same shape."""
    mine = {n.removeprefix(one) for n in p.tensors if n.startswith(one)}
    theirs = {n.removeprefix(two) for n in p.tensors if n.startswith(two)}
    if not mine or mine != theirs or any(p.tensors[one + n].shape != p.tensors[two + n].shape for n in mine):
        return None
    if all(p.tensors[one + n].raw == p.tensors[two + n].raw for n in mine):
        return None
    for n in mine:
        p.tensors[one + n], p.tensors[two + n] = p.tensors[two + n], p.tensors[one + n]
    p.save()
    names = tuple(q.codes for q in p.packed if q.codes.startswith((one, two)))
    return names or (one, two)


def rows_with_scales(p: Planted) -> tuple[str, ...] | None:
    """Two rows change places with all that belongs to them."""
    there = [q for q in p.packed if row_scaled_parts(p, q)]
    if not there:
        return None
    q = p.rng.choice(there)
    rows = len(p.tensors[q.codes].rows())
    i, j = p.rng.sample(range(rows), 2)
    for name in (q.codes, q.scales["weight_scale"]):
        view = np.frombuffer(p.tensors[name].raw, np.uint8).reshape(rows, -1)
        view[[i, j]] = view[[j, i]]
    p.save()
    return (q.codes,)


def row_scaled_parts(p: Planted, q: Packed) -> bool:
    scale = p.tensors[q.scales["weight_scale"]]
    return len(p.tensors[q.codes].shape) == 2 and len(scale.raw) % len(p.tensors[q.codes].rows()) == 0 and len(scale.raw) > 4


def experts(p: Planted) -> tuple[str, ...] | None:
    stems = sorted({m[1] for q in p.packed if (m := re.match(r"(.*experts\.)\d+\.", q.codes))})
    if stems:
        stem = p.rng.choice(stems)
        return swap(p, f"{stem}0.", f"{stem}2.")
    stacks = [q for q in p.packed if len(p.tensors[q.codes].shape) == 3]
    if not stacks:
        return None
    q = p.rng.choice(stacks)
    count = p.tensors[q.codes].shape[0]
    for name in (q.codes, *q.scales.values()):
        e = p.tensors[name]
        if e.shape and e.shape[0] == count:
            view = np.frombuffer(e.raw, np.uint8).reshape(count, -1)
            view[[0, 2]] = view[[2, 0]]
    p.save()
    return (q.codes,)


def mates(one: str, two: str) -> object:
    """Two modules of one parent change places."""

    def hand(p: Planted) -> tuple[str, ...] | None:
        stems = sorted({q.module.removesuffix(one) for q in p.packed if q.module.endswith(f".{one}")})
        p.rng.shuffle(stems)
        return next((done for s in stems if (done := swap(p, f"{s}{one}.", f"{s}{two}."))), None)

    return hand


def layers(p: Planted) -> tuple[str, ...] | None:
    """A module of one layer for the same of another."""
    modules = {q.module for q in p.packed}
    pairs = [(m, re.sub(r"layers\.0\.", "layers.1.", m)) for m in sorted(modules) if re.search(r"layers\.0\.", m)]
    pairs = [(a, b) for a, b in pairs if b in modules]
    if not pairs:
        return None
    a, b = p.rng.choice(pairs)
    ending = "." if f"{a}.weight_scale" in p.tensors else "_"
    if ending == ".":
        return swap(p, f"{a}.", f"{b}.")
    return None


def widened(p: Planted) -> tuple[str, ...] | None:
    """A weight that the configuration says is quantized lies there in plain bf16."""
    there = [q for q in p.packed if q.codes.endswith(("weight", "weight_packed")) and q.kind != "int4"]
    if not there:
        return None
    q = p.rng.choice(there)
    rows, width = p.tensors[q.codes].rows().shape
    width *= 2 if q.four else 1
    for name in (q.codes, *q.scales.values()):
        del p.tensors[name]
    e = Entry("BF16", (rows, width), bytearray(2 * rows * width))
    e.put(np.random.default_rng(1).normal(0, 0.05, rows * width))
    p.tensors[f"{q.module}.weight"] = e
    p.save()
    return (f"{q.module}.weight",)


def gone(p: Planted) -> tuple[str, ...] | None:
    q = p.one()
    if q is None:
        return None
    for name in (q.codes, *q.scales.values()):
        del p.tensors[name]
    p.save()
    return (q.codes,)


def relabelled(p: Planted) -> tuple[str, ...] | None:
    """The same bytes under another dtype."""
    q = p.one()
    if q is None:
        return None
    e = p.tensors[q.codes]
    p.tensors[q.codes] = Entry({"U8": "I8", "I8": "U8", "F8_E4M3": "F8_E5M2", "I32": "F32"}[e.dtype], e.shape, e.raw)
    p.save()
    return (q.codes,)


def four(q: Packed) -> bool:
    return q.four


WEIGHTS = [
    ("one row zeroed", codes(zeroed(1))), ("seven rows zeroed", codes(zeroed(7), wide=64)), ("sign of a row", codes(opposite)),
    ("codes of two rows exchanged", codes(exchanged)), ("two columns exchanged", codes(columns)),
    ("nibbles swapped in one row", codes(nibbles, fits=four)), ("one row shifted", codes(rolled)), ("one code eight places off", codes(flipped)),
    ("low bits of all codes cleared", codes(coarse)), ("codes clipped", codes(clipped)), ("sixteen bytes drawn anew", codes(block_of_noise)),
    ("first rows repeated", codes(first_rows, wide=16)), ("two rows exchanged with their scales", rows_with_scales),
    ("two experts exchanged", experts), ("gate and up exchanged", mates("gate_proj", "up_proj")), ("k and v exchanged", mates("k_proj", "v_proj")),
    ("modules of two layers exchanged", layers), ("a quantized weight in bf16", widened), ("a quantized weight gone", gone),
    ("codes of another dtype", relabelled),
]  # fmt: skip
SCALED = [
    ("one scale doubled", scales(one_scale("doubled"))), ("one scale zero", scales(one_scale("zero"))), ("one scale NaN", scales(one_scale("NaN"))),
    ("one scale negative", scales(one_scale("negative"))), ("scales of a row x1.5", scales(row_scaled(1.5))),
    ("scales of a row halved", scales(row_scaled(0.5))), ("all scales of a weight doubled", scales(all_scaled(2.0))),
    ("global scale doubled", whole_doubled), ("global scales unequal in a fused group", unequal), ("weight scale dropped", dropped("weight_scale")),
    ("global scale dropped", dropped(*GLOBAL)), ("zero points of junk", zero_point), ("weight_shape wrong", wrong_shape),
    ("input scale NaN", scales(one_scale("NaN"), INPUT)), ("input scale zero", scales(one_scale("zero"), INPUT)),
    ("input scale negative", scales(one_scale("negative"), INPUT)),
    ("input scale x16", scales(lambda p, q, e: e.put(e.numbers() * 16), INPUT)),
    ("input scale of another module", of_another), ("input scale dropped", dropped(*INPUT)), ("pre_quant_scale dropped", dropped("pre_quant_scale")),
]  # fmt: skip
KINDS = [Kind("codes", n, h) for n, h in WEIGHTS] + [Kind("scales", n, h) for n, h in SCALED]  # type: ignore[arg-type]
