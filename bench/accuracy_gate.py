"""The accuracy gate where the true loss is known: wrong ships, power, questions asked, and what bends it.

Simulated: true losses of 0, 0.5, 1, 2 and 5 points at 2% and 10% flips, one task and three of unequal size and hardness, against a
tolerance of one point. Computed: the probability of a wrong ship for one task, without drawing, over sizes and flips.
Live (`--live`): two or more runs of `pao evaluate` over the same questions, the first of them the base. Their answers are
fixed, so the true loss of each candidate is known from all of them; gates are played over random orders of these
questions, and over draws with replacement, which stand for new questions of the same kind.

    python bench/accuracy_gate.py [--gates 20000]
    python bench/accuracy_gate.py --live BASE_RUN CANDIDATE_RUN...
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta

from accuracy_cells import agree, exact, fixed_n, p_many
from accuracy_simulated import AT_MARGIN, FLIPS, TOLERANCE, Row, attacks, main_rows, rules
from profile_and_optimize.evals.samples import Sample, read_samples
from profile_and_optimize.stats.noninferiority import ALPHA, looks, share_of_look

SIZES = (60, 123, 477, 480, 700, 1000, 1403, 2000, 3000)
RATES = (0.01, 0.0105, 0.012, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4)
LIVE_TOLERANCES = (0.01, 0.02, 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn from the clock, and recorded")
    parser.add_argument(
        "--live", type=Path, nargs="+", default=[], help="only runs of pao evaluate, added to today's table"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else time.time_ns() % 2**31
    stem = args.out / f"accuracy_gate-{time.strftime('%Y-%m-%d')}"
    kept = stem.with_suffix(".json")
    rng = np.random.default_rng(seed)
    if args.live:
        parts = {**json.loads(kept.read_text()), "live": list(live(args.live, args.gates, rng)), "live_seed": seed}
    else:
        parts = {"seed": seed, "gates": args.gates, **everything(args.gates, rng)}
    args.out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(parts, indent=1) + "\n")
    text = table(parts)
    stem.with_suffix(".md").write_text(text)
    print(text)


def everything(gates: int, rng: np.random.Generator) -> dict[str, Any]:
    began = time.process_time()
    planned = {flips: fixed_n(TOLERANCE, flips) for flips in FLIPS}
    rows = [asdict(r) for r in main_rows(planned, gates, rng)]
    worst = [_worst(n) for n in SIZES]
    bent = list(attacks(planned[0.02], gates, rng))
    usual = [(n, f, loss, rules(n, f, loss)) for n in (480, planned[0.02]) for f in FLIPS for loss in (TOLERANCE, 0.0)]
    return {
        "planned": {str(k): v for k, v in planned.items()}, "rows": rows, "exact": worst, "attacks": bent, "rules": usual,
        "agree": agree(2000, rng), "cpu_s": time.process_time() - began, "live": [],
    }  # fmt: skip


def _worst(n: int) -> dict[str, float]:
    """The flips at which a true loss of exactly the tolerance passes most often, and fails most often."""
    found = [(exact(n, TOLERANCE, f, TOLERANCE), f) for f in RATES]
    ships, refusals = max((e.passed, f) for e, f in found), max((e.failed, f) for e, f in found)
    return {"n": n, "passed": ships[0], "flips": ships[1], "failed": refusals[0], "failed_flips": refusals[1]}


# --- live ----------------------------------------------------------------------------------------------------------------------


def live(runs: list[Path], gates: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Every candidate against the first run, at these tolerances and at its own loss, both ways of drawing."""
    base = _scores(runs[0])
    for run in runs[1:]:
        other = _scores(run)
        if base.keys() != other.keys():
            raise SystemExit(f"{run}: not the questions of {runs[0]}")
        d = np.round([base[k] - other[k] for k in sorted(base)], 12)
        # The hardest case is a tolerance that is the candidate's own loss.
        for tolerance in sorted({*LIVE_TOLERANCES, *([float(d.mean())] if d.mean() > 0 else [])}):
            for again in (False, True):
                yield {"candidate": run.name, **_live(d, tolerance, again, gates, rng)}


def _scores(run: Path) -> dict[tuple[str, str], float]:
    samples: tuple[Sample, ...] = read_samples(run / "raw/samples.jsonl" if run.is_dir() else run)
    found = {(s.task, s.id): s.mean for s in samples if s.mean is not None}
    if len(found) < len(samples):
        raise SystemExit(f"{run}: {len(samples) - len(found)} questions have no finished answer")
    return found


def _live(d: np.ndarray, tolerance: float, again: bool, gates: int, rng: np.random.Generator) -> dict[str, Any]:
    """`again`: drawn with replacement. The veto is left aside: it only takes passes away."""
    n, values = len(d), np.unique(d)
    place = np.searchsorted(values, d)
    passed, at = np.zeros(gates, bool), np.full(gates, n)
    ends = looks(n)
    counts = np.zeros((len(ends), gates, len(values)), int)
    for g in range(gates):
        order = place[rng.integers(0, n, n) if again else rng.permutation(n)]
        for look, (a, b) in enumerate(zip((0, *ends[:-1]), ends, strict=True)):
            counts[look, g] = np.bincount(order[a:b], minlength=len(values))
    counts = counts.cumsum(0)
    for look, end in enumerate(ends, start=1):
        keys, where = np.unique(counts[look - 1], axis=0, return_inverse=True)
        p = p_many(values, keys, tolerance)[where.ravel()]
        now = (p <= ALPHA * share_of_look("pass", look, ALPHA)) & ~passed
        at[now], passed = end, passed | now
    return {
        "questions": n, "loss": float(d.mean()), "flips": float((d != 0).mean()), "tolerance": tolerance,
        "with_replacement": again, "gates": gates, "passed": int(passed.sum()), "mean_n": float(at.mean()),
    }  # fmt: skip


# --- the page ------------------------------------------------------------------------------------------------------------------


def table(parts: dict[str, Any]) -> str:
    rows = [Row(**r) for r in parts["rows"]]
    return "\n".join([
        "# The accuracy gate", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"scipy {version('scipy')};",
        f"{parts['gates']} gates per row and {AT_MARGIN} times as many at a loss of the tolerance, seed {parts['seed']}; tolerance 1 "
        f"point, error 1%, looks after every tenth of the plan; {parts['cpu_s']:.0f} CPU seconds.", "",
        *_bars(rows, parts), *_grid(rows), *_exact(parts["exact"]), *_rules(parts["rules"]), *_attacks(parts["attacks"]),
        *(_live_words(parts) if parts["live"] else []),
    ]) + "\n"  # fmt: skip


def _bars(rows: list[Row], parts: dict[str, Any]) -> list[str]:
    wrong = [r for r in rows if r.loss >= TOLERANCE]
    worst, peak = max(wrong, key=lambda r: r.upper), max(parts["exact"], key=lambda e: e["passed"])
    told = max((r for r in wrong if r.exact is not None), key=lambda r: r.exact or 0)
    return [
        f"- Wrong ships (true loss at or over the tolerance), worst of {len(wrong)} simulated rows: {worst.rate:.2%}, upper 95% bound "
        f"{worst.upper:.2%} ({worst.setting}, true loss {_points(worst.loss)}, flips {worst.flips:.0%}). Bar (every upper bound at "
        f"most 1%): {_word(all(r.upper <= ALPHA for r in wrong))}.",
        f"- Computed without drawing, one task: at most {max(told.exact or 0, peak['passed']):.3%} over these rows and plans of "
        f"{SIZES[0]} to {SIZES[-1]} questions at flips from 1% to 40%. Bar (at most 1%): "
        f"{_word(max(told.exact or 0, peak['passed']) <= ALPHA)}.",
        *(_asked(rows, flips) for flips in FLIPS),
        f"- No gate asked more than was planned: {_word(all(r.most_n <= r.planned for r in rows))}.",
        f"- The two programs that compute p-values agree to {parts['agree']:.0e} over 2,000 random cells.", "",
    ]  # fmt: skip


def _asked(rows: list[Row], flips: float) -> str:
    def one(loss: float) -> Row:
        return next(
            r for r in rows if r.tasks == 1 and r.loss == loss and r.flips == max(flips, loss) and r.planned == n
        )

    n = next(r.planned for r in rows if r.loss == 0 and r.flips == flips)
    words = ", ".join(f"{one(loss).mean_n / n:.0%} at a loss of {100 * loss:g}" for loss in (0.0, 0.02, 0.05))
    return (
        f"- {flips:.0%} flips: fixed n is {n} questions (one look, same test, power 90%). Mean asked: {words}; at most all of them. "
        f"Power at a loss of 0: {one(0.0).exact:.1%} (fixed design {one(0.0).fixed:.1%})."
    )


def _grid(rows: list[Row]) -> list[str]:
    return [
        "## Every row", "",
        "Planned is the fixed n of 2% or 10% flips; where the loss is larger than that, all flips are losses. Three tasks hold 60, 30 and "
        "10% of the questions, and the harder ones flip more; all lose alike.", "",
        "| tasks | true loss, points | flips | planned | ships | upper 95% | computed | one look ships | fails | mean asked | of planned |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r.tasks} | {100 * r.loss:g} | {r.flips:.0%} | {r.planned} | {r.rate:.2%} | {r.upper:.2%} | "
            f"{'' if r.exact is None else f'{r.exact:.2%}'} | {'' if r.fixed is None else f'{r.fixed:.2%}'} | {r.failed / r.gates:.2%} | "
            f"{r.mean_n:.0f} | {r.mean_n / r.planned:.0%} |"
            for r in rows
        ), "",
    ]  # fmt: skip


def _exact(found: list[dict[str, float]]) -> list[str]:
    return [
        "## Wrong ships computed without drawing", "",
        "One task, a true loss of exactly one point; the worst over flips of " + ", ".join(f"{f:.2%}" for f in RATES) + ".", "",
        "| planned | ships | at flips of | wrongly fails | at flips of |", "|---|---|---|---|---|",
        *(
            f"| {e['n']} | {e['passed']:.3%} | {e['flips']:.2%} | {e['failed']:.3%} | {e['failed_flips']:.2%} |" for e in found
        ), "",
    ]  # fmt: skip


def _rules(found: list[Any]) -> list[str]:
    names = list(found[0][3])
    return [
        "## The rules most gates use", "", "Probability to ship, computed, one look at the end (this gate: all its looks).", "",
        f"| questions | flips | true loss, points | {' | '.join(names)} |", "|---|---|---|" + "---|" * len(names),
        *(f"| {n} | {f:.0%} | {100 * loss:g} | {' | '.join(f'{r[k]:.1%}' for k in names)} |" for n, f, loss, r in found), "",
    ]  # fmt: skip


def _attacks(found: list[Any]) -> list[str]:
    lines = []
    for what, covered, wrong, gates in found:
        upper = beta.ppf(0.95, wrong + 1, gates - wrong)
        lines.append(f"| {what} | {covered} | {wrong / gates:.2%} | {upper:.2%} |")
    return [
        "## What was tried against it", "",
        "Wrong ships at a true loss of one point (sorted questions: over the whole plan). What is not covered is shown so that nobody has "
        "to find it out.", "", "| what | covered | wrong ships | upper 95% |", "|---|---|---|---|", *lines, "",
    ]  # fmt: skip


def _live_words(parts: dict[str, Any]) -> list[str]:
    rows = parts["live"]
    wrong = [r for r in rows if r["loss"] >= r["tolerance"]]
    worst = max((r["passed"] / r["gates"] for r in wrong), default=0.0)
    return [
        "## Live: answers of real models, orders drawn", "",
        f"Evaluations with fixed answers, so that the true loss is that over all their questions; seed {parts['live_seed']}. Wrong ships, "
        f"worst of {len(wrong)} rows: {worst:.2%}. Without replacement the last look sees every question, so nothing is left to chance "
        "there.", "",
        "| candidate | questions | true loss, points | flips | tolerance | drawn | ships | mean asked |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['candidate']} | {r['questions']} | {100 * r['loss']:+.2f} | {r['flips']:.1%} | {100 * r['tolerance']:.2f} | "
            f"{'with replacement' if r['with_replacement'] else 'in random order'} | {r['passed'] / r['gates']:.2%} | {r['mean_n']:.0f} |"
            for r in rows
        ), "",
    ]  # fmt: skip


def _points(loss: float) -> str:
    return f"{100 * loss:g} point{'' if loss == 0.01 else 's'}"


def _word(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


if __name__ == "__main__":
    main()
