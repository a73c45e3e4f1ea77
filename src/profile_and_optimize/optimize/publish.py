"""Closes a run: everything that follows from the evidence, and the manifest over it. Rendering makes no journal events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.rederive import aggregates, choice
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.manifest import Rendered, root_of, seal, with_root
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.report.pages.build import report_of
from profile_and_optimize.report.pages.campaign import source_of
from profile_and_optimize.report.pages.record import PDF, RECORD, Record, read_record, record_bytes
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.report.pdf.stamp import drawn_with
from profile_and_optimize.report.render import rendered

# The verb that makes each derived file, and what makes its bytes. A closed run has all of them. The PDF has its own way: see
# `_pdf_record` and `pdf_bytes`.
MAKERS: dict[str, Callable[[Evidence, Decision], dict[str, bytes]]] = {
    "atlas_aggregate": aggregates, "champion_select": choice, "report_render": rendered,
}  # fmt: skip
PDF_MAKER = "report_render"
# Verbs that draw report.pdf for every run they make, by how SOURCE.md begins: such a run has one.
DRAWS_PDF = re.compile(r"^Made by `(?:optimize|ab|run_variant_ab|run_controlled_ab)\b", re.M)
SOURCE = "SOURCE.md"
MOST_SOURCE_BYTES = 1 << 20


def derived(
    ev: Evidence, d: Decision, verbs: Iterable[str] = tuple(MAKERS), *, root: str = ""
) -> dict[str, tuple[str, bytes]]:
    """Every derived file of a run but the PDF, or those of some verbs: path to (the verb that makes it, its bytes). The pages
    show `root`; without one, the stand-in for it."""
    made = ((path, verb, data) for verb in verbs for path, data in MAKERS[verb](ev, d).items())
    return {path: (verb, with_root(path, data, root) if root else data) for path, verb, data in made}


def publish(ev: Evidence, d: Decision, pdf: Options | None = None) -> list[str]:
    """Write every derived file, the manifest, and the root beside the run; give the paths back.

    report.pdf is drawn when `pdf` says so, where there is one already, and where the verb that made the run draws one.
    Half-written files that a kill left behind are removed. Raises GateRefused when the PDF cannot be drawn.
    """
    _sweep(ev)
    files = {path: Rendered(verb, data) for path, (verb, data) in derived(ev, d).items()}
    options = pdf if pdf is not None else _typed(ev)
    followed = {}
    if options is not None:
        files |= {RECORD: Rendered(PDF_MAKER, pdf_record(ev, d, options)), PDF: Rendered(PDF_MAKER, None)}
        followed[PDF] = pdf_bytes(ev, d, options, root_of(ev.run, files))
    seal(ev.run, files, followed)
    (ev.run / "serve.sh").chmod(0o755)
    return sorted(files)


def pdf_record(ev: Evidence, d: Decision, options: Options) -> bytes:
    """report_pages.json: what the PDF is drawn from."""
    return record_bytes(report_of(source_of(ev, d, options)), Record(options, drawn_with()))


def pdf_bytes(ev: Evidence, d: Decision, options: Options, root: str) -> bytes:
    """Only here and in `verify` is matplotlib imported."""
    from profile_and_optimize.report.pdf.write import pdf_of

    return pdf_of(report_of(source_of(ev, d, options)), root=root)


def pdf_is_due(ev: Evidence) -> bool:
    """Was the run made by a verb that draws a PDF for every run?"""
    if not any(e.kind == "wrote" and e.data["path"] == SOURCE for e in ev.events):
        return False
    text = read_bytes(ev.run / SOURCE, MOST_SOURCE_BYTES).decode(errors="replace")
    return DRAWS_PDF.search(text) is not None


def _typed(ev: Evidence) -> Options | None:
    """What was typed for the PDF that is there; None where there is none and none is due."""
    try:
        record = read_record(ev.run)
    except Corrupted:
        return Options()
    return record.options if record else Options() if pdf_is_due(ev) else None


def _sweep(ev: Evidence) -> None:
    """Opening a run removes what a kill left half-written; whoever holds it open now did that himself."""
    try:
        RunFolder(ev.run).close()
    except WrongUse:
        return
