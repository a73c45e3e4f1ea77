"""pao campaign_init: a campaign folder from a config file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import CAMPAIGN, OUT
from profile_and_optimize.evidence.folder import workspace
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.ops.acts import Act, Acts, fetches, long_if
from profile_and_optimize.ops.base import AllowsCode, Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import create, source_text
from profile_and_optimize.ops.config import MOST_BYTES, config_of, fixed_by_config, load_config, plan_of
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields


class CampaignInitRequest(AllowsCode):
    config: Annotated[str, CAMPAIGN] = Field(description="campaign file; docs/campaign.md lists its keys")
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


def acts(req: CampaignInitRequest) -> Acts:
    return long_if(fetches(fixed_by_config(load_config(Path(req.config)))["points"]), Act.WRITES)


def run(req: CampaignInitRequest, say: Say) -> Result:
    path = Path(req.config)
    data = read_given(path, MOST_BYTES)
    try:
        plan = plan_of(config_of(data, path), at=time.time(), say=say)
    except WrongUse as e:
        e.next = e.next or f"correct {path.name}; docs/campaign.md lists its keys"
        raise
    source = source_text(plan, f"campaign_init --config {path.name}")
    made = create(plan, workspace(req.campaigns_dir), source, data, allowed=req.allowance)
    cells = [a.id for a in plan.arms]
    text = f"{made}\n{len(cells)} cells: {', '.join(cells)}\nnext: pao campaign_run {made} --dry-run"
    return Result({"campaign": made.name, "path": str(made), "cells": cells}, text)


OP = Op(
    "campaign_init", "Make a campaign folder from a config file; nothing is started.", Safety.SUBMITS_JOBS, CampaignInitRequest, run,
    positional=(), mcp_name="perf_tune_report_campaign_init", acts=acts, started=by_fields,
    examples=("pao campaign_init --config campaign.yaml",),
)  # fmt: skip
