"""pao atlas_aggregate: the trials of a campaign as atlas rows."""

from __future__ import annotations

from collections import Counter

from profile_and_optimize.analysis.atlas import rows
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, evidence_and_decision
from profile_and_optimize.optimize.publish import write_aggregates


class AtlasAggregateRequest(CampaignRequest):
    pass


def run(req: AtlasAggregateRequest, say: Say) -> Result:
    ev, d = evidence_and_decision(req.path())
    written = write_aggregates(ev, d)
    found = rows(ev, d)
    states = Counter(r["status"] for r in found)
    points = sum(bool(r["blocks"]) for r in found)
    coverage = (
        f"Coverage: {len(found)} atlas cells | {states['full']} full sweeps | {states['partial']} partial sweeps | "
        f"{states['failed']} failed cells | {points} plot-ready concurrency points"
    )
    data = {"campaign": ev.run.name, "coverage": coverage, "rows": len(found), "written": written}
    return Result(data, f"{coverage}\n{ev.run / 'atlas.jsonl'}", ev.damaged)


OP = Op(
    "atlas_aggregate", "Aggregate a campaign's trials into atlas.jsonl.", Safety.WRITES_ARTIFACTS, AtlasAggregateRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_atlas_aggregate", examples=("pao atlas_aggregate my-campaign",),
)  # fmt: skip
