"""pao report_render: the page, the PDF, the text, the champion's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import OUT
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.ops.acts import writes
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, evidence_and_decision
from profile_and_optimize.ops.closing import closed, root_in
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.report_smoke import pdf_path
from profile_and_optimize.optimize.publish import pdf_bytes, publish
from profile_and_optimize.report.pages.record import PDF
from profile_and_optimize.report.pages.source import Options


class ReportRenderRequest(CampaignRequest):
    format: Literal["all", "html", "text", "pdf"] = Field(
        default="all",
        description=says("format", "html and text draw no PDF, unless one is there, which is kept in step"),
    )
    variants_line: str = Field(default="", description=says("variants_line"))
    data_source_line: str = Field(default="", description=says("data_source_line"))
    out: Annotated[str | None, OUT] = Field(
        default=None, description=says("out", f"of the PDF, which is then not written into the run; default: RUN/{PDF}")
    )


def run(req: ReportRenderRequest, say: Say) -> Result:
    path = req.path()
    out = _elsewhere(req.out, path) if req.out else None
    typed = Options(req.variants_line, req.data_source_line)
    ev, d = evidence_and_decision(path)
    inside = out is None and req.format in ("all", "pdf")
    written = publish(ev, d, typed if inside else None)
    if out is not None:
        write_atomic(out, pdf_bytes(ev, d, typed, root_in(path)))
    return _result(req, ev, d, written, out or (path / PDF if (path / PDF).is_file() else None))


def _result(req: ReportRenderRequest, ev: Evidence, d: Decision, written: list[str], pdf: Path | None) -> Result:
    page, text = str(ev.run / "report.html"), (ev.run / "report.txt").read_text()
    status = read_json(ev.run / "report_status.json")
    keys = ("status", "sol_complete", "focus", "sol_rigor", "verdict_tier", "coverage", "omitted_pages")
    data: dict[str, Any] = {
        "campaign": ev.run.name, "written": written, "html": page, "pdf": str(pdf) if pdf else None, "evidence_root": ev.root,
        "render_status": {k: status[k] for k in keys},
    }  # fmt: skip
    shown = {
        "html": page,
        "text": text,
        "pdf": str(pdf),
        "all": "\n".join(x for x in (text, page, str(pdf or "")) if x),
    }
    left_out = tuple(f"page left out: {o['page']}: {o['reason']}" for o in status["omitted_pages"]) if pdf else ()
    return closed(Result(data, shown[req.format], (*ev.damaged, *left_out)), ev.run)


def _elsewhere(given: str, run: Path) -> Path | None:
    """A place outside of the run; None for the run's own report.pdf. Raises WrongUse for any other place in a run."""
    out = pdf_path(given)
    if out.resolve() == (run / PDF).resolve():
        return None
    if out.resolve().is_relative_to(run.resolve()):
        raise WrongUse(
            f"in the run it is called {PDF}",
            where=f"--out {given}",
            next="leave --out away, or name a place outside of the run",
        )
    return out


OP = Op(
    "report_render", "Render the report of a campaign: HTML page, PDF, text, CHAMPION.md, serve.sh.", Safety.WRITES_ARTIFACTS,
    ReportRenderRequest, run, positional=("campaign",), mcp_name="perf_tune_report_report_render", acts=writes,
    examples=("pao report_render my-campaign --format text", "pao report_render my-campaign --format pdf --out report.pdf"),
)  # fmt: skip
