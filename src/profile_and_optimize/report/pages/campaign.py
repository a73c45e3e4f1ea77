"""The source of the pages from a campaign's evidence and its decision."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from profile_and_optimize.analysis.atlas import rows as atlas_rows
from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.imported import imported_rows
from profile_and_optimize.campaign.asked import asked_by_plan
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.context import context
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point
from profile_and_optimize.report.arms import ArmView
from profile_and_optimize.report.pages.champion import Champion
from profile_and_optimize.report.pages.model import ChampionRow, Omitted, Stamp
from profile_and_optimize.report.pages.source import Options, Source
from profile_and_optimize.report.status import missing_parts, omitted_pages
from profile_and_optimize.report.view import View, view
from profile_and_optimize.report.words import UNKNOWN, plain

MOST_POINTS = 6


def source_of(ev: Evidence, d: Decision, options: Options | None = None) -> Source:
    v, rows = view(ev, d), every_row(ev, d)
    return Source(
        stamp=_stamp(ev, v, rows), model=v.place.model or UNKNOWN, rows=rows, primary=ev.plan.primary, data_line=_data_line(ev.plan),
        missing=tuple(missing_parts(ev, d)), omitted=tuple(Omitted(**o) for o in omitted_pages(ev, rows)),
        champion=_champion(ev, d, v, rows), options=options or Options(), starts=tuple(s.words for s in v.starts), earlier=v.earlier,
    )  # fmt: skip


def every_row(ev: Evidence, d: Decision) -> list[dict[str, Any]]:
    """Atlas rows of our own trials and of imported results. A cell that never served keeps what it was asked for."""
    return [*(_asked(ev, row) for row in atlas_rows(ev, d)), *imported_rows(ev.imported, ev.run.name)]


def _asked(ev: Evidence, row: dict[str, Any]) -> dict[str, Any]:
    if row["context"]:
        return row
    asked = asked_by_plan(ev.plan, ev.plan.arm(row["cell"]), ev.plan.points[0])
    return {**row, "context": context(asked, {}).to_json()}


def _stamp(ev: Evidence, v: View, rows: Sequence[Mapping[str, Any]]) -> Stamp:
    times = [(t.file.started_at, t.file.ended_at) for t in ev.trials]
    window = (min(b for b, _ in times), max(e for _, e in times)) if times else None
    return Stamp(
        campaign=v.run_id, rendered=ev.stamp, window=window, evidence_root=ev.root, verify=v.verify,
        kicker=f"{v.run_id} · suite {v.place.suite} · focus {v.focus}", overlay=marked(overlay_words(rows), v.code), synthetic=False,
    )  # fmt: skip


def marked(overlay: str, code: Sequence[str]) -> str:
    """What every page is marked with: engines that are no release, settings that bring code; "" where there is neither."""
    return "; ".join(
        f"{name}: {words}"
        for name, words in (("OVERLAY under test", overlay), ("RUNS CODE OF ITS OWN", "; ".join(code)))
        if words
    )


def overlay_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which engines under test are no release as it was published; "" where all are, or nobody knows."""
    found = dict.fromkeys(w for r in rows if (w := _overlay(r)))
    return "; ".join(found)


def _overlay(row: Mapping[str, Any]) -> str:
    delivery, changed, version = (_seen(row, n) for n in ("delivery", "modified_files", "engine_version"))
    laid_over = delivery in ("overlay", "patch")
    if not laid_over and changed in (UNKNOWN, "none"):
        return ""
    words = f", changed: {changed}" if changed not in (UNKNOWN, "none") else ""
    return plain(f"{row['engine']} {version} ({delivery}{words})")


def _seen(row: Mapping[str, Any], name: str) -> str:
    return str(row["context"].get(name, {}).get("observed", UNKNOWN))


def _data_line(plan: Plan) -> str:
    """The suite with each workload's prompts, lengths and load."""
    said = [
        f"{p.workload.name} ({p.workload.dataset}, ISL {p.workload.isl}, OSL {p.workload.osl}, {_load(p)})"
        for p in plan.points
    ]
    more = [f"{len(said) - MOST_POINTS} more"] if len(said) > MOST_POINTS else []
    return plain(f"Data source: suite {plan.suite}: {', '.join([*said[:MOST_POINTS], *more])}")


def _load(p: Point) -> str:
    return f"C={p.concurrency}" if p.request_rate is None else f"{p.request_rate:g} req/s"


def _champion(ev: Evidence, d: Decision, v: View, rows: Sequence[Mapping[str, Any]]) -> Champion:
    h = v.headline
    return Champion(
        title=f"{h.title} {h.name}".strip(), tier=h.tier, pick=h.pick, sentence=h.sentence, caveat=h.caveat, endpoint=v.endpoint,
        baseline=v.baseline, margin=ev.plan.margin, rows=tuple(map(_row, v.arms)),
        gates=tuple((g.name, g.state, g.reason) for g in v.gates), command=_command(ev, d), facts=_facts(v, d, rows),
    )  # fmt: skip


def _row(a: ArmView) -> ChampionRow:
    return ChampionRow(
        engine=plain(a.engine), arm=a.id, state=a.state, effect=_effect(a), n=a.blocks, what=a.lever, why=a.reason, span=_span(a),
        dots=tuple(b.log_ratio for b in a.paired), is_pick=a.is_pick,
    )  # fmt: skip


def _span(a: ArmView) -> tuple[float, float, float] | None:
    e = a.effect
    if a.state == "FAILED" or e is None or e.lower is None or e.estimate is None or e.upper is None:
        return None
    return e.lower, e.estimate, e.upper


def _effect(a: ArmView) -> str:
    if a.state in ("BASELINE", "FAILED"):
        return "the reference" if a.state == "BASELINE" else UNKNOWN
    return a.effect_text


def _command(ev: Evidence, d: Decision) -> tuple[str, ...]:
    """The pick's start as one line a part: environment, then arguments; nothing for what we did not start."""
    kept = ev.commands.get(d.pick, {})
    env = [f"{plain(k)}={shlex.quote(plain(v))}" for k, v in sorted(dict(kept.get("env", {})).items())]
    argv = shlex.join(plain(a) for a in kept.get("argv", ()))
    return tuple(x for x in (" ".join(env), argv) if x)


def _facts(v: View, d: Decision, rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    pick = next((r for r in rows if r["cell"] == d.pick and r["context"]), None)
    under_test = (
        ("Source under test", UNKNOWN),
    ) if pick is None else (
        ("Source under test", plain(f"{pick['engine']} {_seen(pick, 'engine_version')}, delivery {_seen(pick, 'delivery')}")),
        ("Commit", plain(_seen(pick, "source_commit"))), ("Changed files", plain(_seen(pick, "modified_files"))),
    )  # fmt: skip
    return (
        ("Model", v.place.model or UNKNOWN), ("Node", f"{v.place.node}, {v.place.hardware}"),
        ("Suite", f"{v.place.suite}: {v.place.loads}"),
        ("Measured against", f"{v.baseline}, same node, same blocks; margin {v.margin}"), *under_test,
        *((f"Checkpoint {s.ours}", f"{s.verdict} ({s.tier}): {s.why}") for s in (v.quantized.verdicts if v.quantized else ())),
    )  # fmt: skip
