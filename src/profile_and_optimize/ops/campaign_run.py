"""pao campaign_run: admit the arms, fix the blocks, run them all. Called again, it goes on where it stopped."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from profile_and_optimize.campaign import conduct
from profile_and_optimize.ops.acts import serves
from profile_and_optimize.ops.base import Acknowledged, AllowsCode, Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import (
    CampaignRequest,
    command_line,
    evidence_and_decision,
    opened,
    plan_at,
    shown_command,
)
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import Started, of_plan
from profile_and_optimize.ops.worlds import ENGINE_PYTHON, make_world
from profile_and_optimize.optimize.publish import publish


class CampaignRunRequest(CampaignRequest, AllowsCode, Acknowledged):
    engine_python: Annotated[str | None, ENGINE_PYTHON] = Field(default=None, description=says("engine_python"))
    extend: int = Field(default=0, ge=0, le=100, description=says("extend"))


def started(req: CampaignRunRequest) -> Started:
    return of_plan(req.path(), plan_at(req.path()))


def run(req: CampaignRunRequest, say: Say) -> Result:
    req.require_ack()
    path = req.path()
    draft = plan_at(path)
    world = make_world({a.engine for a in draft.arms}, say, req.engine_python, draft.client, allowed=req.allowance)
    conduct.check_flags(draft, world)
    if req.dry_run:
        shown = [shown_command(draft, a, world) for a in draft.arms]
        return Result({"campaign": path.name, "commands": shown}, "\n".join(command_line(s) for s in shown))
    with opened(path) as folder:
        plan = conduct.admit(folder, world)
        if req.extend:
            conduct.extend(folder, plan, req.extend)
        selection = conduct.run(folder, plan, world)
    data = {
        "campaign": path.name, "blocks": sorted(selection.blocks), "excluded": {str(k): v for k, v in selection.excluded.items()},
        "failed": [a.id for a in plan.failed],
    }  # fmt: skip
    text = f"{len(selection.blocks)} whole blocks, {len(selection.excluded)} excluded\nnext: pao champion_select {path}"
    publish(*evidence_and_decision(path))
    return closed(Result(data, text), path)


OP = Op(
    "campaign_run", "Run a campaign: every arm in every block, interleaved and restarted.", Safety.SUBMITS_JOBS, CampaignRunRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_campaign_run", acts=serves, started=started,
    examples=(
        "pao campaign_run my-campaign --i-understand-this-submits-jobs",
        "pao campaign_run my-campaign --extend 4 --i-understand-this-submits-jobs",
    ),
)  # fmt: skip
