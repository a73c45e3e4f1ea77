"""The codes that rounding in float32 gives, beside the written ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dequantize import ROWS, spread
from .layouts import Weight
from .tensors import E4M3, Tensor, numbers, to_bf16


@dataclass
class Neighbours:
    """Written codes beside those that float32 quotients give with the written scales: how many differ by one, by more."""

    weights: int = 0
    by_one: int = 0
    by_more: int = 0

    @property
    def share(self) -> float:
        return self.by_one / self.weights if self.weights else 0.0


def e4m3_codes(x: np.ndarray) -> np.ndarray:
    """Signed places in the list of E4M3 numbers, of the nearest one to each value; ties go to the even place."""
    sizes = E4M3[:127].astype(np.float64)
    size = np.minimum(np.abs(x), 448.0)
    edges = (sizes[:-1] + sizes[1:]) / 2
    place = np.searchsorted(edges, size)
    place += (place < 126) & (size == edges[np.minimum(place, 125)]) & (place % 2 == 1)
    return np.where(x < 0, -place, place)


def peak(scale: np.ndarray | np.floating[Any], top: int) -> np.ndarray:
    """The largest magnitude that a scale came from: a bf16 number, mostly. Its quotients often end just at the middle of
    two codes, and which is taken hangs on the last bit; so it is found again before anything is divided by it."""
    raw = np.asarray(scale, np.float32) * np.float32(top)
    snapped = numbers(to_bf16(raw).reshape(-1).view(np.uint8), "BF16").reshape(raw.shape)
    return np.where(np.abs(snapped - raw) <= 1e-6 * np.abs(raw), snapped, raw).astype(np.float32)


def recoded(w: Weight, base: Tensor, tally: Neighbours) -> Iterator[np.ndarray]:
    """An eight-bit weight as rounding the base anew with its written scales gives it, as bf16 bits; differences counted."""
    scale = np.asarray(w.scales["weight_scale"].values(), np.float32)
    whole, codes = base.values(), w.codes.values()
    rows = ROWS if len(w.shape) == 2 else 1
    for at in range(0, w.shape[0], rows):
        piece = slice(at, at + rows)
        mine = scale[piece] if scale.ndim and scale.shape[0] == w.shape[0] else scale
        top = 127 if w.codes.dtype == "I8" else 448
        largest = spread(peak(mine, top), whole[piece].shape, w)
        # torch takes a number over a tensor as its inverse times the number, and that last bit decides ties.
        per_step = np.float32(127) / largest if top == 127 else (np.float32(1) / largest) * np.float32(448)
        quotient = whole[piece].astype(np.float32) * per_step
        if w.codes.dtype == "I8":
            own, theirs = np.clip(np.rint(quotient), -128, 127), codes[piece].astype(np.float32)
            values = own
        else:
            own, theirs = e4m3_codes(quotient), e4m3_codes(codes[piece])
            values = np.sign(own).astype(np.float32) * E4M3[np.abs(own).astype(np.int64)]
        off = np.abs(own - theirs)
        tally.weights += off.size
        tally.by_one += int(np.count_nonzero(off == 1))
        tally.by_more += int(np.count_nonzero(off > 1))
        yield to_bf16(values / per_step if top == 127 else values * (1 / per_step))
