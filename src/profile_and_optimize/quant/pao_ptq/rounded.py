"""How far a rounded weight may lie from the base: each format's steps, and the scales that a recipe can give a unit.

A value is held to half a step of its format at its size, where it was not cut off at the largest code; a scale to the
largest magnitude of the values that share it. Beyond both there is a little room: writers take quotients in bf16 (a value
may go to the neighbour of a near tie), and a dequantized value is bf16 itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SLACK = 2.0**-7  # of the value: a quotient in bf16, and the product in bf16


@dataclass(frozen=True, slots=True)
class Grid:
    """A format's codes: `top` is the largest, `low` and `high` bound scale x top / largest magnitude over a unit."""

    name: str
    top: float
    low: float
    high: float

    def half_step(self, size: np.ndarray) -> np.ndarray:
        """Half the distance of neighbouring codes at `size` (in units of the scale)."""
        if self.name in ("int8", "int4"):
            return np.full_like(size, 0.5)
        # A float format's step is a power of two below its value's own: E2M1 has one bit behind the first, E4M3 three.
        low, high, behind = (0, 2, 2) if self.name in ("nvfp4", "mxfp4") else (-6, 8, 4)
        exponent = np.clip(np.ascontiguousarray(size, np.float32).view(np.int32) >> 23, 127 + low, 127 + high)
        return ((exponent - behind) << 23).view(np.float32)


# An E4M3 block scale is off by up to a sixteenth. compressed-tensors spreads integers over half of 255 and of 15 steps.
# A power of two is the next above the quotient (ModelOpt) or the one that the largest value's own exponent gives.
GRIDS = {
    g.name: g
    for g in (
        Grid("nvfp4", 6.0, 0.93, 1.07), Grid("mxfp4", 6.0, 0.74, 2.02), Grid("mxfp8", 448.0, 0.86, 2.02),
        Grid("int4", 7.0, 0.91, 1.02), Grid("fp8", 448.0, 0.98, 1.02), Grid("int8", 127.0, 0.98, 1.02),
    )
}  # fmt: skip


def beyond(grid: Grid, base: np.ndarray, codes: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How far each value lies beyond what rounding allows, in shares of that: over 1 is no rounding of the base."""
    whole = np.abs(base)
    size = whole / step
    allowed = np.maximum(size - grid.top, 0)
    allowed += grid.half_step(np.minimum(size, grid.top, out=size))
    allowed *= step
    whole *= SLACK
    allowed += whole
    off = codes * step
    off -= base
    np.abs(off, out=off)
    off /= allowed
    return off


def largest(base: np.ndarray, units: tuple[int, ...]) -> np.ndarray:
    """The largest magnitude over each unit that shares a scale; `units` is how many there are along each axis of the base."""
    split: list[int] = []
    for n, u in zip(base.shape, units, strict=True):
        split += [u, n // u]
    return np.abs(base).reshape(split).max(axis=tuple(range(1, 2 * base.ndim, 2)))


def scale_off(grid: Grid, scale: np.ndarray, peak: np.ndarray, least: float) -> np.ndarray:
    """Where a unit's scale is none that the recipe gives its largest magnitude. `least` is the smallest step of the scales'
    own format: below it a scale is as near as it gets, and a unit of zeros may have any."""
    wanted = peak / grid.top
    near = np.abs(scale - wanted) <= least
    within = (scale >= grid.low * wanted) & (scale <= grid.high * wanted)
    return ~(near | within | (peak == 0))
