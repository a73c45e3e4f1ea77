"""What the A/A arms of earlier campaigns said about this node: how far a configuration differs from itself here.

Read once, when a campaign begins, and kept in the run: a report made from the run alone says the same for ever.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, stdev
from typing import Any

from profile_and_optimize.campaign import PRODUCER
from profile_and_optimize.campaign.endpoint import signed_log
from profile_and_optimize.core.context import UNKNOWN, context_from_json
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.folder import RunFolder, is_run, read_json
from profile_and_optimize.evidence.manifest import MANIFEST
from profile_and_optimize.evidence.reading import read_bytes

HISTORY = "aa_history.json"
MOST_RUNS = 50
MOST_LOOKED_AT = 400
_CHOICE, _ATLAS = "champion_select.json", "atlas.jsonl"


@dataclass(frozen=True, slots=True)
class PastRun:
    """One earlier campaign: the baseline against itself, as ratios minus one, over `blocks`.

    `session_sd` is the standard deviation of one session's log of the primary endpoint: that of the paired
    differences over the root of two. None with fewer than two blocks.
    """

    run_id: str
    evidence_root: str
    engine_version: str
    estimate: float | None
    lower: float | None
    upper: float | None
    blocks: int
    session_sd: float | None

    @property
    def excludes_zero(self) -> bool:
        return self.lower is not None and self.upper is not None and not self.lower <= 0 <= self.upper


@dataclass(frozen=True, slots=True)
class History:
    """Earlier campaigns on `node` with the same kind of engine and the same primary endpoint, the newest first.

    `damaged` counts runs of the workspace that could not be read or whose files are not what their manifest lists.
    """

    node: str
    engine: str
    primary: tuple[str, ...]
    runs: tuple[PastRun, ...] = ()
    damaged: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}


def write_history(folder: RunFolder, plan: Plan, node: str) -> None:
    """Once a run: what is written stays, also when the campaign is resumed after others have ended."""
    if not (folder.path / HISTORY).exists():
        folder.write_json(HISTORY, look_back(folder.path, plan, node).to_json(), producer=PRODUCER)


def read_history(run: Path) -> History | None:
    """The history that a run began with; None where it has none. Raises Corrupted."""
    if not (run / HISTORY).exists():
        return None
    data = read_json(run / HISTORY)
    try:
        runs = tuple(PastRun(**r) for r in data["runs"])
        return History(data["node"], data["engine"], tuple(data["primary"]), runs, data["damaged"])
    except (TypeError, KeyError) as e:
        raise Corrupted(f"not an A/A history: {e}", where=str(run / HISTORY), next=f"pao verify {run}") from e


def look_back(run: Path, plan: Plan, node: str) -> History:
    """From the finished runs beside `run`, as their own derived files tell."""
    empty = History(node, plan.baseline.engine, plan.primary)
    if node == UNKNOWN:
        return empty
    found: list[PastRun] = []
    damaged = 0
    for sibling in _siblings(run):
        try:
            past = _past(sibling, empty)
        except (Corrupted, OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            damaged += 1
            continue
        found += [past] if past else []
        if len(found) == MOST_RUNS:
            break
    return History(node, empty.engine, empty.primary, tuple(found), damaged)


def session_sd(history: History) -> float | None:
    """The median standard deviation of one session's log primary on this node; None where nobody measured it."""
    known = [r.session_sd for r in history.runs if r.session_sd is not None]
    return median(known) if known else None


def history_words(history: History) -> str:
    """One line for the report."""
    lost = f"; {history.damaged} damaged runs were skipped" if history.damaged else ""
    told = [r for r in history.runs if r.estimate is not None]
    if not told:
        return f"no earlier A/A arm of {history.engine} on node {history.node} in this workspace{lost}"
    low, high = (f(r.estimate for r in told if r.estimate is not None) for f in (min, max))
    sd, outside = session_sd(history), sum(r.excludes_zero for r in told)
    spread = f"; one session has a standard deviation of {sd:.2%}" if sd is not None else ""
    return (
        f"{len(told)} earlier A/A arm{'s' * (len(told) > 1)} of {history.engine} on node {history.node}: the baseline differed "
        f"from itself by {low:+.2%} to {high:+.2%}, {outside} of the intervals excluded 0{spread}{lost}"
    )


def _siblings(run: Path) -> list[Path]:
    """Runs of the same workspace that were closed, the newest first."""
    there = (p for p in run.absolute().parent.iterdir() if is_run(p) and p.name != run.name)
    return sorted((p for p in there if (p / _CHOICE).is_file()), reverse=True)[:MOST_LOOKED_AT]


def _past(run: Path, wanted: History) -> PastRun | None:
    """None for a run without an A/A arm, or of another node, engine or endpoint."""
    listed = {d["path"]: d["sha256"] for d in read_json(run / MANIFEST)["derived"]}
    chosen = json.loads(_listed(run, _CHOICE, listed))
    twin = next((a for a in chosen["arms"] if a["role"] == "aa"), None)
    if twin is None or twin["effect"] is None or tuple(chosen["primary_endpoint"]) != wanted.primary:
        return None
    rows = [json.loads(line) for line in _listed(run, _ATLAS, listed).splitlines()]
    row = next(r for r in rows if r["cell"] == twin["cell"])
    context = context_from_json(row["context"])
    if (context.get("node"), row["engine"]) != (wanted.node, wanted.engine):
        return None
    logs = [_by_block(run, cell, listed, wanted.primary) for cell in (twin["cell"], chosen["baseline"])]
    apart = [logs[0][b] - logs[1][b] for b in sorted(logs[0].keys() & logs[1].keys())]
    sd = stdev(apart) / math.sqrt(2) if len(apart) > 1 else None
    effect = twin["effect"]
    return PastRun(
        run.name, str(chosen["evidence_root"]), context.get("engine_version"), effect["estimate"], effect["lower"], effect["upper"],
        int(effect["blocks"]), sd,
    )  # fmt: skip


def _listed(run: Path, rel: str, listed: Mapping[str, str]) -> bytes:
    """The bytes of a derived file. Raises ValueError when they are not those that the manifest lists."""
    data = read_bytes(run / rel)
    if listed.get(rel) != digest(data):
        raise ValueError(f"{rel}: not the bytes the manifest lists")
    return data


def _by_block(run: Path, cell: str, listed: Mapping[str, str], primary: tuple[str, ...]) -> dict[int, float]:
    """Block to the mean signed log over the points and metrics of the primary endpoint, of trials that counted."""
    trials = json.loads(_listed(run, f"cells/{cell}/normalized.json", listed))["trials"]
    logs: dict[int, list[float | None]] = {}
    for t in (t for t in trials if t["counts"]):
        logs.setdefault(t["block"], []).extend(_signed(t, primary))
    return {b: sum(v for v in vs if v is not None) / len(vs) for b, vs in logs.items() if None not in vs}


def _signed(trial: Mapping[str, Any], primary: tuple[str, ...]) -> Iterator[float | None]:
    for name in primary:
        printed = METRICS[name].printed
        value = trial[printed] if printed in trial else (trial["metrics"][printed] or {}).get("p50")
        yield signed_log(name, value)
