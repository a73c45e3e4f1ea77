"""pao campaign_init: a campaign folder from a config file."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import Field

from profile_and_optimize.evidence.folder import workspace
from profile_and_optimize.ops.base import AllowsCode, Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import create, source_text
from profile_and_optimize.ops.config import load_config, plan_of


class CampaignInitRequest(AllowsCode):
    config: str = Field(description="a campaign file; docs/campaign.md lists its keys")
    campaigns_dir: str | None = Field(default=None, description="where runs live; default ./campaigns")


def run(req: CampaignInitRequest, say: Say) -> Result:
    path = Path(req.config)
    plan = plan_of(load_config(path), at=time.time(), say=say)
    made = create(
        plan,
        workspace(req.campaigns_dir),
        source_text(plan, f"campaign_init --config {path.name}"),
        path.read_bytes(),
        allowed=req.allowance,
    )
    cells = [a.id for a in plan.arms]
    text = f"{made}\n{len(cells)} cells: {', '.join(cells)}\nnext: pao campaign_run {made} --dry-run"
    return Result({"campaign": made.name, "path": str(made), "cells": cells}, text)


OP = Op(
    "campaign_init", "Make a campaign folder from a config file; nothing is started.", Safety.WRITES_ARTIFACTS, CampaignInitRequest, run,
    positional=(), mcp_name="perf_tune_report_campaign_init", examples=("pao campaign_init --config campaign.yaml",),
)  # fmt: skip
