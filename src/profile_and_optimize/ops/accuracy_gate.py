"""pao accuracy_gate: does the candidate answer as well as the base? Paired question by question, pass | fail | unknown."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.core.opens import OUT, RUN
from profile_and_optimize.evidence.folder import RunFolder, find_run, new_run_id, workspace
from profile_and_optimize.evidence.manifest import MANIFEST, write_manifest
from profile_and_optimize.evidence.reading import read_bytes, read_json
from profile_and_optimize.ops.acts import writes
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.evaluation.keep import ANSWERS, CONTROL_SAMPLES, EVALUATION, SAMPLES
from profile_and_optimize.ops.evaluation.target import instruct
from profile_and_optimize.ops.gating.document import Terms, encoded, gate_document
from profile_and_optimize.ops.gating.earlier import GATE, earlier_gates, gate_of_other_mode
from profile_and_optimize.ops.gating.sides import Side, read_side, require_comparable
from profile_and_optimize.ops.gating.table import text_of
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.verify import check
from profile_and_optimize.stats.noninferiority import ALPHA, FAIL

PRODUCER = "accuracy_gate"
# A side's folder is laid out like the run that it was copied from, so that the same check reads both.
COPIES = (EVALUATION, SAMPLES, ANSWERS, CONTROL_SAMPLES)


class AccuracyGateRequest(Request):
    base: Annotated[str, RUN] = Field(description=says("base", "its evaluation: path, id or unique slug of the run"))
    candidate: Annotated[str, RUN] = Field(
        description="evaluation of the candidate, asked the same questions in the same way: path, id or unique slug of its run"
    )
    floor: Annotated[str | None, RUN] = Field(
        default=None,
        description="second evaluation of the base: how many answers differ between two runs of the same model",
    )
    tolerance_points: float = Field(default=1.0, gt=0, lt=100, description=says("tolerance_points"))
    planned: int | None = Field(
        default=None, ge=1, description="questions of all tasks that are planned; default: those asked"
    )
    name: str | None = Field(default=None, description=says("name"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


def run(req: AccuracyGateRequest, say: Say) -> Result:
    space = workspace(req.campaigns_dir)
    named = {"base": req.base, "candidate": req.candidate, **({"floor": req.floor} if req.floor else {})}
    places = {name: find_run(given, space) for name, given in named.items()}
    _require_distinct(places)
    sides = {name: _sound(place, name, say) for name, place in places.items()}
    base, candidate, floor = sides["base"], sides["candidate"], sides.get("floor")
    require_comparable(base, candidate, floor)
    terms = _terms(req, space, places, base, candidate)
    gate = gate_document(terms, base, candidate, floor)
    path = _keep(req, space, places, gate)
    told = Result({**gate, "run": str(path)}, text_of(gate, str(path)), tuple(gate["warnings"]), _refusal(gate, path))
    return closed(told, path)


def _require_distinct(places: dict[str, Path]) -> None:
    seen: dict[Path, str] = {}
    for name, place in places.items():
        if (other := seen.setdefault(place.resolve(), name)) != name:
            raise WrongUse(
                f"{other} and {name} are the same run", where=f"--{name} {place.name}", next="pao evaluate it as well"
            )


def _sound(place: Path, name: str, say: Say) -> Side:
    """An evaluation that verify finds nothing wrong with, whose answers hold together."""
    if not (place / EVALUATION).is_file():
        raise WrongUse("not a run of pao evaluate", where=f"--{name} {place}", next="pao evaluate")
    say(f"verifying {place.name}")
    problems, _ = check(place)
    if problems:
        raise WrongUse(f"this run does not verify: {problems[0]}", where=str(place), next=f"pao verify {place}")
    side = read_side(place / EVALUATION, place / SAMPLES, place / ANSWERS)
    own = side.told.get("gate") or {}
    if own.get("passed") is False and (name != "candidate" or own.get("blame") == "gate"):
        why = next(iter((own.get("why") or {}).values()), "its answers do not hold together")
        raise WrongUse(f"the evaluation itself is at fault: {why}", where=str(place), next="evaluate again, as it says")
    return side


def _terms(req: AccuracyGateRequest, space: Path, places: dict[str, Path], base: Side, candidate: Side) -> Terms:
    asked = len(base.samples)
    planned = asked if req.planned is None else req.planned
    if planned < asked:
        raise WrongUse(
            f"{asked} questions were asked; a plan is made before",
            where=f"--planned {planned}",
            next=f"--planned {asked} or more",
        )
    runs = {
        name: {"run": place.name, "root": str(read_json(place / MANIFEST)["root"])} for name, place in places.items()
    }
    told = base.told.get("model")
    why = instruct(str(told)) if told not in (None, "unknown") else ""
    terms = Terms(req.tolerance_points / 100, planned, ALPHA, runs, instruct=why or _by_name(base))
    other = gate_of_other_mode(space, base, candidate)
    return replace(terms, earlier=earlier_gates(space, terms, base, candidate), other_mode=other)


def _by_name(base: Side) -> str:
    """Whoever asks with a chat template has an instruct model."""
    return "it was asked with a chat template" if base.told.get("chat") else ""


def _keep(req: AccuracyGateRequest, space: Path, places: dict[str, Path], gate: dict[str, Any]) -> Path:
    """Copies of what was compared, the gate and the manifest."""
    path = space / new_run_id(req.name or f"gate-{places['candidate'].name[17:]}", time.time())
    if path.exists():
        raise WrongUse("this run exists already", where=str(path), next="wait a second, or use another name")
    folder = RunFolder(path)
    try:
        folder.event("created", slug=path.name)
        copies = {f"{name}/{f}": place / f for name, place in places.items() for f in COPIES if (place / f).is_file()}
        for rel, source in copies.items():
            folder.write(rel, read_bytes(source), producer=PRODUCER)
        folder.write(GATE, encoded(gate), producer=PRODUCER, inputs=tuple(copies))
        write_manifest(path, {})
    finally:
        folder.close()
    return path


def _refusal(gate: dict[str, Any], path: Path) -> GateRefused | None:
    if gate["call"] != FAIL:
        return None
    then = "keep the base; read which questions were lost in candidate/raw/samples.jsonl"
    return GateRefused(f"no ship: {gate['reason']}", where=str(path), next=then)


OP = Op(
    "accuracy_gate", "Does the candidate answer as well as the base? Paired per question; pass, fail or unknown, with an error bound.",
    Safety.WRITES_ARTIFACTS, AccuracyGateRequest, run, mcp_name="accuracy_gate", acts=writes,
    examples=(
        "pao accuracy_gate --base eval-base --candidate eval-int8",
        "pao accuracy_gate --base eval-base --candidate eval-int8 --floor eval-base-again --tolerance-points 2 --planned 2000",
    ),
)  # fmt: skip
