"""pao optimize: a model in, a checked champion out."""

from __future__ import annotations

from pydantic import Field

from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.folder import find_run, workspace
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import opened, plan_at
from profile_and_optimize.ops.drafting import TuneRequest, checked, checked_engines, draft, measure, outcome
from profile_and_optimize.ops.node import facts
from profile_and_optimize.ops.worlds import make_world
from profile_and_optimize.optimize.levers import arms, chosen, find_levers, left_out
from profile_and_optimize.optimize.phases import road, walk

# Baseline, A/A arm and two levers; every further engine adds its own defaults.
ARMS = 4


class OptimizeRequest(TuneRequest):
    engines: str = Field(default="vllm", description="one or more, the incumbent first: vllm,sglang")
    levers: str | None = Field(
        default=None, description="these levers, not the first that exist here; pao levers lists them"
    )
    max_arms: int | None = Field(default=None, ge=3, le=100, description="arms in all, baseline and A/A arm included")
    resume: str | None = Field(default=None, description="go on with a run that was killed")
    extend: int = Field(default=0, ge=0, le=100, description="blocks to add to a run that ended open")


def run(req: OptimizeRequest, say: Say) -> Result:
    if req.extend and not req.resume:
        raise WrongUse("only a campaign that ran can be extended", where="--extend", next="--resume RUN --extend 4")
    if req.resume:
        return _go_on(req, say)
    engines = checked_engines(req.engines)
    model = checked(req.model, engines)
    world = make_world(engines, say, req.python)
    return measure(req, draft(req, model, arms_of(req, engines, model, world), world), world, "optimize")


def _go_on(req: OptimizeRequest, say: Say) -> Result:
    path = find_run(req.resume or "", workspace(req.campaigns_dir))
    world = make_world({a.engine for a in plan_at(path).arms}, say, req.python)
    with opened(path) as folder:
        if req.extend:
            conduct.extend(folder, conduct.admit(folder, world), req.extend)
        walk(road(None), folder, world)
    return outcome(path)


def arms_of(req: OptimizeRequest, engines: tuple[str, ...], model: str, world: World) -> tuple[Arm, ...]:
    """The arms that exist here; what was left out is said by name. Raises WrongUse for an engine without levers alone."""
    about = {e: facts(world, e, model) for e in engines}
    found = {e: find_levers(e, about[e], world.engine(e).flags()) for e in engines}
    for engine in engines:
        for line in left_out(found[engine]):
            world.say(f"skipped for {engine}: {line}")
    levers = chosen(req.levers, engines, found) if req.levers else {e: found[e].here for e in engines}
    most = 100 if req.levers else req.max_arms or ARMS + len(engines) - 1
    made = arms(engines, req.focus, about, levers, most)
    if len(made) < 3:
        raise WrongUse(
            f"no lever of {engines[0]} exists here", where="--engines", next="pao levers, or a campaign file"
        )
    return made


OP = Op(
    "optimize", "Take a model through the road: baseline, tune, bench, champion, report.", Safety.WRITES_ARTIFACTS, OptimizeRequest, run,
    mcp_name="optimize",
    examples=(
        "pao optimize --model ./my-model --engines vllm --focus throughput --budget-minutes 30",
        "pao optimize --model ./my-model --engines vllm,sglang --budget-minutes 60",
    ),
)  # fmt: skip
