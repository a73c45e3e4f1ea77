"""report_pages.json: the lines that were typed, the digest of the pages, and what drew them; all that a redrawing needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from profile_and_optimize.analysis.rederive import pretty
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.report.pages.model import Report
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.report.words import stamp_words

PDF, RECORD = "report.pdf", "report_pages.json"


@dataclass(frozen=True, slots=True)
class Record:
    options: Options
    drawn_with: str


def record_bytes(report: Report, record: Record) -> bytes:
    s = report.stamp
    return pretty({
        "schema": 1, "campaign": s.campaign, "rendered": stamp_words(s.rendered), "evidence_root": s.evidence_root,
        "options": asdict(record.options), "drawn_with": record.drawn_with, "pages": [p.title for p in report.pages],
        "pages_sha256": report.digest, "coverage": report.coverage, "omitted_pages": [asdict(o) for o in report.omitted],
    })  # fmt: skip


def read_record(run: Path) -> Record | None:
    """What the run's PDF was drawn from; None where it has none. Raises Corrupted for anything else in its place."""
    path = run / RECORD
    if not (run / PDF).is_file() and not path.is_file():
        return None
    try:
        found = read_json(path)
        return Record(Options(**found["options"]), str(found["drawn_with"])[:200])
    except (KeyError, TypeError, WrongUse) as e:
        raise Corrupted(
            f"does not say what {PDF} was drawn from: {e}", where=str(path), next="pao report_render RUN"
        ) from e
