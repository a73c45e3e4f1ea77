"""pao import_variant_ab: another tool's A/B, a folder with arms.tsv and result files, as cells of a campaign."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.imported import FULL, document
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.imported import ASKED, SEEN, Ask, Asked, Seen, attempt_folder
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.context import UNKNOWN, context
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.core.names import checked_id, digest
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.opens import PATH
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.importers.base import LoadKind
from profile_and_optimize.ops.acts import writes
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, opened, plan_at
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.foreign.bundle import TOOLS, Given, read_bundle
from profile_and_optimize.ops.foreign.keep import without_credentials
from profile_and_optimize.ops.foreign.measure import line
from profile_and_optimize.ops.options import says
from profile_and_optimize.optimize.publish import publish

PRODUCER = "import_variant_ab"


class ImportVariantRequest(CampaignRequest):
    bundle: Annotated[str, PATH] = Field(
        description="folder with arms.tsv and, for each arm and concurrency, a result of vLLM, SGLang or aiperf"
    )
    workload: str | None = Field(
        default=None,
        description=says("workload", "the one of the campaign that all of them measured; default: unknown"),
    )


def run(req: ImportVariantRequest, say: Say) -> Result:
    path, folder = req.path(), Path(req.bundle)
    if not folder.is_dir():
        raise WrongUse("no such folder", where=req.bundle, next="--bundle DIR")
    arms, given = read_bundle(folder)
    plan = plan_at(path)
    points = _points(plan, req.workload)
    for arm in arms:
        _refuse_other(plan, arm)
    with opened(path) as run_folder:
        loads = _loads(given, req.workload, points)
        asks = [_ask(run_folder, arm, [g for g in given if g.arm == arm.id], loads) for arm in arms]
        for ask in asks:
            mine = [g for g in given if g.arm == ask.cell]
            _keep(run_folder, ask, mine)
            say(f"{ask.cell}: {len(mine)} results")
    return _told(path, arms)


def _points(plan: Plan, workload: str | None) -> dict[int, Point]:
    """The campaign's points of a workload by concurrency. Raises WrongUse for a workload that it lacks."""
    names = list(dict.fromkeys(p.workload.name for p in plan.points))
    if workload is not None and checked_id(workload, "--workload") not in names:
        raise WrongUse(unknown("workload", workload, names), where="--workload", next="name a workload of the campaign")
    return {p.concurrency: p for p in plan.points if p.workload.name == workload and p.request_rate is None}


def _refuse_other(plan: Plan, arm: Arm) -> None:
    """A cell of the campaign cannot be two things."""
    same = next((a for a in plan.all_arms if a.id == arm.id), None)
    if same is not None and (same.engine, same.flags, same.env) != (arm.engine, arm.flags, arm.env):
        raise WrongUse(
            f"cell {arm.id} of the campaign has other flags than arm {arm.id} of the bundle",
            next="rename the arm in arms.tsv",
        )


def _loads(given: Sequence[Given], workload: str | None, points: dict[int, Point]) -> dict[str, Asked]:
    """Every load that any arm was measured at: an arm that lacks one is partial. By key."""
    name = workload or UNKNOWN
    slots = sorted({n for g in given if (n := _slots(g)) is not None})
    loads = {}
    for n in slots:
        p = points.get(n)
        known = Asked.of(p, "prompts of the tool") if p else Asked("", name, "", None, None, n, None)
        # How many requests were asked for is the file's to say, not the campaign's.
        loads[f"{name}.c{n}"] = Asked(f"{name}.c{n}", name, known.words, known.isl, known.osl, n, None)
    return loads


def _slots(g: Given) -> int | None:
    """The slots of a closed loop. A cap on an open loop is no concurrency that anything was measured at."""
    return g.result.concurrency if g.result.load is LoadKind.CLOSED else None


def _ask(folder: RunFolder, arm: Arm, mine: Sequence[Given], loads: dict[str, Asked]) -> Ask:
    """Raises WrongUse where the cell has results already, or an arm was measured by two tools."""
    backend = f"{arm.engine}-sweep"
    if (folder.path / attempt_folder(arm.id, backend, 1)).exists():
        raise WrongUse(
            f"cell {arm.id} has results of {backend}", where=str(folder.path), next="import them into another campaign"
        )
    tools = sorted({g.result.tool for g in mine}) or [arm.engine]
    if len(tools) > 1:
        raise WrongUse(f"the results of {arm.id} are of {' and '.join(tools)}", next="one tool for each arm")
    versions = sorted({g.result.version or UNKNOWN for g in mine}) or [UNKNOWN]
    return Ask(
        cell=arm.id, backend=backend, attempt=1, engine=arm.engine, role=arm.role.value, tool=TOOLS.get(tools[0], tools[0]),
        tool_version=", ".join(versions), url="", model=UNKNOWN, points=tuple(loads.values()), context=_asked(arm),
    )  # fmt: skip


def _keep(folder: RunFolder, ask: Ask, mine: Sequence[Given]) -> None:
    """The files of one arm, with what is known of them, entered in the journal."""
    ours = known_secrets(os.environ)
    folder.write_json(f"{ask.folder}/{ASKED}", ask.to_json(), producer=PRODUCER)
    counts: dict[str, int] = {}
    for g in mine:
        place = _place(g, ask.points)
        number = counts[place] = counts.get(place, -1) + 1
        for name, data in g.files:
            source = f"bundle {g.origin} sha256 {digest(data)}"
            at = f"{ask.folder}/{_named(place, name, number)}"
            folder.write(at, without_credentials(data, ours), producer=ask.tool, inputs=(source,))
    seen = Seen(None, None, "", False, _seen(ask, mine))
    folder.write_json(f"{ask.folder}/{SEEN}", seen.to_json(), producer=PRODUCER)


def _place(g: Given, loads: Sequence[Asked]) -> str:
    """Where it lies; without a concurrency in it, it is of no load."""
    key = next((x.key for x in loads if x.concurrency == _slots(g)), UNKNOWN)
    return f"BENCH--{key}"


def _named(place: str, name: str, number: int) -> str:
    """A run's file as a sweep would name it; aiperf's files keep their names, in a folder of their own for every further run."""
    if name.startswith("run."):
        return f"{place}/run={number}.{name.removeprefix('run.')}"
    return f"{place}/{name}" if number == 0 else f"again-{number}/{place}/{name}"


def _asked(arm: Arm) -> dict[str, dict[str, str]]:
    told = {
        "engine": arm.engine,
        "flags": " ".join(arm.flags) or "engine defaults",
        "env": " ".join(f"{k}={v}" for k, v in arm.env) or "none",
    }
    return context({k: redact(v) for k, v in told.items()}, {}).to_json()


def _seen(ask: Ask, mine: Sequence[Given]) -> dict[str, dict[str, str]]:
    """Only what the files say themselves."""
    models = sorted({g.result.facts["model"] for g in mine if "model" in g.result.facts})
    found = {"client": ask.tool, "client_version": ask.tool_version}
    return context({}, found | ({"served_model": models[0]} if len(models) == 1 else {})).to_json()


def _told(path: Path, arms: Sequence[Arm]) -> Result:
    ev = load_evidence(path)
    publish(ev, decide(ev))
    names = {a.id for a in arms}
    docs = [document(c, path.name) for c in ev.imported if c.cell in names and c.backend.endswith("-sweep")]
    rows = [r for d in docs for r in d["rows"] if r["sources"]]
    lines = []
    for d in docs:
        lines += [f"{d['cell']} by {d['backend']}: {d['status']}", *(line(r) for r in d["rows"] if r["sources"])]
    lines += ["other tools' own figures: DRAFT material, in no comparison", f"next: pao report_render {path}"]
    cells = [{k: d[k] for k in ("cell", "backend", "status", "reason", "missing")} for d in docs]
    warnings = tuple(f"{flag}: {r['cell']} at concurrency {r['concurrency']}" for r in rows for flag in r["flags"])
    short = [d["cell"] for d in docs if d["status"] != FULL]
    refusal = (
        GateRefused(f"not complete: {', '.join(short)}", where=str(path), next="see the reasons above")
        if short
        else None
    )
    data = {"campaign": path.name, "cells": cells, "rows": len(rows), "tier": "DRAFT"}
    return closed(Result(data, "\n".join(lines), warnings, refusal), path)


OP = Op(
    "import_variant_ab", "Import another tool's A/B (arms.tsv and result files) as cells.", Safety.WRITES_ARTIFACTS,
    ImportVariantRequest, run, positional=("campaign",), mcp_name="perf_tune_report_import_variant_ab", acts=writes,
    examples=("pao import_variant_ab my-campaign --bundle ./ab-results --workload short-chat",),
)  # fmt: skip
