"""Sixteen arms, one champion: how many sessions does the race with its confirmation take, and how often is it wrong?

    OMP_NUM_THREADS=1 python bench/racing.py --table silicon_sample.csv [--campaigns 1000] [--out bench/results]

Effects are drawn from measured serving points: `systems/silicon_sample.csv` of the wheel aiconfigurator-core 0.12.0
(Apache-2.0; `pip download --no-deps aiconfigurator-core==0.12.0`, the wheel itself may be given as --table). Three
families: 16 configurations of one problem (system, model, isl, osl); 16 of one problem at one load; 16 differences
between two engine versions on one configuration. One of the 16 is the baseline. A champion is wrong when another arm
would be more than 1% faster. Noise: sd of one session and a random-walk drift from session to session.

Beside the race: the fixed-n interleaved design with the same test (blocks of baseline, A/A arm and two candidates, one
look after n blocks, Holm over all 15), the same without its A/A arm (baseline and three candidates), and successive
halving by means. n is the smallest whose share of wrong champions is not above the race's on the same campaigns.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
import re
import time
import zipfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats as st

from profile_and_optimize.stats.paired import effective_df
from profile_and_optimize.stats.simulate import t_statistics
from simulated import ALPHA, BETTER, EDGE, Node, campaign, confirming_groups, raced

ARMS, PLANNED = 16, 8
FIXED = (2, 3, 4, 5, 6, 8, 10, 12)
HALVING = (1, 2, 3, 5)
NOISE = ((0.01, 0.003), (0.01, 0.006), (0.02, 0.006))


@dataclass
class Row:
    family: str
    sd: float
    drift: float
    wrong: float
    sessions: float
    race_sessions: float
    fixed: dict[int, float]
    fixed_without_aa: dict[int, float]
    halving: dict[int, float]

    def matched(self, errors: dict[int, float], target: float) -> int | None:
        return next((n for n in sorted(errors) if errors[n] <= target), None)


def families(path: Path) -> dict[str, list[np.ndarray]]:
    """Log throughput per GPU of every family's pools."""
    problems, loads, configs = defaultdict(list), defaultdict(list), defaultdict(dict)
    for r in _rows(path):
        found = re.search(r"silicon_concurrency=(\d+)", r["silicon_data_source"])
        ttft, tpot = float(r["silicon_ttft_ms"]) / 1e3, float(r["silicon_tpot_ms"]) / 1e3
        if r["mode"] != "agg" or not found or ttft <= 0 or tpot <= 0:
            continue
        c, osl = int(found[1]), int(r["osl"])
        gpus = np.prod([max(1, int(r[k] or 1)) for k in ("tp_size", "pp_size", "attention_dp_size")])
        value = float(np.log(c * osl / ((ttft + tpot * (osl - 1)) * gpus)))
        key = (r["system"], r["model_path"], r["isl"], r["osl"])
        problems[key].append(value)
        loads[(*key, c)].append(value)
        same = (*key, c, r["backend"], r["precision"], r["tp_size"], r["moe_ep_size"], r["attention_dp_size"])
        configs[same][r["backend_version"]] = value
    changes = [b - a for v in configs.values() for a, b in combinations(v.values(), 2)]
    return {
        "one problem": [np.array(v) for v in problems.values() if len(v) >= 30],
        "one problem, one load": [np.array(v) for v in loads.values() if len(v) >= ARMS],
        "engine versions": [np.array(changes + [-x for x in changes])],
    }


def _rows(path: Path) -> list[dict[str, str]]:
    if path.suffix != ".whl":
        return list(csv.DictReader(path.open()))
    with zipfile.ZipFile(path) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith("silicon_sample.csv"))
        return list(csv.DictReader(io.TextIOWrapper(wheel.open(name))))


def one(effects: np.ndarray, node: Node) -> tuple[int, int]:
    """(champion, sessions of the race) of one campaign; index 0 is the baseline."""
    named = {"base": 0.0} | {f"x{i:02d}": float(effects[i]) for i in range(1, ARMS)}
    finalists = raced(node, named)
    race = node.sessions
    groups = confirming_groups(node, named, finalists, PLANNED)
    found = campaign(groups, PLANNED)
    widths = [g.shape[2] for g in groups]
    node.sessions = race + int(sum(w * b for w, b in zip(widths, found.blocks[0], strict=True)))
    better = [(found.estimate[0, i], f) for i, f in enumerate(finalists) if found.call[0, i] == BETTER]
    return (int(max(better)[1][1:]) if better else 0), race


def fixed_champions(effects: np.ndarray, node: Node, room: int, aa: bool) -> dict[int, int]:
    """Champion per n of the design without looks: all arms, n blocks, one test."""
    groups = [list(range(i, min(i + room, ARMS))) for i in range(1, ARMS, room)]
    out = {}
    blocks: list[list[list[float]]] = [[] for _ in groups]
    for _ in range(max(FIXED)):
        for g, members in enumerate(groups):
            arms = {"base": 0.0} | ({"aa": 0.0} if aa else {}) | {f"x{i:02d}": float(effects[i]) for i in members}
            row = node.block(arms)
            blocks[g].append([row[a] for a in arms])
    for n in FIXED:
        tested = []
        for members, rows in zip(groups, blocks, strict=True):
            y = np.array(rows[:n])[None]
            t = t_statistics(y, EDGE)[0]
            mean = (y[0, :, 1:] - y[0, :, :1]).mean(axis=0)
            p = st.t.sf(t, effective_df(n, y.shape[2]))
            tested += [(p[aa + j], mean[aa + j], arm) for j, arm in enumerate(members)]
        better = []
        for j, (p, mean, arm) in enumerate(sorted(tested)):
            if p > ALPHA / (len(tested) - j):
                break
            better.append((mean, arm))
        out[n] = max(better)[1] if better else 0
    return out


def halving_champion(effects: np.ndarray, node: Node, trials: int) -> int:
    alive = list(range(ARMS))
    seen: dict[int, list[float]] = defaultdict(list)
    while len(alive) > 1:
        for _ in range(trials):
            row = node.block({f"{i:02d}": float(effects[i]) for i in alive})
            for name, y in row.items():
                seen[int(name)].append(y)
        alive = sorted(alive, key=lambda i: -float(np.mean(seen[i])))[: len(alive) // 2]
    return alive[0]


def setting(job: tuple[str, list[np.ndarray], float, float, int, int]) -> Row:
    family, pools, sd, drift, campaigns, seed = job
    rng = np.random.default_rng(seed)
    wrong, sessions, race = 0, 0, 0
    fixed = {aa: dict.fromkeys(FIXED, 0) for aa in (True, False)}
    halving = dict.fromkeys(HALVING, 0)
    for _ in range(campaigns):
        pool = pools[rng.integers(len(pools))]
        effects = rng.choice(pool, ARMS, replace=False)
        effects = effects - effects[0]
        bad = [bool(effects.max() - e > EDGE) for e in effects]
        node = Node(sd, drift, rng)
        pick, race_only = one(effects, node)
        wrong, sessions, race = wrong + bad[pick], sessions + node.sessions, race + race_only
        for aa, room in ((True, 2), (False, 3)):
            for n, champion in fixed_champions(effects, Node(sd, drift, rng), room, aa).items():
                fixed[aa][n] += bad[champion]
        for trials in HALVING:
            halving[trials] += bad[halving_champion(effects, Node(sd, drift, rng), trials)]
    shares = lambda counts: {n: k / campaigns for n, k in counts.items()}  # noqa: E731
    return Row(
        family, sd, drift, wrong / campaigns, sessions / campaigns, race / campaigns, shares(fixed[True]), shares(fixed[False]),
        shares(halving),
    )  # fmt: skip


def sessions_of_fixed(n: int | None, aa: bool) -> int | None:
    """Baseline (and A/A) in every kind of block: 8 kinds of 4 less one empty place, or 5 kinds of 4."""
    per_block = (8 * 2 + 15) if aa else (5 + 15)
    return None if n is None else n * per_block


HEAD = (
    "A champion is wrong when another arm would be more than 1% faster. Sessions: race and confirmation together; the",
    f"confirmation has at most {PLANNED} blocks with looks. Fixed n: every arm in n blocks, the same test, one look; n is the",
    "smallest whose share of wrong champions is not above the race's (in brackets: not above 5%).", "",
    "| effects | sd, drift | wrong, race | sessions (race alone) | fixed n with A/A: n, sessions | race takes "
    "| fixed n without A/A | race takes | halving, trials a rung: wrong |",
    "|---|---|---|---|---|---|---|---|---|",
)  # fmt: skip


def table(rows: list[Row], campaigns: int, seed: int) -> str:
    lines = [
        "# Racing 16 arms", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"scipy {version('scipy')}; {campaigns} campaigns per row, seed {seed}.", *HEAD,
    ]  # fmt: skip
    for r in rows:
        cells = [_matched(r, aa) for aa in (True, False)]
        halving = ", ".join(f"{t}: {e:.1%}" for t, e in r.halving.items())
        lines.append(
            f"| {r.family} | {r.sd:.0%}, {r.drift:.1%} | {r.wrong:.1%} | {r.sessions:.1f} ({r.race_sessions:.1f}) | "
            f"{cells[0][0]} | {cells[0][1]} | {cells[1][0]} | {cells[1][1]} | {halving} |"
        )
    return "\n".join([*lines, "", *_bar(rows)]) + "\n"


def _bar(rows: list[Row]) -> list[str]:
    shares = [r.sessions / (sessions_of_fixed(r.matched(r.fixed, r.wrong), True) or 1e9) for r in rows]
    passed = max(shares) <= 0.40 and all(r.wrong <= 0.05 for r in rows)
    sizes, trials = ", ".join(f"{30 * t}" for t in HALVING), ", ".join(map(str, HALVING))
    return [
        f"Bar (at most 5% wrong, at most 40% of the sessions of the fixed-n plan of that error, every row): "
        f"{'PASS' if passed else 'FAIL'}, worst row {max(shares):.0%}.",
        f"Successive halving takes {sizes} sessions at {trials} trials a rung, and proves nothing about its champion.",
    ]


def _matched(r: Row, aa: bool) -> tuple[str, str]:
    errors = r.fixed if aa else r.fixed_without_aa
    out, shares = [], []
    for target in (r.wrong, 0.05):
        n = r.matched(errors, target)
        size = sessions_of_fixed(n, aa)
        out.append(f"{n}, {size}" if size else f"more than {max(FIXED)}, {sessions_of_fixed(max(FIXED), aa)}")
        shares.append(
            f"{r.sessions / size:.0%}" if size else f"under {r.sessions / (sessions_of_fixed(max(FIXED), aa) or 1):.0%}"
        )
    return f"{out[0]} ({out[1]})", f"{shares[0]} ({shares[1]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn from the clock, and recorded")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else time.time_ns() % 2**32
    pools = families(args.table)
    jobs = [
        (f, p, sd, drift, args.campaigns, seed + i) for f, p in pools.items() for i, (sd, drift) in enumerate(NOISE)
    ]
    with ProcessPoolExecutor(args.processes) as pool:
        rows = list(pool.map(setting, jobs))
    text = table(rows, args.campaigns, seed)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"racing-{time.strftime('%Y-%m-%d')}"
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".json").write_text(json.dumps({"seed": seed, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
