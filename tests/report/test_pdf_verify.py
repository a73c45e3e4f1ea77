"""The PDF of a run: written by report_render, listed in the manifest, held against the evidence by verify."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.evidence.manifest import MANIFEST
from profile_and_optimize.ops.report_render import ReportRenderRequest
from profile_and_optimize.ops.report_render import run as report_render
from profile_and_optimize.ops.verify import check
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.report.pages.build import report_of
from profile_and_optimize.report.pages.campaign import source_of
from profile_and_optimize.report.pages.record import PDF, RECORD, Record, read_record, record_bytes
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.report.pdf.stamp import keywords
from profile_and_optimize.report.pdf.write import pdf_of
from profile_and_optimize.testing.forge import relist, root_of
from profile_and_optimize.testing.smoke import smoke_source

TYPED = Options("Variants: one | two", "Data source: typed")


@pytest.fixture(scope="module")
def with_pdf(closed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(closed_run, tmp_path_factory.mktemp("pdf") / closed_run.name))
    ev = load_evidence(run)
    publish(ev, decide(ev), TYPED)
    return run


@pytest.fixture
def run(with_pdf: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(with_pdf, tmp_path / with_pdf.name))


def test_the_pdf_holds_and_was_drawn_again(run: Path, closed_run: Path) -> None:
    problems, facts = check(run)
    assert problems == [] and facts["pdf"] == "drawn again"
    assert facts["derived_files"] == check(closed_run)[1]["derived_files"] + 2
    producers = {d["path"]: d["producer"] for d in read_json(run / MANIFEST)["derived"]}
    assert producers[PDF] == producers[RECORD] == "report_render"
    record = read_json(run / RECORD)
    assert record["options"] == {"variants_line": TYPED.variants_line, "data_source_line": TYPED.data_source_line}


def test_a_run_without_a_pdf_is_verified_without_a_word_of_it(closed_run: Path) -> None:
    problems, facts = check(closed_run)
    assert problems == [] and facts["pdf"] == "none in this run"


def one_stroke(run: Path) -> None:
    """A byte inside of the first page's drawing."""
    data = bytearray((run / PDF).read_bytes())
    at = data.index(b"stream\n") + 200
    data[at] ^= 1
    (run / PDF).write_bytes(bytes(data))


def another_report(run: Path) -> None:
    (run / PDF).write_bytes(pdf_of(report_of(smoke_source())))


def another_report_under_our_stamp(run: Path) -> None:
    """The drawing of another campaign with the keywords of this one."""
    ev = load_evidence(run)
    report = report_of(source_of(ev, decide(ev), TYPED))
    other = report_of(smoke_source())
    other = replace(
        other, stamp=replace(other.stamp, rendered=report.stamp.rendered), pages=other.pages[: len(report.pages)]
    )
    (run / PDF).write_bytes(pdf_of(other).replace(keywords(other).encode(), keywords(report, root_of(run)).encode()))


def typed_later(run: Path) -> None:
    record = read_json(run / RECORD)
    record["options"]["variants_line"] = "Variants: better ones"
    (run / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def a_page_more(run: Path) -> None:
    (run / PDF).write_bytes((run / PDF).read_bytes() + b"\n<< /Type /Page >>\n")


EDITS: dict[str, Callable[[Path], object]] = {
    "one stroke": one_stroke, "another report": another_report, "another report under our stamp": another_report_under_our_stamp,
    "lines typed later": typed_later, "a page more": a_page_more,
    "a second stamp": lambda r: (r / PDF).write_bytes((r / PDF).read_bytes() + b"/ModDate ()"),
    "the PDF gone": lambda r: (r / PDF).unlink(), "its record gone": lambda r: (r / RECORD).unlink(),
    "a record of another shape": lambda r: (r / RECORD).write_text("[1]"),
}  # fmt: skip


SLOW = {"another report", "another report under our stamp"}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k in SLOW else k for k in EDITS])
def test_an_edited_pdf_is_found_as_it_is_and_with_a_new_manifest(run: Path, kind: str) -> None:
    EDITS[kind](run)
    assert check(run)[0]
    relist(run)
    problems, _ = check(run)
    assert any(PDF in p or RECORD in p for p in problems), problems


@pytest.mark.slow
def test_drawn_by_another_library_only_digest_and_stamp_are_compared_and_verify_says_so(run: Path) -> None:
    ev = load_evidence(run)
    report = report_of(source_of(ev, decide(ev), TYPED))
    (run / RECORD).write_bytes(record_bytes(report, Record(TYPED, "matplotlib 3.0, fonttools 1, numpy 1, zlib 1")))
    before = root_of(run)
    relist(run)
    drawn = (run / PDF).read_bytes().replace(before.encode(), root_of(run).encode())
    (run / PDF).write_bytes(drawn)  # its stamp; the foot of its pages is packed and says the old root
    relist(run)
    problems, facts = check(run)
    assert problems == [] and facts["pdf"] == "digest and stamp compared"
    assert facts["answer"] == "HOLDS IN PART"
    assert any("was not drawn again: drawn with matplotlib 3.0" in x for x in facts["not_covered"])
    another_report(run)
    relist(run)
    assert check(run)[0]


def ask(run: Path, **options: str) -> dict[str, object]:
    return report_render(ReportRenderRequest(campaign=str(run), **options), lambda _: None).data


def test_report_render_writes_it_unless_only_other_pages_are_wanted(run_copy: Path) -> None:
    assert ask(run_copy, format="html")["pdf"] is None and not (run_copy / PDF).exists()
    done = ask(run_copy, format="pdf", variants_line="Variants: mine")
    assert done["pdf"] == str(run_copy / PDF) and check(run_copy)[0] == []
    status = done["render_status"]
    assert isinstance(status, dict) and (status["sol_complete"], status["sol_rigor"], status["focus"]) == (
        False,
        "none",
        "throughput",
    )
    assert {
        "page": "accuracy",
        "reason": "no accuracy questions were asked",
        "how": "give --questions FILE.jsonl",
    } in status["omitted_pages"]
    before = (run_copy / PDF).read_bytes()
    ask(run_copy, format="text")  # a PDF that is there is kept in step, with the lines that were typed for it
    assert (run_copy / PDF).read_bytes() == before and check(run_copy)[0] == []
    record = read_record(run_copy)
    assert record is not None and record.options.variants_line == "Variants: mine"


@pytest.mark.slow
def test_out_is_a_pdf_outside_of_the_run(run_copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "there.pdf"
    assert ask(run_copy, out=str(out))["pdf"] == str(out)
    assert out.read_bytes().startswith(b"%PDF") and not (run_copy / PDF).exists() and check(run_copy)[0] == []
    assert ask(run_copy, out=str(run_copy / PDF))["pdf"] == str(run_copy / PDF)
    for bad in (str(run_copy / "cells" / "x.pdf"), str(tmp_path / "config.yaml"), str(tmp_path)):
        with pytest.raises(WrongUse):
            ask(run_copy, out=bad)


@pytest.mark.slow
def test_a_damaged_record_does_not_stop_a_new_render(run: Path) -> None:
    (run / RECORD).write_text("{}")
    ask(run, format="text")
    assert check(run)[0] == []
