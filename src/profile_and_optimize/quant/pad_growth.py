"""Which tensor of a checkpoint grows with the experts' width, along which axis, and what the new places hold. No I/O.

A new block of codes needs a scale, though none of its codes is read: the smallest that is no zero, since an engine may refuse
zeros and a NaN times zero is a NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.experts import Experts

ROWS, COLUMNS = ("gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2")
_WHAT = r"(weight\w*|bias|pre_quant_scale|input_scale|input_global_scale|[kqv]_scale)"
EXPERT = re.compile(rf"(?:^|\.)experts\.\d+\.(\w+)\.{_WHAT}$")
SHARED = re.compile(rf"(?:^|\.)shared_(?:experts?|mlp)\.(\w+)\.{_WHAT}$")
IN_ONE = re.compile(r"(?:^|\.)experts\.(gate_up_proj|up_proj|down_proj)((?:[_.]\w+)?)$")
GRANITE = re.compile(r"(?:^|\.)block_sparse_moe\.(input_linear|output_linear)\.(weight\w*)$")
# Anything else under such a name is a layout that is not known here.
ANY_EXPERT = re.compile(r"(?:^|\.)(experts|shared_experts?|shared_mlp)\.")
# One bit pattern for a scale that multiplies nothing but zeros: 2^-6 in E4M3, 1 in the wider floats, 2^0 in E8M0.
FILLER = {
    "F8_E4M3": b"\x08", "BF16": b"\x80\x3f", "F16": b"\x00\x3c", "F32": b"\x00\x00\x80\x3f", "U8": b"\x7f",
    "F8_E8M0": b"\x7f",
}  # fmt: skip
WIDTH = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "I32": 4, "F32": 4, "I64": 8}
# Weights that share a scale, where the format leaves no choice: NVFP4 and the MX formats.
GROUP = {"F8_E4M3": 16, "F8_E8M0": 32, "U8": 32}
PLAIN = ("BF16", "F16", "F32")


@dataclass(frozen=True, slots=True)
class Growth:
    """How one tensor grows: along `axis`, each of `parts` equal pieces from `old` to `new` places, filled with `filler`
    (the bytes of one element)."""

    axis: int
    old: int
    new: int
    filler: bytes
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """How weights are stored, as the config says: bits of one, weights that share a scale along a row (None: all of the
    row), and the sides of a block of FP8 (None where there are none)."""

    bits: int | None = None
    group: int | None = None
    block: tuple[int, int] | None = None


def growth_of(
    name: str, dtype: str, shape: tuple[int, ...], found: Experts, after: int, stored: Stored
) -> Growth | None:
    """None for a tensor that stays. Raises WrongUse for an expert's tensor whose layout is not known here."""
    if (match := EXPERT.search(name)) is not None:
        return _of_matrix(name, match[1], match[2], dtype, shape, found.width, after, stored)
    if (match := SHARED.search(name)) is not None:
        return _of_shared(name, match[1], match[2], dtype, shape, found, after, stored)
    if (match := GRANITE.search(name)) is not None:
        part = {"input_linear": "gate_up_proj", "output_linear": "down_proj"}[match[1]]
        return _in_one(name, part, match[2].removeprefix("weight"), dtype, shape, found, after)
    if (match := IN_ONE.search(name)) is not None:
        return _in_one(name, match[1], match[2], dtype, shape, found, after)
    if ANY_EXPERT.search(name) and not _stays(name):
        raise _unknown(name, "a tensor of the experts of a name that is not known here")
    return None


def _stays(name: str) -> bool:
    """A router beside the experts, or a shared expert whose size is judged elsewhere."""
    return name.endswith((".e_score_correction_bias", ".gate.weight")) and "proj" not in name


def _of_shared(
    name: str,
    projection: str,
    what: str,
    dtype: str,
    shape: tuple[int, ...],
    found: Experts,
    after: int,
    stored: Stored,
) -> Growth | None:
    """A shared expert is one matrix as wide as `shared_times` experts: it grows at its end, by zeros of its own."""
    if found.layout.shared == "none" or (found.layout.shared == "times" and not found.shared_times):
        raise _unknown(name, "a shared expert, of which the config counts none")
    if not found.shared_times:
        return None
    times = found.shared_times
    return _of_matrix(name, projection, what, dtype, shape, times * found.width, times * after, stored)


def _of_matrix(
    name: str, projection: str, what: str, dtype: str, shape: tuple[int, ...], before: int, after: int, stored: Stored
) -> Growth | None:
    if projection not in (*ROWS, *COLUMNS):
        raise _unknown(name, f"a projection {projection!r} of an expert that is not known here")
    if what in ("weight_zero_point", "weight_g_idx"):
        raise WrongUse(
            "zero points and reordered groups are not known here", where=name, next="pad the base, then quantize it"
        )
    if dtype not in WIDTH:
        raise _unknown(name, f"dtype {dtype}")
    in_rows = projection in ROWS
    if what == "weight_shape":
        return Growth(0, shape[0], shape[0], _zero(name, dtype, stored))
    if what in ("weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale") and _few(shape):
        return None
    if what == "pre_quant_scale":
        return None if in_rows else _along(name, 0, shape, before, after, _filler(name, dtype), (1,))
    if what == "bias":
        return _along(name, 0, shape, before, after, b"\0" * WIDTH[dtype], (1,)) if in_rows else None
    if what in ("weight", "weight_packed"):
        return _of_weight(name, dtype, shape, before, after, stored, in_rows=in_rows)
    if what in ("weight_scale", "weight_scale_inv"):
        return _of_scale(name, what, dtype, shape, before, after, stored, in_rows=in_rows)
    raise _unknown(name, f"{what} of an expert is not known here")


def _of_weight(
    name: str, dtype: str, shape: tuple[int, ...], before: int, after: int, stored: Stored, *, in_rows: bool
) -> Growth:
    if len(shape) != 2:
        raise _unknown(name, f"a weight of shape {list(shape)}")
    zero = _zero(name, dtype, stored)
    # Words lie along the columns; of two nibbles in a byte some formats take rows, others columns.
    words = 1 if in_rows or dtype != "I32" else 32 // (stored.bits or 32)
    shares = (1, 2) if dtype == "U8" else (words,)
    return _along(name, 0 if in_rows else 1, shape, before, after, zero, shares)


def _of_scale(
    name: str, what: str, dtype: str, shape: tuple[int, ...], before: int, after: int, stored: Stored, *, in_rows: bool
) -> Growth | None:
    if _few(shape):
        return None
    if what == "weight_scale_inv" or stored.block:
        if stored.block is None or len(shape) != 2:
            raise _unknown(name, "scales of blocks, whose sides the config does not say")
        side = stored.block[0 if in_rows else 1]
        return _along(name, 0 if in_rows else 1, shape, before, after, _filler(name, dtype), (side,))
    if in_rows:
        return _along(name, 0, shape, before, after, _filler(name, dtype), (1,))
    if len(shape) < 2 or shape[1] == 1:
        return None  # a scale for each row of down: its rows stay
    group = GROUP.get(dtype) or stored.group
    if group is None:
        raise _unknown(name, "scales of groups, whose size the config does not say")
    return _along(name, 1, shape, before, after, _filler(name, dtype), (group,))


def _along(
    name: str, axis: int, shape: tuple[int, ...], before: int, after: int, filler: bytes, shares: tuple[int, ...]
) -> Growth:
    """A place of the tensor stands for one of `shares` weights; a part of a place is not known here."""
    for share in shares:
        if axis < len(shape) and shape[axis] * share == before:
            if after % share:
                raise WrongUse(
                    f"{share} weights share a place, and {after} is not a multiple of {share}",
                    where=name,
                    next="pad to another multiple, or pad the base and quantize it",
                )
            return Growth(axis, shape[axis], after // share, filler)
    raise WrongUse(
        f"{list(shape)} is not an expert {before} wide (axis {axis}, {' or '.join(map(str, shares))} weights a place)", where=name,
        next="pad the base, then quantize it",
    )  # fmt: skip


def _zero(name: str, dtype: str, stored: Stored) -> bytes:
    """A weight of 0 as it is stored: words hold nibbles with an offset of 8, or bytes with one of 128."""
    if dtype not in WIDTH:
        raise _unknown(name, f"dtype {dtype}")
    if dtype != "I32":
        return b"\0" * WIDTH[dtype]
    if stored.bits not in (4, 8):
        raise _unknown(name, f"words of weights of {stored.bits or 'unknown'} bits")
    return (b"\x88" if stored.bits == 4 else b"\x80") * 4


def _filler(name: str, dtype: str) -> bytes:
    if dtype not in FILLER:
        raise _unknown(name, f"a scale of dtype {dtype}")
    return FILLER[dtype]


def _in_one(name: str, part: str, what: str, dtype: str, shape: tuple[int, ...], found: Experts, after: int) -> Growth:
    """Experts in one plain tensor [experts, rows, columns]."""
    if what or dtype not in PLAIN or len(shape) != 3:
        raise WrongUse(f"experts in one tensor of {dtype} {list(shape)}", where=name, next="pad the base, then quantize it")  # fmt: skip
    parts = 2 if part == "gate_up_proj" else 1
    in_rows = {"rows": 1, "columns": 2}.get(found.layout.stacked) or _seen(name, shape, parts * found.width, part)
    axis = in_rows if part != "down_proj" else 3 - in_rows
    if shape[axis] != parts * found.width:
        raise WrongUse(
            f"{list(shape)} is not {parts * found.width} wide in axis {axis}, as the config implies",
            where=name,
            next="check config.json against the tensors",
        )
    return Growth(axis, found.width, after, b"\0" * WIDTH[dtype], parts)


def _seen(name: str, shape: tuple[int, ...], width: int, part: str) -> int:
    """The axis of gate and up, where sizes tell: that of down is the other."""
    axes = [a for a in (1, 2) if shape[a] == width]
    if len(axes) != 1:
        raise WrongUse(f"{list(shape)} does not show which axis is {width} wide", where=name, next="pad another layout")
    return axes[0] if part != "down_proj" else 3 - axes[0]


def _few(shape: tuple[int, ...]) -> bool:
    """One number for the whole tensor."""
    return len(shape) == 0 or all(n == 1 for n in shape)


def _unknown(name: str, what: str) -> WrongUse:
    return WrongUse(what, where=name, next="pad the base, then quantize it")


def grow(array: np.ndarray, g: Growth) -> np.ndarray:
    """`array` is bytes, the last axis those of one element."""
    pieces = []
    for piece in np.split(array, g.parts, axis=g.axis):
        shape = list(piece.shape)
        shape[g.axis] = g.new - g.old
        pieces += [piece, np.broadcast_to(np.frombuffer(g.filler, np.uint8), shape)]
    return np.concatenate(pieces, axis=g.axis)


def stored_as(config: Mapping[str, Any], quant: Mapping[str, Any]) -> Stored:
    """`quant` is hf_quant_config.json of ModelOpt, {} where there is none. Raises WrongUse where experts may have several
    formats: what is theirs would be a guess."""
    told = config.get("quantization_config")
    said: list[Mapping[str, Any]] = [s for s in (told, quant.get("quantization")) if isinstance(s, Mapping)]
    if not said:
        return Stored()
    block = next((s["weight_block_size"] for s in said if _pair(s.get("weight_block_size"))), None)
    weights = [w for s in said for w in _weights(s)]
    bits, groups = ({w[k] for w in weights if isinstance(w.get(k), int)} for k in ("num_bits", "group_size"))
    groups |= {s["group_size"] for s in said if isinstance(s.get("group_size"), int)}
    blocks = [w["block_structure"] for w in weights if _pair(w.get("block_structure"))]
    if len(bits) > 1 or len(groups) > 1:
        raise WrongUse(
            "several formats of weights: which is the experts' is not known here",
            where="config.json",
            next="pad the base, then quantize it",
        )
    group = next(iter(groups), None)
    sides = block or next(iter(blocks), None)
    return Stored(next(iter(bits), None), group if group and group > 0 else None, tuple(sides) if sides else None)


def _weights(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = said.get("config_groups")
    groups = rows.values() if isinstance(rows, Mapping) else ()
    return [g["weights"] for g in groups if isinstance(g, Mapping) and isinstance(g.get("weights"), Mapping)]


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
