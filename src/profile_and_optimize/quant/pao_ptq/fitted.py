"""Scales that a method moved between weights (AWQ): found from the weights themselves, and every one of them accounted for.

A consumer's columns times s, and what feeds it divided by s: the answers are the same numbers. What is moved must be moved
back: by the norm before, by the rows of the matrix before, or by a factor on the input that is stored beside.
"""

from __future__ import annotations

import re
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


def moved_faults(
    found: Mapping[str, Scaled], stored: Mapping[str, np.ndarray], vectors: Mapping[str, list[np.ndarray]]
) -> list[str]:
    """Scales that nothing takes back: rows that no consumer was multiplied for, columns that no norm, no matrix before and no
    factor on the input makes up for, and columns that differ among matrices of one input.

    `stored` are factors on inputs by weight, `vectors` what each changed norm was divided by, by layer.
    """
    faults = []
    for name, scaled in found.items():
        stem, _, last = name.removesuffix(".weight").rpartition(".")
        consumer = found.get(f"{stem}.{FEEDS[last]}.weight") if last in FEEDS else None
        if not _taken_back(scaled.rows, consumer):
            worst = int(np.argmax(np.abs(np.log(scaled.rows))))
            faults.append(
                f"{name}: row {worst} is the base's times {scaled.rows[worst]:.3f}, and nothing takes that back"
            )
        if not _made_up_for(name, scaled, found, stored.get(name), vectors.get(layer_of(name), [])):
            worst = int(np.argmax(np.abs(np.log(scaled.columns / np.median(scaled.columns)))))
            faults.append(
                f"{name}: column {worst} is the base's times {scaled.columns[worst]:.3f}, and nothing before makes up for it"
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


def layer_of(name: str) -> str:
    """All that comes before and the number of the layer: `model.layers.3`."""
    match = re.match(r"^(.*?\.\d+)\.", name)
    return match[1] if match is not None else ""


def _made_up_for(
    name: str, scaled: Scaled, found: Mapping[str, Scaled], stored: np.ndarray | None, vectors: list[np.ndarray]
) -> bool:
    columns = scaled.columns
    if _near(columns / np.median(columns), np.ones_like(columns)):
        return True
    if stored is not None:
        return len(stored) == len(columns) and alike(1 / stored, columns)
    stem, _, last = name.removesuffix(".weight").rpartition(".")
    for feeder, consumer in FEEDS.items():
        before = found.get(f"{stem}.{feeder}.weight") if last == consumer else None
        if (
            before is not None
            and _taken_back(before.rows, scaled)
            and not _near(before.rows, np.ones_like(before.rows))
        ):
            return True
    return any(len(v) == len(columns) and alike(v, columns) for v in vectors)


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
