"""Makes src/profile_and_optimize/stats/boundaries.json: how a campaign's error is spent over its looks.

The spending function is alpha * (n/N)^3 (Kim and DeMets 1987, rho = 3, an O'Brien-Fleming type: little early, most at
the end), n blocks of N planned, first look at block 3. The share of the level that look n may use on its own is solved
from simulated campaigns without any effect: the largest p-value level at which, over all settings the plan promises to
survive, the share of campaigns that cross at look n and not before stays within what look n may spend. A look may
always use its own spending increment (then the crossings are disjoint at worst), so a noisy simulation never gives less.

    python bench/boundary_table.py [--campaigns 400000]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats as st

from pooling_table import settings
from profile_and_optimize.stats.paired import effective_df
from profile_and_optimize.stats.simulate import Truth, draw, t_at_looks

FIRST, MOST, RHO = 3, 12, 3
LEVELS = (0.009, 0.0045, 0.003, 0.0009)
OUT = Path(__file__).parents[1] / "src/profile_and_optimize/stats/boundaries.json"


def spent(n: int, planned: int) -> float:
    """Share of the error that may be spent up to look n."""
    return 0.0 if n < FIRST else (n / planned) ** RHO


def p_values(truth: Truth, arms: int, campaigns: int, rng: np.random.Generator) -> np.ndarray:
    """p[campaign, look] of the last arm without an effect; both tails of each campaign, by symmetry."""
    t = t_at_looks(draw(truth, MOST, campaigns, rng), FIRST)[:, :, -1]
    df = np.array([effective_df(n, arms) for n in range(FIRST, MOST + 1)])
    upper = st.t.sf(t, df)
    return np.concatenate([upper, 1 - upper]).astype(np.float32)


def solve(p: np.ndarray, planned: int, level: float) -> list[float]:
    """Per look the largest share of `level` that keeps the crossings within the spending, for one setting."""
    alive = np.ones(len(p), bool)
    used, shares = 0.0, []
    for n in range(FIRST, planned + 1):
        look = p[:, n - FIRST]
        may = spent(n, planned) * level - used
        order = np.sort(look[alive])
        # A 99% upper limit of the crossing count is held within the allowance, so that luck does not loosen a look.
        wanted = len(p) * may
        rank = int(max(0.0, wanted - 2.33 * np.sqrt(max(wanted, 1.0))))
        own = (spent(n, planned) - spent(n - 1, planned)) * level
        cut = max(float(order[rank]) if rank else 0.0, own)
        crossed = alive & (look <= cut)
        used += crossed.sum() / len(p)
        alive &= ~crossed
        shares.append(min(cut / level, 1.0))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=20261122)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    table: dict[str, dict[str, list[float]]] = {}
    tails: dict[str, float] = {}
    for arms in (2, 3, 4):
        worst: dict[int, np.ndarray] = {}
        for truth in settings(arms):
            p = p_values(truth, arms, args.campaigns, rng)
            for level in (1e-3, 1e-4):
                found = float((p <= level).mean(axis=0).max() / level)
                tails[f"{arms} arms at {level:g}"] = max(found, tails.get(f"{arms} arms at {level:g}", 0.0))
            for planned in range(FIRST, MOST + 1):
                for level in LEVELS:
                    mine = np.array(solve(p, planned, level))
                    worst[planned] = np.minimum(worst.get(planned, mine), mine)
            print(arms, truth.sds, truth.drift, flush=True)
        table[str(arms)] = {str(n): [float(f"{x:.4f}") for x in shares] for n, shares in worst.items()}
        print(arms, table[str(arms)], flush=True)
    made = {
        "generator": "bench/boundary_table.py", "seed": args.seed, "campaigns": args.campaigns, "levels": LEVELS, "rho": RHO,
        "first_look": FIRST, "worst_crossings_over_nominal": tails,
    }  # fmt: skip
    OUT.write_text(json.dumps({"made": made, "shares": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
