"""pao optimize: a model in, a checked champion out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.checkpoints import JOBS
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.core.opens import FLAGS, RUN
from profile_and_optimize.evidence.folder import RunFolder, find_run, workspace
from profile_and_optimize.ops import quant_arms
from profile_and_optimize.ops.acts import SERVING, Acts, long_if
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import opened, plan_at
from profile_and_optimize.ops.corpus import is_fetched
from profile_and_optimize.ops.drafting import Quantized, checked, draft, measure, measures, outcome
from profile_and_optimize.ops.evaluation.target import flags_of
from profile_and_optimize.ops.node import facts
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.quant_arms import QuantRequest
from profile_and_optimize.ops.started import Started, of_plan
from profile_and_optimize.ops.worlds import checked_engines, make_world
from profile_and_optimize.optimize.levers import arms, chosen, find_levers, left_out, table
from profile_and_optimize.optimize.on_top import MOST_BY_DEFAULT, OnTop, on_top
from profile_and_optimize.optimize.phases import road, walk
from profile_and_optimize.optimize.quantized import Quantize

# Baseline, A/A arm and two levers; every further engine adds its own defaults.
ARMS = 4


class OptimizeRequest(QuantRequest):
    engines: str = Field(default="vllm", description=says("engines", "the incumbent first: vllm,sglang"))
    levers: str | None = Field(
        default=None,
        description="levers to try, separated by commas; default: the first that exist here; pao levers lists them",
    )
    levers_on_top: bool = Field(
        default=False,
        description="try levers on top of the most promising checkpoint of --quant-target too, so that the pick may be both",
    )
    max_arms: int | None = Field(
        default=None, ge=3, le=100, description="most variants, with the baseline and its A/A control"
    )
    engine_flags: Annotated[str | None, FLAGS] = Field(
        default=None, description=says("engine_flags", "for every variant")
    )
    eager_after_s: float | None = Field(
        default=None, gt=0, lt=1e6,
        description="without compilation (the lever eager) for every variant, where the baseline is not ready after so many seconds",
    )  # fmt: skip
    resume: Annotated[str | None, RUN] = Field(default=None, description=says("resume"))
    extend: int = Field(default=0, ge=0, le=100, description=says("extend"))

    @property
    def submits(self) -> bool:
        """A run that was killed before its plan was fixed goes on with its quantization."""
        if self.quant_target is not None or self.resume is None:
            return self.quant_target is not None
        try:
            path = find_run(self.resume, workspace(self.campaigns_dir))
        except PaoError:
            return False
        return (path / JOBS).is_dir() and not (path / conduct.PLAN).exists()


def acts(req: OptimizeRequest) -> Acts:
    """A run that goes on runs, whatever `dry_run` says."""
    return SERVING if req.resume else measures(req) | long_if(req.quant_target is not None and is_fetched(req.calib))


def started(req: OptimizeRequest) -> Started:
    """The run's own plan, or what may be chosen of our tables: which of it exists here is known once the engine was asked."""
    if req.resume:
        path = find_run(req.resume, workspace(req.campaigns_dir))
        return of_plan(path, plan_at(path))
    wanted = {name.strip() for name in (req.levers or "").split(",") if name.strip()}
    names = [n.strip() for n in req.engines.split(",") if n.strip()]
    found = [(n, lever) for n in names for lever in table(n) if not wanted or lever.id in wanted]
    arms = tuple(Arm(f"{n}-{one.id}", n, Role.CANDIDATE, one.flags, one.env) for n, one in found)
    return Started(arms, common_flags=flags_of(req.engine_flags), choice=True)


def run(req: OptimizeRequest, say: Say) -> Result:
    if req.extend and not req.resume:
        raise WrongUse("only a campaign that ran can be extended", where="--extend", next="--resume RUN --extend 4")
    if req.resume:
        return _go_on(req, say)
    _require_one_to_tune(req)
    req.require_ack()
    engines = checked_engines(req.engines)
    model = checked(req.model, engines)
    world = make_world(engines, say, req.engine_python, allowed=req.allowance)
    about = facts(world, engines[0], model)
    jobs = quant_arms.jobs_of(req, model, engines[0], about, say)
    made = quant_arms.arms_of(req, jobs, engines[0], req.focus, about)
    quantized = Quantized(quant_arms.VENDOR if req.vendor else "", req.tolerance_points) if made else None
    plan = draft(req, model, arms_of(req, engines, model, world, made), world, quantized)
    plan = replace(plan, common_flags=flags_of(req.engine_flags), **_start_limit(req, engines))

    def prepare(folder: RunFolder) -> Quantize:
        quant_arms.keep_jobs(folder, jobs)
        return quant_arms.phase(jobs, req.ptq_python)

    return measure(req, plan, world, "optimize", prepare if jobs else None)


def _start_limit(req: OptimizeRequest, engines: tuple[str, ...]) -> dict[str, Any]:
    """The fields of the plan. Raises WrongUse where not every engine has the lever."""
    if req.eager_after_s is None:
        return {}
    found = {lever.flags for e in engines for lever in table(e) if lever.id == "eager"}
    if len(engines) > 1 or not found:
        raise WrongUse(
            f"{', '.join(engines)}: only vllm alone can be started without compilation",
            where="--eager-after-s",
            next="leave it out",
        )
    return {"start_limit_s": req.eager_after_s, "slow_start_flags": found.pop()}


def _require_one_to_tune(req: OptimizeRequest) -> None:
    """Raises WrongUse for levers on top of nothing, and for ones that would help ours against a vendor's served without them."""
    if req.levers_on_top and req.quant_target is None:
        raise WrongUse(
            "there is no checkpoint of ours to put levers on", where="--levers-on-top", next="add --quant-target int8"
        )
    if req.levers_on_top and req.vendor:
        raise WrongUse(
            "ours with levers against the vendor's without them is not like for like", where="--levers-on-top --vendor",
            next="compare them without levers first (leave --levers-on-top out), then put levers on the one that ships: a row of arms.tsv "
            "may name a checkpoint and flags",
        )  # fmt: skip


def _go_on(req: OptimizeRequest, say: Say) -> Result:
    path = find_run(req.resume or "", workspace(req.campaigns_dir))
    plan = plan_at(path)
    world = make_world({a.engine for a in plan.arms}, say, req.engine_python, allowed=req.allowance)
    if req.extend and not (path / conduct.PLAN).exists():
        raise WrongUse("its planned blocks are not fixed yet", where="--extend", next=f"pao optimize --resume {path}")
    jobs = quant_arms.kept_jobs(path, plan)
    quantize = quant_arms.phase(jobs, req.ptq_python) if jobs and not (path / conduct.PLAN).exists() else None
    if quantize is not None:
        req.require_ack()
    with opened(path) as folder:
        if req.extend:
            conduct.extend(folder, conduct.admit(folder, world), req.extend)
        walk(road(None, quantize, any(a.checkpoint for a in plan.all_arms)), folder, world)
    return outcome(path)


def arms_of(
    req: OptimizeRequest, engines: tuple[str, ...], model: str, world: World, checkpoints: tuple[Arm, ...] = ()
) -> tuple[Arm, ...]:
    """The arms that exist here, checkpoints before levers; what was left out is said by name. Raises WrongUse for an engine
    without levers alone."""
    about = {e: facts(world, e, model) for e in engines}
    found = {e: find_levers(e, about[e], world.engine(e).flags()) for e in engines}
    for engine in engines:
        for line in left_out(found[engine]):
            world.say(f"skipped for {engine}: {line}")
    levers = chosen(req.levers, engines, found) if req.levers else {e: found[e].here for e in engines}
    stacked = _stacked(
        req, checkpoints, [lv.arm(engines[0], req.focus, about[engines[0]]) for lv in levers[engines[0]]]
    )
    for line in stacked.words() if stacked else ():
        world.say(f"levers {line}")
    both = stacked.arms if stacked else ()
    taken = len(checkpoints) + (len(both) if req.max_arms else 0)
    most = 100 if req.levers else max(2, (req.max_arms or ARMS + len(engines) - 1) - taken)
    tuned = arms(engines, req.focus, about, levers, most)
    made = (*tuned[:2], *checkpoints, *both, *tuned[2:])
    if len(made) < 3:
        raise WrongUse(
            f"no lever of {engines[0]} exists here", where="--engines", next="pao levers, or a campaign file"
        )
    return made


def _stacked(req: OptimizeRequest, checkpoints: tuple[Arm, ...], levers: Sequence[Arm]) -> OnTop | None:
    """Named levers all go on top; of the table's, as many as `--max-arms` leaves room for, half of it to levers alone."""
    if not req.levers_on_top:
        return None
    room = MOST_BY_DEFAULT if req.max_arms is None else max(0, req.max_arms - 2 - len(checkpoints) + 1) // 2
    return on_top(checkpoints, levers, len(levers) if req.levers else room)


OP = Op(
    "optimize", "Take a model through the road: baseline, tune, bench, champion, report.", Safety.SUBMITS_JOBS, OptimizeRequest, run,
    mcp_name="optimize", acts=acts, started=started,
    examples=(
        "pao optimize --model ./my-model --engines vllm --focus throughput --budget-minutes 30",
        "pao optimize --model ./my-model --engines vllm,sglang --budget-minutes 60",
        "pao optimize --model ./my-model --quant-target int8,nvfp4 --questions questions.jsonl --i-understand-this-submits-jobs",
        "pao optimize --model ./my-model --quant-target int8 --levers-on-top --questions questions.jsonl --dry-run",
    ),
)  # fmt: skip
