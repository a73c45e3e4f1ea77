"""report_status.json: whether the report is complete, what it lacks, and how much of the atlas is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.looks import wants_more
from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.report.words import plain


def report_status(ev: Evidence, d: Decision, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`missing` keeps a report from being complete; `omitted` are pages without data, each with how to get them."""
    missing = missing_parts(ev, d)
    return {
        "schema": 1, "run_id": ev.run.name, "status": "incomplete" if missing else "complete", "focus": ev.plan.focus,
        "sol_rigor": "none", "dcgm_grounded": False, "verdict_tier": d.tier.value, "missing": missing,
        "omitted": omitted_parts(ev), "plot_ready_points": plot_ready(ev, rows), "coverage": coverage_line(ev, rows),
    }  # fmt: skip


def missing_parts(ev: Evidence, d: Decision) -> list[str]:
    out = []
    for group in ev.plan.groups:
        whole = len(d.selection.of_group(ev.plan, group))
        if wants_more(ev.plan, d.selection, group):
            out.append(
                f"blocks of {', '.join(group)}: {whole} of at most {d.selection.limit} are whole, and arms are open"
            )
    out += [f"block {b} is open: {plain(why)}" for b, why in sorted(d.selection.open.items())]
    return out + [f"damaged: {plain(x)}" for x in ev.damaged]


def omitted_parts(ev: Evidence) -> list[dict[str, str]]:
    out = [
        {"page": "speed of light", "reason": "no hardware counters were read, so nothing is grounded (sol_rigor none)"}
    ]
    if not ev.accuracy:
        out.append({"page": "accuracy", "reason": "no accuracy questions were asked; give --questions FILE.jsonl"})
    return out


def plot_ready(ev: Evidence, rows: Sequence[Mapping[str, Any]]) -> int:
    """Rows in which every primary metric has an estimate."""
    names = [METRICS[m].printed for m in ev.plan.primary]
    return sum(r["status"] not in ("failed", "raced") and all(_known(r["metrics"][n]) for n in names) for r in rows)


def _known(metric: Mapping[str, Any] | None) -> bool:
    return metric is not None and metric.get("p50", metric) is not None


def cell_states(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """full, partial or failed per cell over all its points."""
    seen: dict[str, set[str]] = {}
    for r in rows:
        seen.setdefault(r["cell"], set()).add(r["status"])
    return {
        c: "failed" if "failed" in s else "raced" if s == {"raced"} else "full" if s == {"full"} else "partial"
        for c, s in seen.items()
    }


def coverage_line(ev: Evidence, rows: Sequence[Mapping[str, Any]]) -> str:
    states = list(cell_states(rows).values())
    full, partial, failed, raced = (states.count(s) for s in ("full", "partial", "failed", "raced"))
    left = f"{raced} left in the race | " if raced else ""
    return (
        f"Coverage: {len(states)} atlas cells | {full} full sweeps | {partial} partial sweeps | {failed} failed cells | {left}"
        f"{plot_ready(ev, rows)} plot-ready concurrency points"
    )
