"""Scales that a method moved between weights (AWQ): found from the weights themselves, and every one of them accounted for.

A consumer's columns times s, and what feeds it divided by s: the answers are the same numbers. What is moved must be moved
back: by the norm before, by the rows of the matrix before, or by a factor on the input that is stored beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .names import FUSED

ROUNDS = 12
# A fit over some hundred values of four bits is off by about a hundredth.
NEAR = 0.08
# Whose rows take what the columns of the other were multiplied with.
FEEDS = {"v_proj": "o_proj", "up_proj": "down_proj", "w3": "w2"}


@dataclass(frozen=True, eq=False)
class Scaled:
    """What the rows and columns of one weight are multiplied with; rows have a median of one."""

    rows: np.ndarray
    columns: np.ndarray


def fit(base: np.ndarray, values: np.ndarray) -> Scaled:
    """Scales with values ~ rows x base x columns, by least squares in turn. A row or column of zeros in the base has
    a scale of one: nothing of it is left to compare."""
    base, values = base.astype(np.float64), values.astype(np.float64)
    rows, columns = np.ones(base.shape[0]), np.ones(base.shape[1])
    for _ in range(ROUNDS):
        columns = _least_squares(base * rows[:, None], values, 0)
        rows = _least_squares(base * columns[None, :], values, 1)
    middle = float(np.median(rows)) or 1.0
    return Scaled(rows / middle, columns * middle)


def _least_squares(base: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    size = (base**2).sum(axis=axis)
    return np.where(size > 0, (base * values).sum(axis=axis) / np.where(size > 0, size, 1), 1.0)


def moved_faults(found: Mapping[str, Scaled]) -> list[str]:
    """Scales that nothing takes back: rows that no consumer was multiplied for, and columns that differ among matrices of
    one input."""
    faults = []
    for name, scaled in found.items():
        stem, _, last = name.removesuffix(".weight").rpartition(".")
        consumer = found.get(f"{stem}.{FEEDS[last]}.weight") if last in FEEDS else None
        if not _taken_back(scaled.rows, consumer):
            worst = int(np.argmax(np.abs(np.log(scaled.rows))))
            faults.append(
                f"{name}: row {worst} is the base's times {scaled.rows[worst]:.3f}, and nothing takes that back"
            )
        for group in FUSED:
            mate = found.get(f"{stem}.{group[0]}.weight") if last in group[1:] else None
            if (
                mate is not None
                and len(mate.columns) == len(scaled.columns)
                and not alike(scaled.columns, mate.columns)
            ):
                faults.append(
                    f"{name}: its columns are scaled otherwise than those of {group[0]}, which has the same input"
                )
    return faults


def _taken_back(rows: np.ndarray, consumer: Scaled | None) -> bool:
    if _near(rows, np.ones_like(rows)):
        return True
    if consumer is None or len(consumer.columns) % len(rows):
        return False
    columns = consumer.columns
    if len(columns) != len(rows):  # heads of values that several heads of queries share: the same scale for each
        return True
    return _near(rows * columns / np.median(rows * columns), np.ones_like(rows))


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether they are the same scales, but for one factor: how much of it is the rows' is a matter of taste."""
    ratio = one / other
    middle = float(np.median(ratio))
    return middle > 0 and _near(ratio / middle, np.ones_like(ratio))


def _near(one: np.ndarray, other: np.ndarray) -> bool:
    """Nearly all within a few hundredths; a scale fitted over few values may lie further off."""
    off = np.abs(one / other - 1)
    return bool(np.quantile(off, 0.95) <= NEAR and off.max() <= 4 * NEAR)
