"""What quantization should do to speed, written before anything is measured and scored afterwards. The table is data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class QuantLever:
    """`predicted` is the expected ratio of the primary endpoint per focus; empty where nothing is expected."""

    predicts: str
    predicted: tuple[tuple[str, tuple[float, float]], ...]


NOTHING = QuantLever("nothing is known beforehand", ())


def quant_lever(weights: str, activations: str, *, cpu: bool) -> QuantLever:
    """Of weights in that format, with activations as they are (bf16) or quantized too, on a CPU or a GPU."""
    whole = "weights" if activations.startswith("bf16") else "weights and activations"
    for row in _table():
        if (row["weights"], row["quantizes"], row["device"]) == (weights, whole, "cpu" if cpu else "gpu"):
            ranges = tuple((focus, (low, high)) for focus, (low, high) in row["predicted"].items())
            return QuantLever(row["predicts"], ranges)
    return NOTHING


@cache
def _table() -> tuple[dict[str, Any], ...]:
    path = files("profile_and_optimize.optimize") / "quant_levers.toml"
    return tuple(tomllib.loads(path.read_text())["lever"])
