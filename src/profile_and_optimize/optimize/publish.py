"""Writes what follows from the evidence, and the manifest over it. Rendering makes no journal events."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.rederive import aggregates, choice
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.evidence.manifest import MANIFEST, write_manifest
from profile_and_optimize.report.pages.build import report_of
from profile_and_optimize.report.pages.campaign import source_of
from profile_and_optimize.report.pages.record import PDF, RECORD, Record, read_record, record_bytes
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.report.pdf.stamp import drawn_with
from profile_and_optimize.report.render import rendered

# The verb that writes each derived file, and what makes its bytes. The PDF has its own way: see `pdf_files`.
MAKERS: dict[str, Callable[[Evidence, Decision], dict[str, bytes]]] = {
    "atlas_aggregate": aggregates, "champion_select": choice, "report_render": rendered,
}  # fmt: skip


def derived(ev: Evidence, d: Decision, verbs: Iterable[str] = tuple(MAKERS)) -> dict[str, tuple[str, bytes]]:
    """Every derived file of a run but the PDF, or those of some verbs: path to (the verb that writes it, its bytes)."""
    return {path: (verb, data) for verb in verbs for path, data in MAKERS[verb](ev, d).items()}


def write_aggregates(ev: Evidence, d: Decision) -> list[str]:
    return _write(ev, "atlas_aggregate", aggregates(ev, d))


def write_champion(ev: Evidence, d: Decision) -> list[str]:
    return _write(ev, "champion_select", choice(ev, d))


def write_report(ev: Evidence, d: Decision, pdf: Options | None = None) -> list[str]:
    """The pages. report.pdf is drawn when `pdf` says so, and again where there is one already: it never grows stale.

    It comes last, so that nothing else is lost when it cannot be drawn. Raises GateRefused then.
    """
    written = _write(ev, "report_render", rendered(ev, d))
    (ev.run / "serve.sh").chmod(0o755)
    options = pdf if pdf is not None else _typed(ev)
    return written if options is None else sorted(written + _write(ev, "report_render", pdf_files(ev, d, options)))


def pdf_files(ev: Evidence, d: Decision, options: Options) -> dict[str, bytes]:
    """report.pdf, and what it was drawn from. Only here and in `verify` is matplotlib imported."""
    from profile_and_optimize.report.pdf.write import pdf_of

    report = report_of(source_of(ev, d, options))
    return {PDF: pdf_of(report), RECORD: record_bytes(report, Record(options, drawn_with()))}


def _typed(ev: Evidence) -> Options | None:
    """What was typed for the PDF that is there; None where there is none."""
    try:
        record = read_record(ev.run)
    except Corrupted:
        return Options()
    return record.options if record else None


def _write(ev: Evidence, verb: str, files: dict[str, bytes]) -> list[str]:
    for path, data in files.items():
        write_atomic(ev.run / path, data)
    write_manifest(ev.run, {**_listed(ev), **dict.fromkeys(files, verb)})
    return sorted(files)


def _listed(ev: Evidence) -> dict[str, str]:
    """Derived files that the manifest lists already and that are still there."""
    path = ev.run / MANIFEST
    listed = read_json(path).get("derived", []) if path.exists() else []
    return {d["path"]: d["producer"] for d in listed if (ev.run / d["path"]).is_file()}
