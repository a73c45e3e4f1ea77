"""pao report_render: the page, the text, the champion's files."""

from __future__ import annotations

from typing import Literal

from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, evidence_and_decision
from profile_and_optimize.optimize.publish import write_aggregates, write_champion, write_report


class ReportRenderRequest(CampaignRequest):
    format: Literal["all", "html", "text"] = "all"


def run(req: ReportRenderRequest, say: Say) -> Result:
    ev, d = evidence_and_decision(req.path())
    write_aggregates(ev, d)
    write_champion(ev, d)
    written = write_report(ev, d)
    data = {"campaign": ev.run.name, "written": written, "html": str(ev.run / "report.html"), "evidence_root": ev.root}
    page = f"{ev.run / 'report.html'}"
    text = (ev.run / "report.txt").read_text()
    return Result(data, {"html": page, "text": text, "all": f"{text}\n{page}"}[req.format], ev.damaged)


OP = Op(
    "report_render", "Render the report of a campaign: HTML page, text, CHAMPION.md, serve.sh.", Safety.WRITES_ARTIFACTS,
    ReportRenderRequest, run, positional=("campaign",), mcp_name="perf_tune_report_report_render",
    examples=("pao report_render my-campaign --format text",),
)  # fmt: skip
