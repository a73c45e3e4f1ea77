"""Every file that follows from the evidence alone, as bytes: what aggregation writes and what verify compares."""

from __future__ import annotations

import json
from typing import Any

from profile_and_optimize.analysis.atlas import normalized, rows
from profile_and_optimize.analysis.decide import Decision, decision_json
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.names import canonical


def aggregates(ev: Evidence, d: Decision) -> dict[str, bytes]:
    """cells/<id>/normalized.json and status.txt, and atlas.jsonl."""
    out: dict[str, bytes] = {}
    trials: dict[str, list[Judged]] = {}
    for t in ev.trials:
        trials.setdefault(t.key.arm, []).append(t)
    for arm in ev.plan.all_arms:
        cell = normalized(d, arm.id, trials.get(arm.id, []))
        out[f"cells/{arm.id}/normalized.json"] = by_line(cell)
        out[f"cells/{arm.id}/status.txt"] = (cell["status"] + "\n").encode()
    out["atlas.jsonl"] = b"".join(canonical(r) + b"\n" for r in rows(ev, d))
    return out


def choice(ev: Evidence, d: Decision) -> dict[str, bytes]:
    """champion_select.json and verdict.json."""
    full = decision_json(ev, d)
    verdict = {
        "schema": 1, "run_id": full["run_id"], "tier": full["tier"], "pick": full["pick"], "baseline": full["baseline"],
        "baseline_named": True, "missing": [g.to_json() for g in d.open_gates],
    }  # fmt: skip
    return {"champion_select.json": pretty(full), "verdict.json": pretty(verdict)}


def by_line(cell: dict[str, Any]) -> bytes:
    """One object, with a line for every trial."""
    head = canonical({k: v for k, v in cell.items() if k != "trials"})
    trials = b",\n".join(canonical(t) for t in cell["trials"])
    return head[:-1] + b',"trials":[\n' + trials + b"\n]}\n"


def pretty(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
