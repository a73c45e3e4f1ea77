"""Quantized weights read back from the definitions of their formats, and the error that rounding to each must have.

Shares nothing with the product: not its reader, not its tables, not its arithmetic.

E2M1: sign, two bits of exponent with bias 1, one of fraction. E4M3: sign, four bits with bias 7, three of fraction, no infinities,
S.1111.111 is NaN (OCP 8-bit floating point, 2023). E8M0: a power of two with bias 127 (OCP microscaling formats, 2023). NVFP4: E2M1 in
blocks of 16 with an E4M3 scale each and one float32 for the tensor. Two four-bit codes lie in a byte, the even column low.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from planted_space import Entry, Packed, Tensors

DRAWS, ROWS, COLUMNS = 8, 128, 256


def minifloat(code: np.ndarray, exponent: int, fraction: int) -> np.ndarray:
    """Magnitudes of codes with that many bits of exponent and fraction, the bias in the middle."""
    bias = 2 ** (exponent - 1) - 1
    e, f = code >> fraction, code & (2**fraction - 1)
    normal = (1 + f / 2**fraction) * np.exp2(e - float(bias))
    return np.where(e > 0, normal, f / 2**fraction * np.exp2(1.0 - bias))


E2M1 = minifloat(np.arange(8), 2, 1)
E4M3 = np.append(minifloat(np.arange(127), 4, 3), np.nan)


def signed(code: np.ndarray, table: np.ndarray) -> np.ndarray:
    size = len(table)
    return np.where(code & size, -1.0, 1.0) * table[code & (size - 1)]


def scale_numbers(raw: bytes, dtype: str) -> np.ndarray:
    if dtype == "F8_E4M3":
        return signed(np.frombuffer(raw, np.uint8), E4M3)
    if dtype in ("U8", "F8_E8M0"):
        return np.exp2(np.frombuffer(raw, np.uint8).astype(float) - 127)
    if dtype == "BF16":
        return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(float)
    return np.frombuffer(raw, {"F16": np.float16, "F32": np.float32}[dtype]).astype(float)


def columns_of(raw: bytes, kind: str) -> np.ndarray:
    """The codes' numbers before any scale, flat."""
    data = np.frombuffer(raw, np.uint8)
    if kind == "fp8":
        return signed(data, E4M3)
    if kind == "int8":
        return data.view(np.int8).astype(float)
    both = np.stack([data & 15, data >> 4], axis=1).reshape(-1)
    return both.astype(float) - 8 if kind == "int4" else signed(both, E2M1)


def dequantized(tensors: Tensors, q: Packed, shape: tuple[int, ...]) -> np.ndarray:
    """In the base's shape. Blocks lie along the last axis; in a stack whose second axis is half as long, along that one."""
    codes, scale = tensors[q.codes], tensors[q.scales["weight_scale"]]
    inward = len(shape) == 3 and q.four and codes.shape[1] * 2 == shape[1]
    if inward:
        codes, scale = (Entry(e.dtype, e.shape, bytearray(byte_axes_turned(e))) for e in (codes, scale))
        shape = (shape[0], shape[2], shape[1])
    values = columns_of(bytes(codes.raw), q.kind).reshape(-1, shape[-1])
    factors = scale_numbers(bytes(scale.raw), scale.dtype)
    rows = len(values)
    if factors.size % rows == 0 and factors.size >= rows:
        values = (values.reshape(rows, factors.size // rows, -1) * factors.reshape(rows, -1, 1)).reshape(rows, -1)
    else:
        values = values * np.repeat(factors, rows // factors.size)[:, None]
    if "weight_scale_2" in q.scales:
        whole = scale_numbers(bytes(tensors[q.scales["weight_scale_2"]].raw), "F32")
        values = values * np.repeat(whole, rows // whole.size)[:, None]
    if "weight_global_scale" in q.scales:
        values = values / scale_numbers(bytes(tensors[q.scales["weight_global_scale"]].raw), "F32")[0]
    values = values.reshape(shape)
    return values.swapaxes(1, 2) if inward else values


def byte_axes_turned(e: Entry) -> bytes:
    """A stack of bytes with its last two axes exchanged."""
    return np.frombuffer(e.raw, np.uint8).reshape(e.shape).swapaxes(1, 2).tobytes()


@dataclass(frozen=True)
class Error:
    """One weight's rms distance to the base, as a share of the base's rms."""

    name: str
    kind: str
    relative: float


def errors(export: Tensors, packed: list[Packed], base: Tensors) -> tuple[list[Error], list[str]]:
    """Of every quantized weight; and those whose place in the base is not known here."""
    found, lost = [], []
    for q in packed:
        theirs = in_base(q, base)
        if theirs is None or "pre_quant_scale" in q.scales:
            lost.append(q.codes)
            continue
        mine = dequantized(export, q, theirs.shape)
        off = np.sqrt(np.mean((mine - theirs) ** 2) / np.mean(theirs**2))
        found.append(Error(q.codes, label(q, export), float(off)))
    return found, lost


def label(q: Packed, export: Tensors) -> str:
    """The format with the reach of its scale."""
    scale = export[q.scales["weight_scale"]]
    count = len(scale.raw) // {"BF16": 2, "F16": 2, "F32": 4}.get(scale.dtype, 1)
    if q.kind in ("fp8", "int8"):
        return f"{q.kind}, one scale a {'tensor' if count < len(export[q.codes].rows()) else 'row'}"
    return q.kind


def in_base(q: Packed, base: Tensors) -> np.ndarray | None:
    """The base's numbers for a quantized weight, laid as the export lays them."""
    if (found := base.get(f"{q.module}.weight")) is not None:
        return found.numbers().astype(float).reshape(found.shape)
    if (found := base.get(q.module)) is not None:
        return found.numbers().astype(float).reshape(found.shape)
    part = re.match(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)$", q.module)
    if part is None:
        return None
    stack = base.get(f"{part[1]}.{'down_proj' if part[3] == 'down_proj' else 'gate_up_proj'}")
    if stack is None:
        return None
    one = stack.numbers().astype(float).reshape(stack.shape)[int(part[2])].T  # stored as [in, out]
    # llm-compressor cuts the stack of gpt-oss in halves and calls them gate and up, though their rows alternate there.
    half = len(one) // 2
    return {"down_proj": one, "gate_proj": one[:half], "up_proj": one[half:]}[part[3]]


# ---- what rounding does to normal numbers


def nearest(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    grid = table[np.isfinite(table)]
    return np.sign(x) * grid[np.searchsorted((grid[1:] + grid[:-1]) / 2, np.minimum(np.abs(x), grid[-1]))]


def rounded(x: np.ndarray, kind: str) -> np.ndarray:
    """[rows, columns] as the format keeps them, its scales from the largest magnitudes."""
    if kind == "nvfp4":
        whole = np.abs(x).max() / (6 * 448)
        blocks = x.reshape(len(x), -1, 16)
        step = nearest(np.abs(blocks).max(-1, keepdims=True) / 6 / whole, E4M3) * whole
        return (nearest(blocks / step, E2M1) * step).reshape(x.shape)
    if kind == "mxfp4":
        blocks = x.reshape(len(x), -1, 32)
        step = np.exp2(np.ceil(np.log2(np.abs(blocks).max(-1, keepdims=True) / 6)))
        return (nearest(blocks / step, E2M1) * step).reshape(x.shape)
    if kind == "int4":
        groups = x.reshape(len(x), -1, 128)
        step = np.abs(groups).max(-1, keepdims=True) / 7.5
        return (np.clip(np.rint(groups / step), -8, 7) * step).reshape(x.shape)
    peak = np.abs(x).max() if kind.endswith("tensor") else np.abs(x).max(-1, keepdims=True)
    if kind.startswith("fp8"):
        return nearest(x / peak * 448, E4M3) * peak / 448
    return np.clip(np.rint(x / peak * 127), -128, 127) * peak / 127


def theory(kind: str) -> float:
    """Relative rms error of rounding independent normal numbers: the mean over a few matrices of 128 x 256."""
    draw = np.random.default_rng(12)
    found = []
    for _ in range(DRAWS):
        x = draw.normal(0, 1, (ROWS, COLUMNS))
        found.append(np.sqrt(np.mean((rounded(x, kind) - x) ** 2) / np.mean(x**2)))
    return float(np.mean(found))
