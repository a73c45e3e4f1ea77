"""Codes and scales to bf16 weights, in numpy and from the formats' definitions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .layouts import Weight
from .stop import Stop
from .tensors import to_bf16

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


ROWS = 4096


def dequantize(w: Weight) -> Iterator[np.ndarray]:
    """The weight as bf16 bits, in pieces along its first axis. Raises Stop for a layout that is not known here."""
    for codes, step in opened(w):
        yield to_bf16(codes * step)


def opened(w: Weight) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(codes as numbers, the scale of each) in float32, in pieces along the first axis. Raises Stop for a layout that is not
    known here."""
    if "weight_zero_point" in w.scales and w.scales["weight_zero_point"].values().any():
        raise Stop("refused", "zero points are not known here", where=w.name, next="a symmetric recipe")
    codes, scale = w.codes.values(), scales_of(w)
    if w.codes.dtype == "U8" and w.scales["weight_scale"].dtype not in ("F8_E4M3", "U8", "F8_E8M0"):
        values = _int4_by_rows(w, codes)
        yield values, spread(scale, values.shape, w)
        return
    step = max(1, ROWS if len(w.shape) == 2 else 1)
    ratio = scale.shape[0] if scale.ndim and scale.shape[0] > 1 else 0
    if ratio and ratio != w.shape[0]:
        step = w.shape[0]  # blocks of rows: all at once
    for at in range(0, w.shape[0], step):
        part = unpack(w, codes[at : at + step])
        mine = scale[at : at + step] if ratio == w.shape[0] else scale
        yield part, spread(mine, part.shape, w)


def scales_of(w: Weight) -> np.ndarray:
    """The scales as stored, times the global one, float32."""
    held = w.scales["weight_scale"]
    scale = held.values()
    if held.dtype == "U8":
        scale = np.exp2(scale.astype(np.float32) - 127)  # E8M0 as bytes
    return np.asarray(scale, np.float32) * np.float32(_whole(w))


def _whole(w: Weight) -> float:
    """The second, global scale: ModelOpt stores what to multiply with, compressed-tensors what to divide by."""
    if "weight_scale_2" in w.scales:
        return float(w.scales["weight_scale_2"].values().reshape(-1)[0])
    if "weight_global_scale" in w.scales:
        return float(1 / w.scales["weight_global_scale"].values().reshape(-1)[0])
    return 1.0


def unpack(w: Weight, codes: np.ndarray) -> np.ndarray:
    """Codes to float32 numbers before scaling, in the base's shape."""
    if w.codes.dtype == "U8":  # two of E2M1 in a byte, the even one low, along the axis that is half as long
        pairs = np.stack([E2M1[codes & 15], E2M1[codes >> 4]], axis=-1)
        axis = next(i for i in range(1, codes.ndim) if codes.shape[i] * 2 == w.shape[i])
        pairs = np.moveaxis(pairs, -1, axis + 1)
        return pairs.reshape(*codes.shape[:axis], -1, *codes.shape[axis + 1 :])
    if w.codes.dtype == "I32":  # eight of four bits in a word, lowest first, offset by 8
        nibbles = (codes[..., None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
        return nibbles.reshape(*codes.shape[:-1], -1)[..., : w.shape[-1]].astype(np.float32) - 8
    return codes.astype(np.float32)


def _int4_by_rows(w: Weight, codes: np.ndarray) -> np.ndarray:
    """ModelOpt's INT4: two's complement, two rows in a byte, the even one low."""
    rows = np.stack([codes & 15, codes >> 4], axis=1).reshape(w.shape).astype(np.int8)
    return np.where(rows > 7, rows - 16, rows).astype(np.float32)


def spread(scale: np.ndarray, shape: tuple[int, ...], w: Weight) -> np.ndarray:
    """A scale for each value: of the tensor, a row, or blocks along any axis."""
    if scale.size == 1:
        return scale.reshape((1,) * len(shape))
    if scale.ndim < len(shape):
        scale = scale.reshape(*scale.shape, *(1,) * (len(shape) - scale.ndim))
    if any(n % s for n, s in zip(shape, scale.shape, strict=True)):
        raise Stop(
            "refused", f"scales {scale.shape} do not fit a weight of {shape}", where=w.name, next="another target"
        )
    for axis, (n, s) in enumerate(zip(shape, scale.shape, strict=True)):
        if s not in (1, n):
            scale = np.repeat(scale, n // s, axis=axis)
    return scale
