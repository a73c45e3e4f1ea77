"""pao runs: the runs of the workspace, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.core.errors import ODD, Corrupted, WrongUse
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.opens import OUT
from profile_and_optimize.evidence.folder import is_run, workspace
from profile_and_optimize.evidence.manifest import MANIFEST, full_root
from profile_and_optimize.evidence.reading import read_bytes, read_json, strict_json
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.campaigns import plan_at
from profile_and_optimize.ops.options import says
from profile_and_optimize.report.words import count, plain

CHOICE = "champion_select.json"
# Runs that are no campaign, by the file that they are about.
KINDS = {"evaluation.json": "evaluation", "gate.json": "accuracy gate", "serve_matrix.json": "serve matrix"}
UNKNOWN = "unknown"


class RunsRequest(Request):
    sort: Literal["date", "name", "model"] = Field(default="date", description="date: newest first")
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


@dataclass(frozen=True, slots=True)
class Listed:
    """One run. `state`: closed (pick and tier are those that its manifest lists), open (not closed: it runs, or was stopped), altered
    (the manifest or the file of the decision is not what was written; no pick is shown), unreadable."""

    run: str
    date: str
    kind: str
    model: str
    engines: tuple[str, ...]
    pick: str | None
    tier: str | None
    state: str
    note: str = ""


def run(req: RunsRequest, say: Say) -> Result:
    space = workspace(req.campaigns_dir)
    folders = sorted((p for p in space.iterdir() if is_run(p)), reverse=True) if space.is_dir() else []
    found = [listed(p) for p in folders]
    if req.sort != "date":
        found.sort(key=lambda r: (getattr(r, {"name": "run", "model": "model"}[req.sort])[_skip(req.sort) :], r.date))
    data = {"workspace": str(space), "runs": [asdict(r) for r in found]}
    return Result(data, text_of(space, found))


def _skip(sort: str) -> int:
    """A run's name stands behind its time."""
    return len("20261121T090000Z-") if sort == "name" else 0


def listed(run: Path) -> Listed:
    """What a run's own files say of it. Nothing is derived here: `pao verify` does that."""
    at = datetime.strptime(run.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).strftime("%Y-%m-%d %H:%M")
    kind = next((words for file, words in KINDS.items() if (run / file).is_file()), "campaign")
    model, note = UNKNOWN, ""
    engines: tuple[str, ...] = ()
    try:
        plan = plan_at(run)
        model, engines = plan.model or UNKNOWN, tuple(dict.fromkeys(a.engine for a in plan.all_arms))
    except (WrongUse, Corrupted) as e:
        note = "" if kind != "campaign" else e.message
    state, choice, why = _state(run)
    pick, tier = (plain(choice[k]) if k in choice else None for k in ("pick", "tier"))
    return Listed(
        plain(run.name), at, kind, plain(model), tuple(map(plain, engines)), pick, tier, state, plain(why or note)
    )


def _state(run: Path) -> tuple[str, dict[str, Any], str]:
    """(state, the decision as it was written, what is wrong)."""
    if not (run / MANIFEST).is_file():
        return "open", {}, ""
    try:
        manifest = read_json(run / MANIFEST)
        if manifest["root"] != full_root(manifest):
            return "altered", {}, f"{MANIFEST}: its root does not follow from its parts"
        entry = next((d for d in manifest["derived"] if d["path"] == CHOICE), None)
        if entry is None:
            return "closed", {}, ""
        data = read_bytes(run / CHOICE)
        if digest(data) != entry["sha256"]:
            return "altered", {}, f"{CHOICE}: not the bytes that were written"
        return "closed", dict(strict_json(data)), ""
    except (Corrupted, *ODD) as e:
        return "unreadable", {}, e.message if isinstance(e, Corrupted) else f"{MANIFEST}: {type(e).__name__}"


def text_of(space: Path, found: Sequence[Listed]) -> str:
    if not found:
        return f"no run in {plain(space)}; the first one: pao ab URL_A URL_B, or make demo"
    names = max(len(r.run) for r in found)
    lines = [f"{count(len(found), 'run')} in {plain(space)}", ""]
    for r in found:
        answer = f"{r.pick} ({r.tier})" if r.pick else r.state
        lines.append(f"{r.run:<{names}}  {r.date}  {answer}")
        about = [
            r.kind,
            f"model {r.model}",
            *([f"on {', '.join(r.engines)}"] if r.engines else []),
            *([r.state] if r.pick else []),
        ]
        lines.append("    " + ", ".join(about) + (f": {r.note}" if r.note else ""))
    return "\n".join([*lines, "", "picks as they were written; pao verify RUN derives them from the records"])


OP = Op(
    "runs", "List the runs of the workspace: name, date, model, engines, pick, tier, and whether the run is closed.", Safety.READ_ONLY,
    RunsRequest, run, mcp_name="perf_tune_report_runs", acts=reads, examples=("pao runs", "pao runs --sort model --json"),
)  # fmt: skip
