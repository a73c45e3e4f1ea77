"""Atlas rows: one arm at one point over its blocks, with estimate, interval, count, context and sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.context import context_from_json
from profile_and_optimize.core.metrics import DISTRIBUTIONS, METRICS, OUT_RATE, REQ_RATE
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.distributions import t_ppf

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Logs:
    """Values over blocks on the log scale: mean, sample standard deviation and t quantile; a single block has a mean only."""

    mean: float
    n: int
    sd: float | None
    quantile: float | None


def logs_of(values: Sequence[float | None]) -> Logs | None:
    """None when there is no value, or any is unknown or zero."""
    logs = [math.log(v) for v in values if v is not None and v > 0]
    if not logs or len(logs) != len(values):
        return None
    mean, n = float(np.mean(logs)), len(logs)
    if n == 1:
        return Logs(mean, 1, None, None)
    return Logs(mean, n, float(np.std(logs, ddof=1)), _quantile(n))


@cache
def _quantile(n: int) -> float:
    return t_ppf(0.5 + LEVEL / 2, n - 1)


def over_blocks(values: Sequence[float | None]) -> dict[str, float | int | None] | None:
    """Geometric mean over blocks with a 95% Student-t interval on the logs; no interval from a single block, None from none."""
    found = logs_of(values)
    if found is None:
        return None
    if found.quantile is None or found.sd is None:
        return {"estimate": math.exp(found.mean), "lower": None, "upper": None, "n": 1}
    mean, half = found.mean, found.quantile * found.sd / math.sqrt(found.n)
    return {"estimate": math.exp(mean), "lower": math.exp(mean - half), "upper": math.exp(mean + half), "n": found.n}


def rows(ev: Evidence, d: Decision) -> list[dict[str, Any]]:
    """A row per arm and point; a failed arm has its rows too, without metrics and with the reason."""
    out = []
    for arm in ev.plan.all_arms:
        for point in ev.plan.points:
            used = [a[arm.id][point.key] for _, a in sorted(d.selection.blocks.items()) if arm.id in a]
            out.append(_row(ev, d, arm, point, used))
    return out


def _row(ev: Evidence, d: Decision, arm: Arm, spec: Point, used: Sequence[Judged]) -> dict[str, Any]:
    status = _status(d, arm.id, used)
    context = context_from_json(used[0].file.context) if used else None
    return {
        "schema": 1,
        "campaign": ev.run.name,
        "source": "trials",
        "cell": arm.id,
        "role": arm.role.value,
        "engine": arm.engine,
        "workload": spec.workload.name,
        "isl": spec.workload.isl,
        "osl": spec.workload.osl,
        "concurrency": spec.concurrency if spec.request_rate is None else None,
        "request_rate": spec.request_rate,
        "requests": spec.requests,
        "status": status,
        "reason": d.failed.get(arm.id, ""),
        "blocks": [t.key.block for t in used],
        "metrics": _metrics(used),
        "window": sorted({t.summary.window for t in used}),
        "requests_failed": sum(t.summary.failed for t in used),
        "client": sorted({t.honesty.validity.value for t in used}),
        "context": context.to_json() if context else {},
        "unknown": list(context.gaps()) if context else [],
        "sources": [trial_path(t.key) for t in used],
    }


def _metrics(used: Sequence[Judged]) -> dict[str, Any]:
    """Printed metric name to quantile to estimate over blocks, in printed units."""
    if not used:
        return _nothing()
    out: dict[str, Any] = {}
    for m in DISTRIBUTIONS:
        dists = [t.summary.dists[m.name] for t in used]
        out[m.printed] = {
            q: over_blocks([getattr(x, q) * m.scale if x else None for x in dists])
            for q in ("p50", "p90", "p99", "mean")
        }
        out[m.printed]["n"] = sum(x.n for x in dists if x)
    for m in (REQ_RATE, OUT_RATE):
        out[METRICS[m.name].printed] = over_blocks([t.summary.value(m.name) for t in used])
    return out


def _nothing() -> dict[str, Any]:
    none: dict[str, Any] = {
        m.printed: {"p50": None, "p90": None, "p99": None, "mean": None, "n": 0} for m in DISTRIBUTIONS
    }
    return none | {METRICS[m.name].printed: None for m in (REQ_RATE, OUT_RATE)}


def _status(d: Decision, arm_id: str, used: Sequence[Judged]) -> str:
    """failed, raced (it left in the race and was not confirmed), full or partial."""
    return "failed" if arm_id in d.failed else "raced" if arm_id in d.raced else cell_status(used)


def cell_status(used: Sequence[Judged]) -> str:
    """full, partial or failed for the trials of a cell."""
    if not used:
        return TrialState.PARTIAL.value
    states = {t.summary.state for t in used}
    return TrialState.FULL.value if states == {TrialState.FULL} else TrialState.PARTIAL.value


def normalized(d: Decision, arm_id: str, mine: Sequence[Judged]) -> dict[str, Any]:
    """What `cells/<id>/normalized.json` holds: every trial of the cell with summary, honesty, and whether it counts."""
    used = {trial_path(t.key) for arms in d.selection.blocks.values() for t in arms.get(arm_id, {}).values()}
    trials = [
        {
            "block": t.key.block, "point": t.key.point, "attempt": t.key.attempt, "source": trial_path(t.key),
            "counts": trial_path(t.key) in used, **t.summary.to_json(), "honesty": t.honesty.to_json(),
        }
        for t in mine
    ]  # fmt: skip
    counting = [t for arms in d.selection.blocks.values() for t in arms.get(arm_id, {}).values()]
    status = _status(d, arm_id, counting)
    return {"schema": 1, "cell": arm_id, "status": status, "reason": d.failed.get(arm_id, ""), "trials": trials}
