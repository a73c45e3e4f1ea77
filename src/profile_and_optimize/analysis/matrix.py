"""What came of trying every serving backend of a checkpoint: from the records that were kept to a table. No verdict in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from profile_and_optimize.analysis.kernels import NOTHING_SERVED, layer_lines, shown
from profile_and_optimize.campaign.guard import too_loud
from profile_and_optimize.campaign.layers import Served
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.trial import TrialState

# From this on the layers of each cell are derived from its log.
WITH_LAYERS = 2
SERVES, INCOHERENT, UNSURE, OTHER, DEBUG, UNTRIED = (
    "serves", "incoherent", "coherence unknown", "another kernel", "debug", "not tried",
)  # fmt: skip
CAVEATS = (
    "no verdict: one start of each backend, one trial a concurrency, nothing interleaved",
    "no backend verdict is carried from one architecture to another",
)
_WORD = re.compile(r"\w+")


def matrix(
    asked: Mapping[str, Any],
    failures: Mapping[str, Mapping[str, str]],
    seen: Mapping[str, Mapping[str, Any]],
    trials: Iterable[Judged],
    served: Mapping[str, Served],
) -> dict[str, Any]:
    """serve_matrix.json. `asked` is what was to be tried, `failures` the reason and the log of each cell that broke, `seen` by
    cell what it answered and which kernels it named, `served` the layers of the cells that served ({}: a run from before)."""
    by_cell: dict[str, list[Judged]] = {}
    for t in trials:
        by_cell.setdefault(t.key.arm, []).append(t)
    best = max((right(s["answers"]) for s in seen.values()), default=0)
    rows = [
        _row(cell, failures.get(cell["cell"]), seen.get(cell["cell"]), by_cell.get(cell["cell"], []), best)
        for cell in asked["cells"]
    ]
    _mark_twins(rows)
    if asked["schema"] >= WITH_LAYERS:
        for row in rows:
            row |= shown(served[row["cell"]], row["cell"]) if row["cell"] in served else NOTHING_SERVED
    same = ("model", "model_digest", "format", "api", "isl", "osl", "gaps", "skipped", "questions_sha256")
    return {"schema": asked["schema"], **{k: asked[k] for k in same}, "rows": rows, "caveats": list(CAVEATS)}


def _mark_twins(rows: Sequence[dict[str, Any]]) -> None:
    """A row whose server named the kernels of an earlier one says so: what differs between the two is noise."""
    first: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = (row["engine"], *(row["kernels"] or ()))
        row["same_kernels_as"] = first.setdefault(key, row["cell"]) if row["kernels"] else None
        if row["same_kernels_as"] == row["cell"]:
            row["same_kernels_as"] = None


def _row(
    cell: Mapping[str, Any], failure: Mapping[str, str] | None, seen: Mapping[str, Any] | None, trials: Sequence[Judged],
    best: int,
) -> dict[str, Any]:  # fmt: skip
    answers = seen["answers"] if seen else []
    status, why = _status(failure, seen, trials, best)
    return {
        "cell": cell["cell"], "engine": cell["engine"], "backend": cell["backend"], "flags": cell["flags"], "env": cell["env"],
        "says": cell["says"], "status": status, "why": why, "log": failure["log"] if failure else None,
        "start_s": seen["start_s"] if seen else None, "kernels": seen["kernels"] if seen else None,
        "delivery": seen["source"].get("delivery", "unknown") if seen else None,
        "modified_files": seen["source"].get("modified_files", "unknown") if seen else None,
        "asked": len(answers) if seen else None, "right": right(answers) if seen else None,
        "said": answers[0]["said"] if answers else None,
        "sweep": [_point(t) for t in sorted(trials, key=lambda t: t.file.run.concurrency)],
    }  # fmt: skip


def _status(
    failure: Mapping[str, str] | None, seen: Mapping[str, Any] | None, trials: Iterable[Judged], best: int
) -> tuple[str, str]:
    """The state of a cell and why. One that broke while it served is a debug target as well as one that never started."""
    if failure is not None:
        return DEBUG, failure["reason"]
    if seen is None:
        return UNTRIED, "stopped before its turn"
    dead = next((t for t in trials if t.summary.state is TrialState.FAILED), None)
    if dead is not None:
        what = dead.summary.errors[0][0] if dead.summary.errors else "no answer"
        return DEBUG, f"no request completed at concurrency {dead.file.run.concurrency}: {what}"
    call, why = coherence(seen["answers"], best)
    if call == SERVES and seen["fell_back"]:
        return OTHER, f"the engine did not take it: {seen['fell_back']}"
    return call, why


def coherence(answers: Sequence[Mapping[str, str]], best: int) -> tuple[str, str]:
    """`best` is the most right answers of any backend in this matrix: the control that tells the backend from the model.

    Right at least half as often as that is coherent; less is not. Where nobody answers anything, a text that repeats itself
    is incoherent in any case, and for others the model may not know the answers.
    """
    n, hits = len(answers), right(answers)
    if best and 2 * hits >= best:
        return SERVES, ""
    if best:
        return INCOHERENT, f"{hits} of {n} known questions right where another backend has {best}"
    if any(not a["said"].strip() or repeats(a["said"]) for a in answers):
        return INCOHERENT, "answers are empty or repeat themselves"
    return UNSURE, f"none of {n} known questions right on any backend: read its answers, or give --questions"


def right(answers: Iterable[Mapping[str, str]]) -> int:
    """Answers that hold the expected one as whole words."""
    return sum(_holds(a["said"], a["expected"]) for a in answers)


def _holds(said: str, expected: str) -> bool:
    wanted = expected.strip().lower()
    # 8 is neither in 18 nor in 1.8.
    pattern = rf"(?<![\w.]){re.escape(wanted)}(?!\w|\.\d)"
    return bool(wanted) and re.search(pattern, said.lower()) is not None


def repeats(text: str) -> bool:
    """Six words or more, of which not a third are different."""
    words = _WORD.findall(text.lower())
    return len(words) >= 6 and 3 * len(set(words)) <= len(words)


def _point(t: Judged) -> dict[str, Any]:
    """Figures of one concurrency, in milliseconds and tokens a second; None is unknown."""
    shown = t.summary.to_json()
    tpot, ttft = shown["metrics"]["tpot_ms"], shown["metrics"]["ttft_ms"]
    return {
        "concurrency": t.file.run.concurrency, "requests": shown["requests"], "errors": shown["errors"],
        "tpot_ms_p50": tpot["p50"] if tpot else None, "ttft_ms_p50": ttft["p50"] if ttft else None,
        "output_throughput_tok_s": shown["output_throughput_tok_s"], "window": shown["output_throughput_window"],
        "isl_observed_mean": shown["isl_observed_mean"], "osl_observed_mean": shown["osl_observed_mean"],
        "client": t.honesty.validity.value, "client_reasons": list(t.honesty.reasons), "machine": list(too_loud(t.file.machine)),
    }  # fmt: skip


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """The table as text: what was tried, then what needs something that is not here."""
    head = f"{'':28}{'status':18}{'known':>8}{'c':>5}{'TPOT p50 ms':>13}{'output tok/s':>14}{'failed':>8}  client"
    lines = [f"{result['model']} ({result['format']}), {result['isl']} in, {result['osl']} out, {result['api']}", head]
    for row in result["rows"]:
        lines += _told(row)
    lines += [f"known gap: {gap}" for gap in result["gaps"]]
    if result["skipped"]:
        lines += ["", "not tried here:"]
        lines += _skipped(result["skipped"])
    return [*lines, "", *result["caveats"]]


def _skipped(skipped: Sequence[Mapping[str, str]]) -> list[str]:
    """A line for every engine and reason, with the backends it holds for."""
    reasons = dict.fromkeys((s["engine"], s["needs"]) for s in skipped)
    told = {r: [s["backend"] for s in skipped if (s["engine"], s["needs"]) == r] for r in reasons}
    return [f"  {engine} {', '.join(names)}: {why}" for (engine, why), names in told.items()]


def _told(row: Mapping[str, Any]) -> list[str]:
    known = f"{row['right']}/{row['asked']}" if row["asked"] is not None else "-"
    state = "DEBUG TARGET" if row["status"] == DEBUG else row["status"]
    start = f"{row['cell']:28}{state:18}{known:>8}"
    figures = [_figures(p) for p in row["sweep"]] or [""]
    lines = [(start if i == 0 else " " * len(start)) + told for i, told in enumerate(figures)]
    lines += [f"    {row['why']}"] if row["why"] else []
    lines += [f"    log: {row['log']}"] if row["log"] else []
    lines += [f"    kernels: {', '.join(row['kernels'])}"] if row["kernels"] else []
    lines += [f"    {line}" for line in layer_lines(row)]
    twin = row["same_kernels_as"]
    lines += [f"    the kernels of {twin}: what differs between the two is noise"] if twin else []
    loud = dict.fromkeys(why for p in row["sweep"] for why in p["machine"])
    lines += [f"    machine not quiet: {next(iter(loud))}"] if loud else []
    laid = row["delivery"] in ("overlay", "patch")
    return lines + ([f"    OVERLAY: {row['modified_files']}"] if laid else [])


def _figures(p: Mapping[str, Any]) -> str:
    def num(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.1f}"

    failed = f"{p['requests']['failed']}/{p['requests']['asked']}"
    return f"{p['concurrency']:>5}{num(p['tpot_ms_p50']):>13}{num(p['output_throughput_tok_s']):>14}{failed:>8}  {p['client']}"
