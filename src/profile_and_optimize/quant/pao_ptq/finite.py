"""Everything that is compared is finite, or it is refused: the one place where that is decided."""

from __future__ import annotations

import math

import numpy as np

from .stop import Stop


def finite(values: np.ndarray, what: str, *, code: str = "refused", where: str = "", next: str = "") -> np.ndarray:
    """The numbers themselves. Raises Stop, naming `what`, where one is NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        raise Stop(code, f"{what}: {not_finite(int(bad.sum()), values.size)}", where=where, next=next)
    return values


def not_finite(count: int, of: int) -> str:
    return f"{count} of {of} numbers are NaN or infinite"


def finite_number(value: float, what: str) -> float:
    """Raises Stop, naming `what`, for a NaN or an infinity."""
    if not math.isfinite(value):
        raise Stop("refused", f"{what} is {value}: no number to compare with", where=what, next="quantize again")
    return value


def divergence(total: float, rows: int) -> float:
    """A mean KL divergence in nats. It cannot be under zero but for the last bits of its sum; more is a wrong sum, and a NaN
    is none. Raises Stop for both, and for no rows."""
    if rows < 1:
        raise Stop("refused", "no rows to compare answers on", where="held-out text", next="quantize again")
    mean = finite_number(total, "the sum of the KL divergence") / rows
    if mean < -1e-9:
        raise Stop("refused", f"a KL divergence of {mean:g}: the tables are not log-probabilities", where="held-out text",
                   next="quantize again")  # fmt: skip
    return max(mean, 0.0)
