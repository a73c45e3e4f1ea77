"""Every file that follows from the evidence alone, as bytes: what aggregation writes and what verify compares."""

from __future__ import annotations

import json
from typing import Any

from profile_and_optimize.analysis.atlas import normalized, rows
from profile_and_optimize.analysis.decide import Decision, decision_json
from profile_and_optimize.analysis.imported import documents, imported_rows, status_of_cell
from profile_and_optimize.analysis.three_way import three_way
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.names import canonical


def aggregates(ev: Evidence, d: Decision) -> dict[str, bytes]:
    """cells/<id>/normalized.json and status.txt, atlas.jsonl, and what other tools left, as cells/<id>/imported/*.json."""
    out: dict[str, bytes] = {}
    trials: dict[str, list[Judged]] = {}
    for t in ev.trials:
        trials.setdefault(t.key.arm, []).append(t)
    for arm in ev.plan.all_arms:
        cell = normalized(d, arm.id, trials.get(arm.id, []))
        out[f"cells/{arm.id}/normalized.json"] = by_line(cell)
        out[f"cells/{arm.id}/status.txt"] = (cell["status"] + "\n").encode()
    # Where trials of ours are, they say how far the cell came.
    for name in {c.cell for c in ev.imported} - set(trials):
        out[f"cells/{name}/status.txt"] = (status_of_cell(ev.imported, name) + "\n").encode()
    out |= {path: pretty(doc) for path, doc in documents(ev.imported, ev.run.name).items()}
    every = [*rows(ev, d), *imported_rows(ev.imported, ev.run.name)]
    out["atlas.jsonl"] = b"".join(canonical(r) + b"\n" for r in every)
    return out


def choice(ev: Evidence, d: Decision) -> dict[str, bytes]:
    """champion_select.json and verdict.json; quant_compare.json where arms serve checkpoints of their own."""
    full = decision_json(ev, d)
    verdict = {
        "schema": 1, "run_id": full["run_id"], "tier": full["tier"], "pick": full["pick"], "baseline": full["baseline"],
        "baseline_named": True, "missing": [g.to_json() for g in d.open_gates],
    }  # fmt: skip
    compared = three_way(ev, d)
    quantized = {"quant_compare.json": pretty(compared)} if compared else {}
    return {"champion_select.json": pretty(full), "verdict.json": pretty(verdict), **quantized}


def by_line(cell: dict[str, Any]) -> bytes:
    """One object, with a line for every trial."""
    head = canonical({k: v for k, v in cell.items() if k != "trials"})
    trials = b",\n".join(canonical(t) for t in cell["trials"])
    return head[:-1] + b',"trials":[\n' + trials + b"\n]}\n"


def pretty(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
