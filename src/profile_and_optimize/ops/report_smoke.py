"""pao report_smoke: the report's layout on synthetic numbers, without a campaign."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import OUT
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.ops.acts import writes
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.options import says
from profile_and_optimize.report.pages.build import report_of
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.testing.smoke import smoke_source


class ReportSmokeRequest(Request):
    out: Annotated[str, OUT] = Field(
        default="report-smoke.pdf", description=says("out", "of the PDF; its name ends in .pdf")
    )
    variants_line: str = Field(default="", description=says("variants_line"))
    data_source_line: str = Field(default="", description=says("data_source_line"))


def run(req: ReportSmokeRequest, say: Say) -> Result:
    out = pdf_path(req.out)
    report = report_of(smoke_source(Options(req.variants_line, req.data_source_line)))
    from profile_and_optimize.report.pdf.write import pdf_of  # matplotlib is imported when a page is drawn, not before

    begin, took = time.perf_counter(), list[float]()
    write_atomic(out, pdf_of(report, took))
    spent = time.perf_counter() - begin
    data = {
        "out": str(out), "synthetic": True, "coverage": report.coverage, "pages": [p.title for p in report.pages],
        "page_ms": [round(1e3 * t, 1) for t in took], "omitted_pages": [asdict(o) for o in report.omitted],
    }  # fmt: skip
    text = f"{out}\nSYNTHETIC: nothing in it was measured\n{report.coverage}\n{len(took)} pages in {1e3 * spent:.0f} ms"
    return Result(data, text)


def pdf_path(given: str) -> Path:
    """A place that a PDF may be written to. Raises WrongUse, so that no other file is overwritten by a slip."""
    path = Path(given)
    if path.suffix.lower() != ".pdf" or path.is_dir():
        raise WrongUse("the name of a PDF ends in .pdf", where=f"--out {given}", next="--out report.pdf")
    return path


OP = Op(
    "report_smoke", "Render the report on synthetic numbers, to see its layout; no campaign, no cluster.", Safety.WRITES_ARTIFACTS,
    ReportSmokeRequest, run, mcp_name="perf_tune_report_report_smoke", acts=writes, examples=("pao report_smoke --out smoke.pdf",),
)  # fmt: skip
