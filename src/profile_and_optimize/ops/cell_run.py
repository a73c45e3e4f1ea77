"""pao cell_run: one session of one cell, in the first block that lacks it; or the cell's loads by another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.proof import began
from profile_and_optimize.campaign.run import run_one_session
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.code_settings import refuse_start
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import checked_id
from profile_and_optimize.core.opens import MODEL, URL
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import read_journal
from profile_and_optimize.ops.acts import serves
from profile_and_optimize.ops.base import Acknowledged, AllowsCode, Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, command_line, opened, plan_at, shown_command
from profile_and_optimize.ops.foreign import measure
from profile_and_optimize.ops.foreign.wanted import wanted_of
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import Started, of_plan
from profile_and_optimize.ops.worlds import ENGINE_PYTHON, make_world

FOREIGN = ("endpoint_url", "served_model", "tokenizer", "workload_iters", "num_runs")


class CellRunRequest(CampaignRequest, AllowsCode, Acknowledged):
    cell: str = Field(description="id of the cell in the campaign")
    backend: Literal["pao", "vllm-sweep", "aiperf"] = Field(
        default="pao", description=says("backend", "pao: a session whose trials count; the others: figures of that tool, DRAFT material")
    )  # fmt: skip
    engine_python: Annotated[str | None, ENGINE_PYTHON] = Field(default=None, description=says("engine_python"))
    endpoint_url: Annotated[str | None, URL] = Field(
        default=None, description=says("endpoint_url", "in place of the cell's own")
    )
    served_model: str | None = Field(default=None, description=says("served_model"))
    tokenizer: Annotated[str | None, MODEL] = Field(
        default=None, description=says("tokenizer", "default: the campaign's")
    )
    workload_iters: int | None = Field(
        default=None, ge=2, le=100, description="concurrencies that vllm-sweep chooses itself (serve_workload)"
    )
    num_runs: int | None = Field(default=None, ge=1, le=20, description="runs of every load for vllm-sweep; default: 1")


def started(req: CellRunRequest) -> Started:
    """All arms: a session admits every arm of its campaign first."""
    return of_plan(req.path(), plan_at(req.path()))


def run(req: CellRunRequest, say: Say) -> Result:
    req.require_ack()
    checked_id(req.cell, "--cell")
    _refuse(req)
    path = req.path()
    draft = plan_at(path)
    arm = _proving(path, draft).arm(req.cell)
    return _session(req, path, draft, arm, say) if req.backend == "pao" else _foreign(req, path, draft, arm, say)


def _proving(path: Path, plan: Plan) -> Plan:
    """The plan with the twin of the pick, where its proof was begun."""
    pick = began(read_journal(path / JOURNAL).events)
    return plan if pick is None else plan.proving(pick)


def _refuse(req: CellRunRequest) -> None:
    """Raises WrongUse for options that mean nothing here."""
    given = [name for name in FOREIGN if getattr(req, name) is not None]
    if req.backend == "pao" and given:
        raise WrongUse(
            "is for --backend vllm-sweep or aiperf", where="--" + given[0].replace("_", "-"),
            next="a session takes its server from the campaign file: engine, or engine: endpoint with a url",
        )  # fmt: skip


def _session(req: CellRunRequest, path: Path, draft: Plan, arm: Arm, say: Say) -> Result:
    world = make_world({a.engine for a in draft.arms}, say, req.engine_python, draft.client, allowed=req.allowance)
    conduct.check_flags(draft, world)
    if req.dry_run:
        shown = shown_command(draft, arm, world)
        return Result({"campaign": path.name, "commands": [shown]}, command_line(shown))
    with opened(path) as folder:
        plan = conduct.admit(folder, world)
        exploring = conduct.confirmed(folder, plan, world)
        proving = conduct.begin_proof(folder, exploring, world)
        if proving is not None and arm.id in proving.groups[0]:
            block = run_one_session(folder, proving, world, arm.id, Stage.PROVE)
        else:
            block = run_one_session(folder, exploring, world, arm.id)
    data = {"campaign": path.name, "cell": arm.id, "block": block}
    return Result(data, f"{arm.id} ran in block {block}\nnext: the block's other cells, or pao atlas_aggregate {path}")


def _foreign(req: CellRunRequest, path: Path, draft: Plan, arm: Arm, say: Say) -> Result:
    refuse_start(draft, req.allowance)
    wanted = wanted_of(
        req.backend, draft, arm, url=req.endpoint_url, model=req.served_model, tokenizer=req.tokenizer,
        levels=req.workload_iters or 0, runs=req.num_runs or 1, python=req.engine_python,
        allowed=req.allowance,
    )  # fmt: skip
    return measure.dry_run(path, wanted) if req.dry_run else measure.run(path, wanted, say)


OP = Op(
    "cell_run", "Run one session of one cell, or measure it by another tool.", Safety.SUBMITS_JOBS, CellRunRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_cell_run", acts=serves, started=started,
    examples=(
        "pao cell_run my-campaign --cell eager --dry-run",
        "pao cell_run my-campaign --cell eager --backend vllm-sweep --i-understand-this-submits-jobs",
        "pao cell_run my-campaign --cell eager --backend aiperf --endpoint-url http://127.0.0.1:8000 --dry-run",
    ),
)  # fmt: skip
