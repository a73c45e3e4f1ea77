"""Makes src/profile_and_optimize/stats/gate_looks.json: how the accuracy gate's error is spent over its looks.

The gate looks after every tenth of the planned questions. What it may spend up to the share t of them: for a pass
alpha * t^5, little early and nearly all at the end, since a gate that has to be repeated with more questions is the dear
case; for harm alpha * t, evenly, since clear harm should be seen early and a wrong refusal ships nothing (Kim and DeMets
1987). The share of the level that one look may use on its own is solved in the limit of many discordant questions, where
the scores of the looks are those of a Brownian motion, by integrating its density from look to look (Armitage, McPherson
and Rowe 1969). That the limit is the worst case is not assumed: `bench/accuracy_gate.py` computes the error of the whole gate
exactly for finite numbers.

    python bench/accuracy_boundaries.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

LOOKS = 10
SPENT = {"pass": 5, "harm": 1}
LEVELS = (0.1, 0.05, 0.025, 0.02, 0.01, 0.005, 0.0025, 0.001, 0.0001)
GRID, WIDE = 4001, 9.0
OUT = Path(__file__).parents[1] / "src/profile_and_optimize/stats/gate_looks.json"


def shares(alpha: float, power: int, looks: int = LOOKS) -> list[float]:
    """Per look the share of `alpha` that its p-value may use, so that crossings so far are alpha * (look/looks)^power."""
    times = np.arange(1, looks + 1) / looks
    found: list[float] = []
    at, density, spent, before = np.zeros(1), np.ones(1), 0.0, 0.0
    for t in times:
        sd, may = np.sqrt(t - before), alpha * t**power - spent
        edge = _edge(at, density, sd, may, np.sqrt(t))
        found.append(float(ndtr(-edge / np.sqrt(t)) / alpha))
        spent += float((density * ndtr(-(edge - at) / sd)).sum())
        at, density = _onward(at, density, sd, -WIDE * np.sqrt(t), edge)
        before = t
    return found


def _edge(at: np.ndarray, density: np.ndarray, sd: float, may: float, scale: float) -> float:
    """Where the score has to be for crossings at this look to be `may`."""
    low, high = 0.0, 12 * scale
    for _ in range(100):
        middle = (low + high) / 2
        if float((density * ndtr(-(middle - at) / sd)).sum()) > may:
            low = middle
        else:
            high = middle
    return high


def _onward(at: np.ndarray, density: np.ndarray, sd: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The weight of those who have not crossed, on the next look's grid (trapezoids)."""
    grid = np.linspace(low, high, GRID)
    step = (grid[None, :] - at[:, None]) / sd
    found = (density[:, None] * np.exp(-(step**2) / 2)).sum(0) / (sd * np.sqrt(2 * np.pi)) * (grid[1] - grid[0])
    found[0] /= 2
    found[-1] /= 2
    return grid, found


def main() -> None:
    made = {
        "generator": "bench/accuracy_boundaries.py", "looks": LOOKS, "spent": SPENT,
        "z_of_last_pass_at_1%": float(-ndtri(0.01 * shares(0.01, SPENT["pass"])[-1])),
    }  # fmt: skip
    table = {
        name: {str(a): [float(f"{np.floor(x * 1e6) / 1e6:.6f}") for x in shares(a, power)] for a in LEVELS}
        for name, power in SPENT.items()
    }
    OUT.write_text(json.dumps({"made": made, **table}, indent=1) + "\n")
    print(OUT.read_text())


if __name__ == "__main__":
    main()
