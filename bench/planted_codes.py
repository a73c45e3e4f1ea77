"""Faults in the codes of quantized weights, and in their places."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from own_dequant import in_base, scale_numbers
from planted_space import Entry, Hand, Kind, Packed, Planted, Tensors, read_file

ZERO = {"nvfp4": 0x00, "mxfp4": 0x00, "int4": 0x88, "fp8": 0x00, "int8": 0x00}

Change = Callable[[Planted, Packed, Entry], object]


def codes(change: Change, *, wide: int = 0, fits: Callable[[Packed], bool] = lambda q: True) -> Hand:
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


def stepped(share: float, *, row: bool) -> Change:
    """Codes one step up in size, of a row or of the whole weight, each with that chance."""

    def change(p: Planted, q: Packed, e: Entry) -> None:
        rows = e.rows()
        where = [p.rng.randrange(len(rows))] if row else list(range(len(rows)))
        draw = np.random.default_rng(p.rng.randrange(1 << 30))
        for i in where:
            rows[i] = np.where(draw.random(rows.shape[1]) < share, one_up(rows[i], q.kind), rows[i])

    return change


def one_up(row: np.ndarray, kind: str) -> np.ndarray:
    if kind == "int8":
        return np.minimum(row.view(np.int8).astype(int) + 1, 127).astype(np.int8).view(np.uint8)
    if kind == "fp8":
        return np.minimum((row & 0x7F) + 1, 0x7E) | row & 0x80
    low, high = row & 15, row >> 4
    if kind == "int4":
        return np.minimum(low + 1, 15) | np.minimum(high + 1, 15) << 4
    return (np.minimum((low & 7) + 1, 7) | low & 8) | (np.minimum((high & 7) + 1, 7) | high & 8) << 4


def base_of(p: Planted) -> Tensors:
    found: Tensors = {}
    for file in sorted(Path(p.job["base"]).glob("*.safetensors")):
        found |= read_file(file)[0]
    return found


def toward_zero(p: Planted) -> tuple[str, ...] | None:
    """A weight of integers cut off where it should be rounded."""
    base = base_of(p)
    there = [q for q in p.packed if q.kind == "int8" and in_base(q, base) is not None]
    if not there:
        return None
    q = p.rng.choice(there)
    scale, whole = p.tensors[q.scales["weight_scale"]], in_base(q, base)
    assert whole is not None
    steps = scale_numbers(bytes(scale.raw), scale.dtype).reshape(-1, 1)
    cut = np.clip(np.trunc(whole / steps), -127, 127).astype(np.int8)
    p.tensors[q.codes].raw[:] = cut.tobytes()
    p.save()
    return (q.codes,)


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
    return (
        len(p.tensors[q.codes].shape) == 2
        and len(scale.raw) % len(p.tensors[q.codes].rows()) == 0
        and len(scale.raw) > 4
    )


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


def mates(one: str, two: str) -> Hand:
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


WEIGHTS: dict[str, Hand] = {
    "one row zeroed": codes(zeroed(1)),
    "seven rows zeroed": codes(zeroed(7), wide=64),
    "sign of a row": codes(opposite),
    "codes of two rows exchanged": codes(exchanged),
    "two columns exchanged": codes(columns),
    "nibbles swapped in one row": codes(nibbles, fits=four),
    "one row shifted": codes(rolled),
    "one code eight places off": codes(flipped),
    "low bits of all codes cleared": codes(coarse),
    "codes clipped": codes(clipped),
    "sixteen bytes drawn anew": codes(block_of_noise),
    "first rows repeated": codes(first_rows, wide=16),
    "two rows exchanged with their scales": rows_with_scales,
    "two experts exchanged": experts,
    "gate and up exchanged": mates("gate_proj", "up_proj"),
    "k and v exchanged": mates("k_proj", "v_proj"),
    "modules of two layers exchanged": layers,
    "a quantized weight in bf16": widened,
    "a quantized weight gone": gone,
    "codes of another dtype": relabelled,
    "codes of a row one step up": codes(stepped(1.0, row=True)),
    "one code in five one step up": codes(stepped(0.2, row=False)),
    "cut off toward zero": toward_zero,
}
KINDS = [Kind("codes", n, h) for n, h in WEIGHTS.items()]
