"""report_status.json: whether the report is complete, what it lacks, and how much of the atlas is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.imported import imported_rows
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.proof import wanted
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.report.pages.measured import coverage_words, measured, plot_ready
from profile_and_optimize.report.words import plain


def report_status(ev: Evidence, d: Decision, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`missing` keeps a report from being complete; `omitted` are pages without data, each with how to get them."""
    missing = missing_parts(ev, d)
    return {
        "schema": 1, "run_id": ev.run.name, "status": "incomplete" if missing else "complete", "focus": ev.plan.focus,
        "sol_rigor": "none", "sol_complete": False, "dcgm_grounded": False, "verdict_tier": d.tier.value, "missing": missing,
        "omitted": omitted_parts(ev), "omitted_pages": omitted_pages(ev, [*rows, *imported_rows(ev.imported, ev.run.name)]),
        "plot_ready_points": plot_ready(rows, ev.plan.primary), "coverage": coverage_line(ev, rows),
    }  # fmt: skip


def missing_parts(ev: Evidence, d: Decision) -> list[str]:
    out = []
    for group in ev.plan.groups:
        whole = len(d.selection.of_group(ev.plan, group))
        if wanted(ev.plan, d.selection, group):
            out.append(
                f"blocks of {', '.join(group)}: {whole} of at most {d.selection.limit} are whole, and arms are open"
            )
    if d.proof is not None and d.proof.stage is Stage.PROVE and d.proof.open:
        out.append(
            f"proof of {d.proof.pick}: {d.proof.signs.blocks} of at most {d.proof.limit} blocks are whole, and it is open"
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


def omitted_pages(ev: Evidence, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Pages of report.pdf that there is nothing for, each with how to get it. `rows` are those that the pages show."""
    counters = "capture hardware counters over the trials (L3 or better)"
    out = [_page(name, "no cell has a measured point", "run blocks until one is whole") for name in _unmeasured(rows)]
    out += [
        _page("kernel time shares", "no profile was captured in a window of its own", "capture one on the pick's arm"),
        _page("hardware counters", "no counters were read over the trials", counters),
        _page("speed of light (roofline)", "nothing is grounded (sol_rigor none)", counters),
    ]
    if not ev.accuracy:
        out.append(_page("accuracy", "no accuracy questions were asked", "give --questions FILE.jsonl"))
    return out


def _page(page: str, reason: str, how: str) -> dict[str, str]:
    return {"page": page, "reason": reason, "how": how}


def _unmeasured(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    plotted = [p for p in measured(rows) if p.plotted]
    tabled = [p for p in plotted if p.load is not None]
    return [name for name, there in (("panes", plotted), ("tables", tabled)) if not there]


def coverage_line(ev: Evidence, rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` are those of our own trials; other tools' are added here."""
    return coverage_words([*rows, *imported_rows(ev.imported, ev.run.name)], ev.plan.primary)
