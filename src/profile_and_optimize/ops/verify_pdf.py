"""verify's look at report.pdf: the pages are derived again and their digest held against the one in the file; where the same
libraries are installed, the file is drawn again and compared byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.evidence.manifest import SCHEMA
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.ops.verifying.findings import Findings
from profile_and_optimize.report.pages.model import Report
from profile_and_optimize.report.pages.record import PDF, RECORD, Record, read_record, record_bytes
from profile_and_optimize.report.pdf.stamp import drawn_with, expected, page_count, read_stamp
from profile_and_optimize.report.words import plain

# Drawing takes some hundredths of a second a page; verify stays quick on large runs.
MOST_CELLS = 100
HOW = "(re-derive with: pao report_render RUN)"


def check_pdf(run: Path, ev: Evidence, manifest: Mapping[str, Any], found: Findings) -> list[str]:
    """Each problem as a line; nothing where the run has no PDF. What could not be drawn again is named as not covered."""
    there = [name for name in (PDF, RECORD) if (run / name).is_file()]
    if len(there) == 1:
        return [f"{there[0]}: the other one, {PDF if there[0] == RECORD else RECORD}, is missing {HOW}"]
    record = read_record(run)
    if record is None:
        found.facts["pdf"] = "none in this run"
        return []
    # Imported here: what lays pages out is only needed where there is a PDF.
    from profile_and_optimize.report.pages.build import report_of
    from profile_and_optimize.report.pages.campaign import source_of

    report = report_of(source_of(ev, decide(ev), record.options))
    root = str(manifest.get("root", "")) if manifest.get("schema") == SCHEMA else ""
    data = read_bytes(run / PDF)
    problems = (
        [f"{RECORD}: not what the records give {HOW}"]
        if read_bytes(run / RECORD) != record_bytes(report, record)
        else []
    )
    problems += _stamp(data, report, root)
    return problems or _drawn_again(data, report, record, root, found)


def _stamp(data: bytes, report: Report, root: str) -> list[str]:
    seen, pages = read_stamp(data), page_count(data)
    problems = [
        f"{PDF}: its {name} are not those of the pages that the records give {HOW}"
        for name, true in expected(report, root).items()
        if seen[name] != true
    ]
    if pages != len(report.pages):
        problems.append(f"{PDF}: {pages} pages, the records give {len(report.pages)} {HOW}")
    return problems


def _drawn_again(data: bytes, report: Report, record: Record, root: str, found: Findings) -> list[str]:
    reason = _not_comparable(report, record)
    found.facts["pdf"] = "digest and stamp compared" if reason else "drawn again"
    if reason:
        found.not_covered.append(
            f"{PDF}: only its digest and its stamp were compared, it was not drawn again: {reason}"
        )
        return []
    from profile_and_optimize.report.pdf.write import pdf_of

    found.facts["derived_files"] = found.facts.get("derived_files", 0) + 2
    same = pdf_of(report, root=root) == data
    return [] if same else [f"{PDF}: not what its pages look like when they are drawn {HOW}"]


def _not_comparable(report: Report, record: Record) -> str:
    if report.cells > MOST_CELLS:
        return f"{report.cells} cells, more than {MOST_CELLS}"
    here = drawn_with()
    return "" if record.drawn_with == here else f"drawn with {plain(record.drawn_with)}, here is {here}"
