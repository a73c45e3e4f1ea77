"""From what somebody asks for to the draft of a campaign, and from the draft to its outcome: shared by the verbs that tune."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.analysis.decide import decision_json
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import slug
from profile_and_optimize.core.opens import MODEL, OUT, PATH
from profile_and_optimize.core.plan import FINALISTS, Plan
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evals.exact_match import questions_file
from profile_and_optimize.evidence.folder import RunFolder, workspace
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.ops.acts import SERVING, Act, Acts, fetches, long_if
from profile_and_optimize.ops.base import AllowsCode, Result
from profile_and_optimize.ops.campaigns import (
    command_line,
    create,
    evidence_and_decision,
    opened,
    shown_command,
    source_text,
)
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.config import RACE_ROUNDS, SloConfig, fresh_seed, rounds_of
from profile_and_optimize.ops.fits import max_length, require_fit
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.ops.node import facts
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.worlds import ENGINE_PYTHON
from profile_and_optimize.optimize.phases import road, walk
from profile_and_optimize.optimize.quantized import Quantize
from profile_and_optimize.quant.served_as import require_agreeing
from profile_and_optimize.workloads.data import FILES, given_files
from profile_and_optimize.workloads.suites import chosen_points, found_points, suite_points


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a campaign with checkpoints of its own fixes besides its arms: the vendor's arm ("" where there is none), and the
    most points of accuracy that a checkpoint may lose."""

    vendor: str
    tolerance_points: float

    def fields(self) -> dict[str, Any]:
        return {"vendor": self.vendor, "accuracy_margin": self.tolerance_points / 100}


# Engines that serve no model of the user's, so that none is looked at.
PRETEND = frozenset({"mock", "fake"})


class MeasureRequest(AllowsCode):
    """What every verb asks that measures arms which it starts itself."""

    focus: Literal["throughput", "latency", "mixed"] = Field(default="throughput", description=says("focus"))
    budget_minutes: float = Field(default=30.0, gt=0, le=1e6, description=says("budget_minutes"))
    engine_python: Annotated[str | None, ENGINE_PYTHON] = Field(default=None, description=says("engine_python"))
    suite: str = Field(default="demo", description=says("suite"))
    data: Annotated[str | None, FILES] = Field(default=None, description=says("data", "in place of a workload's data"))
    concurrency: int | None = Field(default=None, ge=1, description=says("concurrency", "default: 8"))
    requests: int | None = Field(default=None, description=says("requests"))
    blocks: int | None = Field(default=None, ge=2, description=says("blocks"))
    proof_blocks: int = Field(default=16, ge=0, le=100, description=says("proof_blocks"))
    slo_ttft_ms: float | None = Field(default=None, gt=0, description=says("slo_ttft_ms"))
    slo_tpot_ms: float | None = Field(default=None, gt=0, description=says("slo_tpot_ms"))
    questions: Annotated[str | None, PATH] = Field(
        default=None, description=says("questions", "default: no accuracy gate")
    )
    seed: int | None = Field(default=None, description=says("seed"))
    name: str | None = Field(default=None, description=says("name"))
    dry_run: bool = Field(default=False, description=says("dry_run"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


class TuneRequest(MeasureRequest):
    model: Annotated[str | None, MODEL] = Field(default=None, description=says("model"))


def measures(req: MeasureRequest) -> Acts:
    """A dry run starts nothing, yet finds the data of its suite, which may have to be fetched."""
    if not req.dry_run:
        return SERVING
    found = chosen_points(suite_points(req.suite, req.concurrency, req.requests), given_files(req.data))
    return long_if(fetches(found), Act.WRITES)


def checked(model: str | None, engines: tuple[str, ...]) -> str:
    """The model as the plan keeps it. Raises WrongUse when it is missing or cannot be served."""
    if model is None:
        raise WrongUse("which model?", where="--model", next="give a folder or a Hugging Face id, or --resume RUN")
    return model if set(engines) <= PRETEND else check_model(model)


def draft(
    req: MeasureRequest, model: str, arms: tuple[Arm, ...], world: World, quantized: Quantized | None = None
) -> Plan:
    """The plan before admission, its blocks left to the budget."""
    engines = tuple(dict.fromkeys(a.engine for a in arms))
    for arm in arms:
        require_agreeing(arm)
    for engine in engines:
        _need_compiler(engine, world, model)
    real = not set(engines) <= PRETEND
    questions = _questions(req, model)
    _need_questions(arms, questions)
    return Plan(
        slug=slug(req.name or Path(model).name), **(quantized.fields() if quantized else {}),
        model=model, focus=req.focus, arms=arms, points=_points(req, model, arms, world),
        blocks=req.blocks or 0, proof_blocks=req.proof_blocks,
        seed=req.seed if req.seed is not None else fresh_seed(time.time()), suite=req.suite,
        budget_s=req.budget_minutes * 60, tokenizer=model if real else "", questions=questions,
        model_digest=model_digest(model),
        race_rounds=_race_rounds(arms, quantized),
        slo=SloConfig(ttft_ms=req.slo_ttft_ms, tpot_ms=req.slo_tpot_ms).limits(),
    )  # fmt: skip


def _race_rounds(arms: tuple[Arm, ...], quantized: Quantized | None) -> int:
    """None with a vendor's checkpoint: ours is compared with it in one block, and a race might part them."""
    candidates = len([a for a in arms if a.role is Role.CANDIDATE])
    return rounds_of(False if quantized and quantized.vendor else None, RACE_ROUNDS, candidates)


def _points(req: MeasureRequest, model: str, arms: tuple[Arm, ...], world: World) -> tuple[Point, ...]:
    """Of the suite, with its data found. Raises WrongUse naming the workloads that do not fit into the model."""
    bare = chosen_points(suite_points(req.suite, req.concurrency, req.requests), given_files(req.data))
    for arm in arms:
        require_fit(bare, max_length(model, arm.flags), f"{arm.id} of {model}")
    return found_points(bare, world.say)


def _need_compiler(engine: str, world: World, model: str) -> None:
    """vLLM on CPU compiles by default, so the engine's own defaults cannot start without a C++ compiler."""
    if engine == "vllm":
        found = facts(world, engine, model)
        if found.cpu and not found.compiler:
            raise WrongUse(
                "vLLM compiles with a C++ compiler, and none is installed", where="g++", next="apt-get install -y g++"
            )


def _need_questions(arms: tuple[Arm, ...], questions: str) -> None:
    """Raises WrongUse for checkpoints that nobody could tell from ones that lost their answers."""
    if any(a.checkpoint for a in arms) and not questions:
        raise WrongUse(
            "without questions nobody can tell whether a checkpoint kept its answers", where="--questions",
            next='give a JSONL of {"question": "...", "answer": "..."}, or put eval.jsonl into the model\'s folder',
        )  # fmt: skip


def _questions(req: MeasureRequest, model: str) -> str:
    """The given file, or the model folder's own eval.jsonl; empty when there is none."""
    own = Path(model) / "eval.jsonl"
    if req.questions:
        if not Path(req.questions).is_file():
            raise WrongUse(
                "no such file", where=f"--questions {req.questions}", next='a line is {"question": "...", "answer": "..."}'
            )  # fmt: skip
        return questions_file(Path(req.questions))
    return questions_file(own) if own.is_file() else ""


def measure(
    req: MeasureRequest, plan: Plan, world: World, how: str, prepare: Callable[[RunFolder], Quantize] | None = None
) -> Result:
    """The whole road over a new run of this plan; with --dry-run, its commands. `prepare` makes phase 4 in the new run."""
    if req.dry_run:
        return _dry(plan, world)
    path = create(plan, workspace(req.campaigns_dir), source_text(plan, how), allowed=req.allowance)
    with opened(path) as folder:
        walk(road(None, prepare(folder) if prepare else None, any(a.checkpoint for a in plan.arms)), folder, world)
    return outcome(path)


def _dry(plan: Plan, world: World) -> Result:
    shown = [shown_command(plan, a, world) for a in plan.arms]
    return Result(
        {"commands": shown, "plan": plan.to_json(), "cost": _cost(plan)},
        "\n".join([*map(command_line, shown), f"# {_cost(plan)}"]),
    )


def _cost(plan: Plan) -> str:
    """What a run would make, start and compare, in words."""
    n = len(plan.candidates)
    folders = {Path(a.checkpoint) for a in plan.arms if a.checkpoint}
    missing = sum(f.is_absolute() and not f.is_dir() for f in folders)
    made = f"{missing} checkpoint{'s are' if missing > 1 else ' is'} made first; " if missing else ""
    raced = f"{n} candidates race, and at most {FINALISTS} of them are confirmed" if plan.race_rounds else (
        f"{n} candidate{'s are' if n > 1 else ' is'} compared"
    )  # fmt: skip
    return (
        f"{made}{len(plan.arms)} arms are started once, which fixes the blocks within {plan.budget_s / 60:g} minutes; "
        f"{raced}, error {plan.alpha:.0%} for all together"
    )


def outcome(path: Path) -> Result:
    """The envelope of a finished run, read back from its folder."""
    ev, d = evidence_and_decision(path)
    places = {
        "report": str(path / "report.html"),
        "pdf": str(path / "report.pdf"),
        "champion": str(path / "CHAMPION.md"),
        "serve": str(path / "serve.sh"),
    }
    lines = [
        ("page", places["report"]), ("to print", places["pdf"]), ("champion", places["champion"]), ("start it", places["serve"]),
        ("check it", f"pao verify {path}"),
    ]  # fmt: skip
    text = "\n".join([(path / "report.txt").read_text().rstrip(), "", *(f"{name:<10}{value}" for name, value in lines)])
    return closed(Result({**decision_json(ev, d), "path": str(path), **places}, text, ev.damaged), path)
