"""pao cell_run: one session of one cell, in the first block that lacks it."""

from __future__ import annotations

from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.run import run_one_session
from profile_and_optimize.core.names import checked_id
from profile_and_optimize.ops.base import Acknowledged, Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, command_line, opened, plan_at, shown_command
from profile_and_optimize.ops.worlds import make_world


class CellRunRequest(CampaignRequest, Acknowledged):
    cell: str
    python: str | None = None


def run(req: CellRunRequest, say: Say) -> Result:
    req.require_ack()
    checked_id(req.cell, "--cell")
    path = req.path()
    draft = plan_at(path)
    arm = draft.arm(req.cell)
    world = make_world({a.engine for a in draft.arms}, say, req.python, draft.client)
    conduct.check_flags(draft, world)
    if req.dry_run:
        shown = shown_command(draft, arm, world)
        return Result({"campaign": path.name, "commands": [shown]}, command_line(shown))
    with opened(path) as folder:
        plan = conduct.admit(folder, world)
        block = run_one_session(folder, conduct.confirmed(folder, plan, world), world, arm.id)
    data = {"campaign": path.name, "cell": arm.id, "block": block}
    return Result(data, f"{arm.id} ran in block {block}\nnext: the block's other cells, or pao atlas_aggregate {path}")


OP = Op(
    "cell_run", "Run one session of one cell.", Safety.SUBMITS_JOBS, CellRunRequest, run, positional=("campaign",),
    mcp_name="perf_tune_report_cell_run", examples=("pao cell_run my-campaign --cell eager --dry-run",),
)  # fmt: skip
