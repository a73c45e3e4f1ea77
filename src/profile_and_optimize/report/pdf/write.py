"""report.pdf as bytes: the same pages give the same bytes, whatever the clock, the fonts of the machine or a user's style say."""

from __future__ import annotations

import io
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages

from profile_and_optimize import __version__
from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.report.pages.model import Page, Report
from profile_and_optimize.report.pdf import champion, flow, heat, scatter
from profile_and_optimize.report.pdf.sheet import Sheet, foot
from profile_and_optimize.report.pdf.stamp import LEAST_BYTES, expected, keywords, moment, page_count, read_stamp

DRAW: dict[str, Callable[[Sheet, Any, Report], None]] = {
    "scatter": scatter.draw, "heat": heat.draw, "champion": champion.draw, "completeness": flow.draw,
}  # fmt: skip
# matplotlib's settings are of the whole process: two drawings at once would undo each other's.
_SETTINGS = threading.Lock()
# TrueType, so that text can be searched and copied.
_OWN: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "text.parse_math": False,
    "text.usetex": False,
    "savefig.dpi": 72,
    "figure.dpi": 72,
}


def pdf_of(report: Report, took: list[float] | None = None, *, root: str = "") -> bytes:
    """All pages, with the run's full root in the foot of each. `took` is given the seconds of each. Raises GateRefused for what
    is no such report: a file too small, without its pages or without its stamp."""
    out = io.BytesIO()
    with _SETTINGS, matplotlib.rc_context({**dict(matplotlib.rcParamsDefault), **_OWN}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PdfPages(out, metadata=_metadata(report, root)) as pdf:
            for number, page in enumerate(report.pages, 1):
                begin = time.perf_counter()
                pdf.savefig(_figure(page, report, number, root))
                if took is not None:
                    took.append(time.perf_counter() - begin)
    return checked(out.getvalue(), report, root)


def _figure(page: Page, report: Report, number: int, root: str) -> Any:
    sheet = Sheet()
    DRAW[page.kind](sheet, page, report)
    foot(sheet, report, number, root)
    FigureCanvasPdf(sheet.figure)
    return sheet.figure


def _metadata(report: Report, root: str) -> dict[str, Any]:
    at = moment(report.stamp.rendered)
    return {
        "Title": f"Report of {report.stamp.campaign}".encode("ascii", "replace").decode(), "Creator": f"profile-and-optimize {__version__}",
        "Keywords": keywords(report, root), "CreationDate": at, "ModDate": at,
    }  # fmt: skip


def checked(data: bytes, report: Report, root: str = "") -> bytes:
    """`data` if it is the report that was asked for. Raises GateRefused."""
    pages = page_count(data)
    if len(data) < LEAST_BYTES or not data.startswith(b"%PDF-") or pages != len(report.pages):
        raise GateRefused(
            f"a PDF of {len(data)} bytes and {pages} pages is not a report of {len(report.pages)}", where="report.pdf",
            next="pip install --force-reinstall matplotlib, then pao report_render RUN",
        )  # fmt: skip
    if read_stamp(data) != expected(report, root):
        raise GateRefused("the PDF does not carry its stamp", where="report.pdf", next="report this")
    return data
