"""pao atlas_aggregate: the trials of a campaign as atlas rows."""

from __future__ import annotations

from profile_and_optimize.analysis.atlas import rows
from profile_and_optimize.analysis.imported import imported_rows
from profile_and_optimize.ops.acts import writes
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, evidence_and_decision
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.report.status import coverage_line


class AtlasAggregateRequest(CampaignRequest):
    pass


def run(req: AtlasAggregateRequest, say: Say) -> Result:
    ev, d = evidence_and_decision(req.path())
    written = publish(ev, d)
    found = rows(ev, d)
    coverage, imported = coverage_line(ev, found), imported_rows(ev.imported, ev.run.name)
    data = {
        "campaign": ev.run.name,
        "coverage": coverage,
        "rows": len(found),
        "imported": len(imported),
        "written": written,
    }
    return closed(Result(data, f"{coverage}\n{ev.run / 'atlas.jsonl'}", ev.damaged), ev.run)


OP = Op(
    "atlas_aggregate", "Aggregate a campaign's trials into atlas.jsonl.", Safety.WRITES_ARTIFACTS, AtlasAggregateRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_atlas_aggregate", acts=writes, examples=("pao atlas_aggregate my-campaign",),
)  # fmt: skip
