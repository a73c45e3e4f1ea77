"""How often does a campaign call a wrong BETTER, and how often does it find a real gain?

    python bench/false_verdicts.py [--campaigns 20000] [--out bench/results]

Every campaign is drawn with a known truth and goes through the product's own test (`stats.paired`): pooled t with
tabled degrees of freedom, Holm over the candidates, margin 1%, one-sided 1% per campaign, A/A veto. Beside it, on the
same campaigns, stands the rule "3 trials in blocks AAABBB, bars do not overlap" that most comparisons are made with.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats as st

from profile_and_optimize.core.verdict import Call
from profile_and_optimize.stats.paired import calls, contrasts, effective_df, single
from profile_and_optimize.stats.simulate import Truth, draw, t_statistics

MARGIN, ALPHA = 0.01, 0.01
EDGE = float(np.log1p(MARGIN))
ARMS = ("baseline", "aa", "one", "two")


@dataclass(frozen=True)
class Row:
    setting: str
    blocks: int
    wrong: int
    campaigns: int
    upper: float
    bars: float

    @property
    def rate(self) -> float:
        return self.wrong / self.campaigns


def better(y: np.ndarray) -> np.ndarray:
    """BETTER per campaign and candidate for y[campaign, block, arm], vectorised; `agrees` checks it against the product."""
    n, a = y.shape[1:]
    df = effective_df(n, a)
    t = t_statistics(y, EDGE)[:, 1:]
    p = st.t.sf(t, df)
    order = np.argsort(p, axis=1)
    ranked = np.take_along_axis(p, order, axis=1)
    level = ALPHA / (p.shape[1] - np.arange(p.shape[1]))
    passed = np.cumprod(ranked <= level, axis=1).astype(bool)
    found = np.zeros_like(passed)
    np.put_along_axis(found, order, passed, axis=1)
    aa = t_statistics(y)[:, 0]
    return found & (np.abs(aa) <= st.t.isf(ALPHA, df))[:, None]


def agrees(y: np.ndarray) -> None:
    """The vectorised rule is the product's rule, campaign by campaign."""
    fast = better(y)
    for i in range(len(y)):
        table = {b: dict(zip(ARMS, row, strict=True)) for b, row in enumerate(y[i])}
        found = contrasts(table, "baseline")
        aa = single(found["aa"], "aa", alpha=ALPHA, margin=MARGIN)
        vetoed = not (aa.lower or 0) <= 0 <= (aa.upper or 0)
        effects = calls(found, ARMS[2:], alpha=ALPHA, margin=MARGIN)
        slow = [effects[a].call is Call.BETTER and not vetoed for a in ARMS[2:]]
        if slow != list(fast[i]):
            raise SystemExit(f"campaign {i}: the bench's rule and the product's differ: {fast[i]} {slow}")


def bars_do_not_overlap(truth: Truth, campaigns: int, rng: np.random.Generator) -> float:
    """Share of pairs called better by 3 trials AAABBB whose mean +- sd bars do not overlap, same noise, same truth."""
    sds = np.array([truth.sds[0]] * 3 + [truth.sds[2]] * 3)
    y = rng.standard_normal((campaigns, 6)) * sds + np.array([0.0] * 3 + [truth.effects[2]] * 3)
    y += np.cumsum(rng.standard_normal((campaigns, 6)) * truth.drift, axis=1)
    a, b = y[:, :3], y[:, 3:]
    return float(np.mean(b.mean(1) - b.std(1, ddof=1) > a.mean(1) + a.std(1, ddof=1)))


def settings() -> list[tuple[str, Truth]]:
    rows = []
    for sd in (0.005, 0.01, 0.02):
        for drift in (0.0, 0.003, 0.006):
            for name, effect in (("0", 0.0), ("margin", EDGE)):
                for shape, sds in (
                    ("equal", (1, 1, 1, 1)),
                    ("noisy arm x3", (1, 1, 1, 3)),
                    ("noisy base x3", (3, 3, 1, 1)),
                    ("quiet arm /3", (1, 1, 1, 1 / 3)),
                ):
                    label = f"truth {name}, sd {sd:.1%}, drift {drift:.1%}, {shape}"
                    rows.append((label, Truth((0.0, 0.0, effect, effect), tuple(sd * s for s in sds), drift)))
    return rows


def run(campaigns: int, rng: np.random.Generator) -> list[Row]:
    out = []
    for label, truth in settings():
        bars = bars_do_not_overlap(truth, campaigns, rng)
        for blocks in (3, 5, 8):
            y = draw(truth, blocks, campaigns, rng)
            agrees(y[:20])
            wrong = int(better(y).any(axis=1).sum())
            upper = float(st.beta.ppf(0.95, wrong + 1, campaigns - wrong))
            out.append(Row(label, blocks, wrong, campaigns, upper, bars))
    return out


def power(campaigns: int, rng: np.random.Generator) -> list[tuple[float, float, int, float]]:
    """(sd, true gain, blocks, share of campaigns that call the one better arm BETTER); the other arm is equal to the baseline."""
    out = []
    for sd in (0.005, 0.01, 0.02):
        for gain in (0.02, 0.05, 0.10, 0.20):
            for blocks in (3, 5, 8):
                y = draw(Truth((0.0, 0.0, float(np.log1p(gain)), 0.0), (sd,) * 4), blocks, campaigns, rng)
                out.append((sd, gain, blocks, float(better(y)[:, 0].mean())))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn from the clock, and recorded")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else time.time_ns() % 2**32
    rng = np.random.default_rng(seed)
    rows, found = run(args.campaigns, rng), power(args.campaigns, rng)
    text = table(rows, found, args.campaigns, seed)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"false_verdicts-{time.strftime('%Y-%m-%d')}"
    stem.with_suffix(".md").write_text(text)
    data = {"seed": seed, "rows": [{**r.__dict__, "rate": r.rate} for r in rows], "power": found}
    stem.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)


def table(rows: list[Row], found: list[tuple[float, float, int, float]], campaigns: int, seed: int) -> str:
    worst = max(rows, key=lambda r: r.rate)
    inside = all(r.rate <= ALPHA for r in rows)
    head = [
        "# False verdicts", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"scipy {version('scipy')}; {campaigns} campaigns per setting, seed {seed}.",
        "Any wrong BETTER per campaign (4 arms: baseline, A/A, two candidates), stated error 1%.",
        "The bars rule knows no margin, so its wrong calls are those of the rows with truth 0.", "",
        f"Worst setting: {worst.rate:.2%} (upper 95% bound {worst.upper:.2%}), {worst.blocks} blocks, {worst.setting}. "
        f"Bar (any wrong BETTER within 1%): {'PASS' if inside else 'FAIL'}. Largest upper bound: {max(r.upper for r in rows):.2%}.", "",
        "| setting | blocks | wrong BETTER per campaign | upper 95% | 3 trials, bars do not overlap, per pair |", "|---|---|---|---|---|",
    ]  # fmt: skip
    body = [f"| {r.setting} | {r.blocks} | {r.rate:.2%} | {r.upper:.2%} | {r.bars:.1%} |" for r in rows]
    tail = [
        "",
        "Power: one arm truly better, one equal, equal sds, no drift.",
        "",
        "| sd | true gain | blocks | found |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *body, *tail, *(f"| {s:.1%} | {g:.0%} | {b} | {p:.1%} |" for s, g, b, p in found)]) + "\n"


if __name__ == "__main__":
    main()
