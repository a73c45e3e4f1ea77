"""Makes src/profile_and_optimize/stats/pooling.json: the degrees of freedom that keep the pooled t honest.

For every number of blocks and arms, campaigns without any effect are simulated under the worst settings the plan
promises to survive (arm sds up to threefold apart, drift inside the block), and the smallest degrees of freedom are
kept whose Student-t quantile covers the simulated one at every level from 1% down to 0.1%.

    python bench/pooling_table.py [--campaigns 600000]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import optimize as opt
from scipy import stats as st

from profile_and_optimize.stats.simulate import Truth, draw, t_statistics

LEVELS = (0.01, 0.005, 0.0033, 0.0025, 0.0017, 0.001)
BLOCKS = tuple(range(2, 13))
OUT = Path(__file__).parents[1] / "src/profile_and_optimize/stats/pooling.json"


def settings(arms: int) -> list[Truth]:
    """Baseline first; the contrast that is looked at is always the last arm."""
    patterns = [
        (1.0,) * arms,
        (1.0,) * (arms - 1) + (3.0,),
        (3.0,) + (1.0,) * (arms - 1),
        (1.0,) * (arms - 1) + (1 / 3,),
    ]
    patterns.append((1.0,) * (arms - 2) + (3.0, 3.0))
    return [Truth((0.0,) * arms, p, drift) for p in patterns for drift in (0.0, 0.6, 1.2, 4.0)]


def df_covering(quantile: float, level: float, blocks: int, arms: int) -> float:
    """The df whose t quantile at `level` equals the simulated one, between unpooled (always safe) and fully pooled."""
    low, high = float(blocks - 1), float((blocks - 1) * (arms - 1))
    if st.t.isf(level, high) >= quantile:
        return high
    if st.t.isf(level, low) <= quantile:
        return low
    return float(opt.brentq(lambda df: st.t.isf(level, df) - quantile, low, high))


def upper_quantile(t: np.ndarray, level: float) -> float:
    """Upper 99% confidence limit of the (1 - level) quantile, by order statistics, both tails pooled by symmetry."""
    x = np.sort(np.concatenate([t, -t]))
    n = len(x)
    rank = n * (1 - level) + 2.33 * np.sqrt(n * level)
    return float(x[min(n - 1, int(rank))])


def entry(blocks: int, arms: int, campaigns: int, rng: np.random.Generator) -> float:
    worst = float("inf")
    for truth in settings(arms):
        t = t_statistics(draw(truth, blocks, campaigns, rng))[:, -1]
        worst = min(worst, *(df_covering(upper_quantile(t, lv), lv, blocks, arms) for lv in LEVELS))
    return max(float(blocks - 1), round(worst - 0.005, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=20261121)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    table: dict[str, dict[str, float]] = {}
    for arms in (3, 4):
        for blocks in BLOCKS:
            table.setdefault(str(arms), {})[str(blocks)] = entry(
                blocks, arms, args.campaigns // max(1, blocks // 4), rng
            )
            print(arms, blocks, table[str(arms)][str(blocks)], "unpooled", blocks - 1, flush=True)
    made = {"generator": "bench/pooling_table.py", "seed": args.seed, "campaigns": args.campaigns, "levels": LEVELS}
    OUT.write_text(json.dumps({"made": made, "effective_df": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
