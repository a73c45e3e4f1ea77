"""Ours against the vendor's, simulated through the product's own looks: how often is any checkpoint wrongly called BETTER?

    python bench/three_way.py [--campaigns 5000] [--out bench/results]

Base, its twin, ours and the vendor's; six blocks planned, a look after each from the third on. Wrong is any BETTER among ours over base,
vendor's over base and ours over the vendor's where the true ratio is at most the margin. The other calls are counted too.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from profile_and_optimize.campaign.looks import looks_at, rival_name
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.stats.distributions import beta_ppf
from simulated import EDGE, Node, plan_of

PLANNED = 6
BAR = 0.01


def plan_with_vendor() -> Plan:
    plan = plan_of(2, PLANNED)
    arms = tuple(replace(a, checkpoint=f"/{a.id}") if a.id.startswith("c") else a for a in plan.arms)
    return replace(plan, arms=arms, vendor="c1")


def campaign(plan: Plan, truth: dict[str, float], sd: float, drift: float, rng: np.random.Generator) -> dict[str, Call]:
    node = Node(sd, drift, rng)
    table = {b: node.block(truth) for b in range(1, PLANNED + 1)}
    return {name: e.call for name, e in looks_at(plan, [(plan.groups[0], table)]).effects.items()}


def wrong(calls: dict[str, Call], truth: dict[str, float]) -> bool:
    """Is anything BETTER that is not beyond the margin?"""
    true = {
        "c0": truth["c0"],
        "c1": truth["c1"],
        rival_name("c0", "c1"): truth["c0"] - truth["c1"],
    }
    return any(calls[name] is Call.BETTER and effect <= EDGE for name, effect in true.items())


def settings() -> list[tuple[str, dict[str, float]]]:
    at, far = EDGE, 0.2
    return [
        ("all three equal", {"c0": 0.0, "c1": 0.0}),
        ("both at the margin", {"c0": at, "c1": at}),
        ("both 20% faster, equal", {"c0": far, "c1": far}),
        ("ours at the margin over the vendor's", {"c0": far + at, "c1": far}),
        ("vendor's faster", {"c0": far, "c1": far + 0.05}),
        ("ours 5% faster than the vendor's", {"c0": far + 0.05, "c1": far}),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    plan, rng = plan_with_vendor(), np.random.default_rng(asked.seed)
    name = rival_name("c0", "c1")
    lines = [
        "# Ours against the vendor's, simulated", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}; {asked.campaigns} campaigns "
        f"a row, {PLANNED} blocks planned, margin 1%, error 1%, seed {asked.seed}. sd of a session 1%, drift as stated.", "",
        "| truth | drift a session | any wrong BETTER | upper 95% bound | ours over the vendor's: BETTER | SAME | WORSE |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    worst = 0.0
    for words, effects in settings():
        for drift in (0.0, 0.006):
            truth = {"base": 0.0, "aa": 0.0, **effects}
            found = [campaign(plan, truth, 0.01, drift, rng) for _ in range(asked.campaigns)]
            bad = sum(wrong(calls, truth) for calls in found)
            upper = beta_ppf(0.95, bad + 1, asked.campaigns - bad)
            worst = max(worst, upper)
            shares = [sum(c[name] is call for c in found) / len(found) for call in (Call.BETTER, Call.SAME, Call.WORSE)]
            lines.append(
                f"| {words} | {drift:.1%} | {bad / asked.campaigns:.2%} | {upper:.2%} | "
                + " | ".join(f"{s:.1%}" for s in shares)
                + " |"
            )
            print(lines[-1], flush=True)
    passed = worst <= BAR
    lines += ["", f"- {'PASS' if passed else 'FAIL'} any wrong BETTER: worst upper bound {worst:.2%} (bar {BAR:.0%})."]
    text = "\n".join(lines) + "\n"
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"three_way-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    print(lines[-1])
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
