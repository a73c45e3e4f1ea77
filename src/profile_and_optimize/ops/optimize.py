"""pao optimize: a model in, a checked champion out."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal

from pydantic import Field

from profile_and_optimize.analysis.decide import decision_json
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import slug
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point, suite
from profile_and_optimize.engines.process import available_cores
from profile_and_optimize.engines.vllm import VllmEngine
from profile_and_optimize.evidence.folder import find_run, read_json, workspace
from profile_and_optimize.evidence.manifest import MANIFEST
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.campaigns import (
    command_line,
    create,
    evidence_and_decision,
    opened,
    plan_at,
    shown_command,
    source_text,
)
from profile_and_optimize.ops.config import RACE_ROUNDS, SloConfig, fresh_seed, rounds_of
from profile_and_optimize.ops.model import check_model, model_digest
from profile_and_optimize.ops.worlds import engine_table, make_world
from profile_and_optimize.optimize.levers import Facts, arms
from profile_and_optimize.optimize.phases import road, walk


class OptimizeRequest(Request):
    model: str | None = None
    engines: str = "vllm"
    focus: Literal["throughput", "latency", "mixed"] = "throughput"
    budget_minutes: float = Field(default=30.0, gt=0, le=1e6)
    python: str | None = None
    suite: str = "demo"
    concurrency: int = Field(default=8, ge=1)
    requests: int | None = None
    blocks: int | None = Field(default=None, ge=2)
    levers: str | None = None
    max_arms: int = 4
    slo_ttft_ms: float | None = Field(default=None, gt=0)
    slo_tpot_ms: float | None = Field(default=None, gt=0)
    questions: str | None = None
    seed: int | None = None
    name: str | None = None
    resume: str | None = None
    extend: int = Field(default=0, ge=0, le=100)
    dry_run: bool = False
    campaigns_dir: str | None = None


def run(req: OptimizeRequest, say: Say) -> Result:
    if req.extend and not req.resume:
        raise WrongUse("only a campaign that ran can be extended", where="--extend", next="--resume RUN --extend 4")
    if req.resume:
        path = find_run(req.resume, workspace(req.campaigns_dir))
        world = make_world({a.engine for a in plan_at(path).arms}, say, req.python)
    else:
        engine = _one_engine(req.engines)
        model = _model(req, engine)
        world = make_world({engine}, say, req.python)
        plan = draft(req, model, engine, world)
        if req.dry_run:
            return _dry(plan, world)
        path = create(plan, workspace(req.campaigns_dir), source_text(plan, "optimize"))
    with opened(path) as folder:
        if req.extend:
            conduct.extend(folder, conduct.admit(folder, world), req.extend)
        walk(road(None), folder, world)
    return outcome(path)


def draft(req: OptimizeRequest, model: str, engine: str, world: World) -> Plan:
    """The plan before admission: arms from the levers that exist here, blocks left to the budget."""
    known = world.engine(engine).flags()
    found = arms(engine, req.focus, facts(world, engine), known, most=max(1, req.max_arms - 2))
    if req.levers:
        found = _chosen(arms(engine, req.focus, facts(world, engine), known, most=99), req.levers)
    _need_compiler(engine, facts(world, engine))
    points = tuple(Point(w, req.concurrency, req.requests or 4 * req.concurrency) for w in suite(req.suite))
    real = engine != "mock"
    return Plan(
        slug=slug(req.name or Path(model).name), model=model, focus=req.focus, arms=found, points=points, blocks=req.blocks or 0,
        seed=req.seed if req.seed is not None else fresh_seed(time.time()), suite=req.suite, budget_s=req.budget_minutes * 60,
        tokenizer=model if real else "", questions=_questions(req), model_digest=model_digest(model),
        race_rounds=rounds_of(None, RACE_ROUNDS, len([a for a in found if a.role is Role.CANDIDATE])),
        slo=SloConfig(ttft_ms=req.slo_ttft_ms, tpot_ms=req.slo_tpot_ms).limits(),
    )  # fmt: skip


def facts(world: World, engine: str) -> Facts:
    found = world.engines[engine]
    cpu = not isinstance(found, VllmEngine) or found.is_cpu
    return Facts(cores=len(available_cores()), cpu=cpu, compiler=bool(shutil.which("g++") or shutil.which("clang++")))


def outcome(path: Path) -> Result:
    """The envelope of a finished run, read back from its folder."""
    ev, d = evidence_and_decision(path)
    manifest = read_json(path / MANIFEST)
    places = {
        "report": str(path / "report.html"),
        "champion": str(path / "CHAMPION.md"),
        "serve": str(path / "serve.sh"),
    }
    text = "\n".join([
        (path / "report.txt").read_text().rstrip(), "", f"page      {places['report']}", f"champion  {places['champion']}",
        f"start it  {places['serve']}", f"root      {manifest['root']}", f"check it  pao verify {path}",
    ])  # fmt: skip
    return Result({**decision_json(ev, d), "path": str(path), **places, "root": manifest["root"]}, text, ev.damaged)


def _need_compiler(engine: str, found: Facts) -> None:
    """vLLM on CPU compiles by default, so the engine's own defaults cannot start without a C++ compiler."""
    if engine == "vllm" and found.cpu and not found.compiler:
        raise WrongUse(
            "vLLM compiles with a C++ compiler, and there is none", where="g++", next="apt-get install -y g++"
        )


def _one_engine(engines: str) -> str:
    names = [e.strip() for e in engines.split(",") if e.strip()]
    if len(names) != 1:
        raise WrongUse(f"--engines {engines!r}: one engine a run so far", next="--engines vllm")
    if names[0] not in engine_table():
        raise WrongUse(f"unknown engine {names[0]!r}; there are {', '.join(sorted(engine_table()))}", where="--engines")
    return names[0]


def _model(req: OptimizeRequest, engine: str) -> str:
    if req.model is None:
        raise WrongUse("which model?", where="--model", next="give a folder or a Hugging Face id, or --resume RUN")
    return req.model if engine == "mock" else check_model(req.model)


def _questions(req: OptimizeRequest) -> str:
    """The given file, or the model folder's own eval.jsonl; empty when there is none."""
    own = Path(req.model or "") / "eval.jsonl"
    if req.questions:
        if not Path(req.questions).is_file():
            raise WrongUse(
                "no such file",
                where=f"--questions {req.questions}",
                next='a line is {"question": "...", "answer": "..."}',
            )
        return str(Path(req.questions).absolute())
    return str(own.absolute()) if req.model and own.is_file() else ""


def _chosen(found: tuple[Arm, ...], names: str) -> tuple[Arm, ...]:
    wanted = [n.strip() for n in names.split(",") if n.strip()]
    known = {a.id: a for a in found[2:]}
    lacking = [n for n in wanted if n not in known]
    if lacking:
        raise WrongUse(f"unknown lever {', '.join(lacking)}; here there are {', '.join(known)}", where="--levers")
    return (*found[:2], *(known[n] for n in wanted))


def _dry(plan: Plan, world: World) -> Result:
    shown = [shown_command(plan, a, world) for a in plan.arms]
    return Result({"commands": shown, "plan": plan.to_json()}, "\n".join(command_line(s) for s in shown))


OP = Op(
    "optimize", "Take a model through the road: baseline, tune, bench, champion, report.", Safety.WRITES_ARTIFACTS, OptimizeRequest, run,
    mcp_name="optimize", examples=("pao optimize --model ./my-model --engines vllm --focus throughput --budget-minutes 30",),
)  # fmt: skip
