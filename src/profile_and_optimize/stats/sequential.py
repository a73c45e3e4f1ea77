"""Looking after every block without making winners: what share of the error each look may use.

The error of a campaign is divided once: `PLANNED` of it is spent over the planned looks by the tabled boundaries
(`boundaries.json`, made by `bench/boundary_table.py`), the rest is kept for blocks that are added afterwards. Added
block j after N planned ones may use (N + 1) / ((N + j)(N + j + 1)) of the rest: these shares sum to one over all j, so
the bound holds however often and for whatever reason a campaign is extended (a union bound; Robbins 1970 is the idea).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

FIRST_LOOK = 3
PLANNED = 0.9
RHO = 3
SIGN_FLIP_FROM = 7
MOST_EXACT_FLIPS = 16
DRAWN_FLIPS = 1 << 17


@cache
def _table() -> dict[str, dict[str, list[float]]]:
    text = files("profile_and_optimize.stats").joinpath("boundaries.json").read_text()
    shares: dict[str, dict[str, list[float]]] = json.loads(text)["shares"]
    return shares


def first_look(planned: int) -> int:
    """The look at block 3; a plan of two blocks has its only look at the end."""
    return min(FIRST_LOOK, planned)


def share_of_look(blocks: int, planned: int, arms: int) -> float:
    """Share of an arm's level that the look after `blocks` whole blocks may use; 0 where there is no look.

    `arms` is the number of arms in the block. Plans beyond the table use the spending increments themselves.
    """
    if blocks < first_look(planned):
        return 0.0
    if blocks > planned:
        return (1 - PLANNED) * (planned + 1) / (blocks * (blocks + 1))
    if planned <= FIRST_LOOK:
        return PLANNED
    tabled = _table().get(str(arms), {}).get(str(planned))
    share = tabled[blocks - FIRST_LOOK] if tabled else _increment(blocks, planned)
    return PLANNED * share


def _increment(blocks: int, planned: int) -> float:
    """alpha * (n/N)^3, Kim and DeMets (1987): what look n adds. Its first look adds all that was spent before it."""
    before = 0.0 if blocks == FIRST_LOOK else ((blocks - 1) / planned) ** RHO
    return (blocks / planned) ** RHO - before


def sign_flip_p(differences: Sequence[float], edge: float) -> float:
    """One-sided p-value that the differences are symmetric about `edge`: the share of sign patterns with as large a sum.

    All patterns up to 16 blocks, else a fixed draw of 131,072 (counting the observed one), so that it can be re-derived.
    """
    x = np.asarray(differences, float) - edge
    n = len(x)
    if n <= MOST_EXACT_FLIPS:
        signs = 1 - 2 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(n).choice((-1, 1), (DRAWN_FLIPS, n))
        signs[0] = 1
    # A sum that is equal but for rounding counts as equal, whichever way the rounding went.
    slack = 1e-9 * float(np.abs(x).sum())
    return float((signs @ x >= x.sum() - slack).mean())


def sign_flip_agrees(differences: Sequence[float], edge: float, alpha: float) -> bool:
    """From 7 blocks on, a BETTER must hold without the normal distribution too; before, the test has no power at 1%."""
    if len(differences) < SIGN_FLIP_FROM:
        return True
    p = sign_flip_p(differences, edge)
    return p <= alpha or math.isclose(p, alpha)
