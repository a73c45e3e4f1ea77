"""Axes with round ticks, made here so that nothing is left for the drawing to decide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from profile_and_optimize.report.pages.model import Axis, rounded

# A wider range than this is shown by its logarithm.
LOG_FROM = 12.0
_PAD, _LEAST = 0.07, 0.02


def axis(label: str, values: Iterable[float], most_ticks: int) -> Axis:
    """Holds all values, which are positive, with some room around; logarithmic where they differ by more than twelvefold."""
    found = sorted(values) or [1.0]
    low, high = found[0], found[-1]
    if high > LOG_FROM * low:
        pad = (high / low) ** _PAD
        low, high = rounded(low / pad), rounded(high * pad)
        return Axis(label, low, high, True, _ticks(log_ticks(low, high, most_ticks)))
    pad = max((high - low) * _PAD, high * _LEAST)
    low = 0.0 if low < 0.35 * high else rounded(low - pad)
    high = rounded(high + pad)
    return Axis(label, low, high, False, _ticks(linear_ticks(low, high, most_ticks)))


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside the range, at most so many."""
    for power in range(math.floor(math.log10(high - low)) - 2, math.floor(math.log10(high - low)) + 2):
        for base in (1.0, 2.0, 2.5, 5.0):
            step = base * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                return [rounded(i * step) for i in range(first, last + 1)]
    return []


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, with 2 and 5 or 3 between them where there is room; every second or third power where there is none."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for bases in ((1, 2, 5), (1, 3), (1,)):
        found = [b * 10.0**p for p in range(first, last + 1) for b in bases if low <= b * 10.0**p <= high]
        if len(found) <= most:
            return [rounded(v) for v in found]
    return [rounded(v) for v in found[:: math.ceil(len(found) / most)]]


def _ticks(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    return tuple((v, tick_words(v)) for v in values)


def tick_words(value: float) -> str:
    """As short as it can be: 0.25, 40, 1.5k, 20k, 3M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
