"""report.pdf as a file: the same bytes twice, every page with its words, nothing of a hostile name acted on, and no stump."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import pytest
from page_rows import CPU, GPU, row, source
from pypdf import PdfReader

from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.ops.report_smoke import ReportSmokeRequest, pdf_path
from profile_and_optimize.ops.report_smoke import run as report_smoke
from profile_and_optimize.report.pages.build import report_of
from profile_and_optimize.report.pages.fit import ems
from profile_and_optimize.report.pages.model import Report
from profile_and_optimize.report.pdf import style
from profile_and_optimize.report.pdf.sheet import SYNTHETIC, font
from profile_and_optimize.report.pdf.stamp import expected, keywords, page_count, read_stamp
from profile_and_optimize.report.pdf.write import checked, pdf_of
from profile_and_optimize.testing.smoke import smoke_source

HOSTILE = "$\\frac{x}{y}$ </script>(\\)%~\x1b[31m\u202e名前\U0001f600 " + "W" * 300


@pytest.fixture(scope="module")
def smoke() -> Report:
    return report_of(smoke_source())


@pytest.fixture(scope="module")
def data(smoke: Report) -> bytes:
    return pdf_of(smoke)


@pytest.fixture(scope="module")
def pages(data: bytes) -> list[str]:
    return [" ".join(p.extract_text().split()) for p in PdfReader(io.BytesIO(data)).pages]


def test_two_renders_are_the_same_bytes_whatever_a_user_set(
    smoke: Report, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with matplotlib.rc_context({"pdf.fonttype": 3, "font.size": 30, "lines.antialiased": False, "text.color": "red"}):
        assert pdf_of(smoke) == data


def test_two_threads_draw_the_same_bytes(smoke: Report, data: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(pdf_of, [smoke, smoke])) == [data, data]


def test_every_page_says_that_it_is_synthetic_and_where_it_comes_from(pages: list[str]) -> None:
    assert len(pages) == 4
    for i, text in enumerate(pages, 1):
        assert SYNTHETIC in text and f"page {i} of 4" in text
        assert "campaign=20260101T000000Z-smoke-synthetic rendered=2026-01-01T00:00:00Z" in text
        assert "bench window 2025-12-31T22:00:00Z to 2025-12-31T23:55:00Z" in text and "evidence root=" in text


def test_the_first_page_has_the_coverage_and_every_row_of_panes(pages: list[str]) -> None:
    assert (
        "Coverage: 40 atlas cells | 38 full sweeps | 1 partial sweeps | 1 failed cells | 232 plot-ready concurrency points"
        in pages[0]
    )
    for words in ("TTFT against request throughput", "tok/s/user against tok/s per GPU", "1024 batched tokens", "16384 batched tokens",
                  "H100, TP16", "hollow: MTP"):  # fmt: skip
        assert words in pages[0], words


def test_the_tables_have_every_number_once(pages: list[str]) -> None:
    # 6 tables of 40 cells less the failed one, and less the partial one at C=32.
    assert len(re.findall(r"±\d+\.\d%", pages[1])) == 6 * 39 - 2
    assert (pages[1].count("failed"), pages[1].count("partial")) == (6, 2)


def test_the_points_are_drawn_one_by_one_in_the_three_colours(data: bytes) -> None:
    drawn = PdfReader(io.BytesIO(data)).pages[0].get_contents()
    assert drawn is not None
    content = drawn.get_data().decode("latin-1")
    assert len(re.findall(r"/M\d+ Do", content)) == 2 * 232  # the legend's single markers are drawn in place
    for hue in style.HUES[:3]:
        assert " ".join(f"{c:.10f}".rstrip("0").rstrip(".") for c in style.rgb(hue))[:6] in content


def test_the_champion_page_has_pick_tier_reasons_and_command(pages: list[str]) -> None:
    for words in ("Serve b200-nvfp4-tp8-ep-mbt4096", "DRAFT", "Recommended:", "BETTER +14.2% (+11.9% to +16.6%)", "grounding: synthetic",
                  "vllm serve synthetic-moe", "b200-sglang-tp8-ep", "FAILED unknown", "Source under test"):  # fmt: skip
        assert words in pages[2], words


def test_the_file_carries_its_provenance_in_utc(smoke: Report, data: bytes) -> None:
    info = PdfReader(io.BytesIO(data)).metadata
    assert info is not None and info.creation_date is not None
    assert (
        info.creation_date.isoformat() == "2026-01-01T00:00:00+00:00" and info.modification_date == info.creation_date
    )
    assert (
        info["/Keywords"] == keywords(smoke)
        and smoke.digest in keywords(smoke)
        and smoke.stamp.evidence_root in keywords(smoke)
    )
    assert read_stamp(data) == expected(smoke) and page_count(data) == 4


def test_a_stamp_that_stands_twice_proves_nothing(data: bytes) -> None:
    assert read_stamp(data + b"/Keywords (other)")["Keywords"] == ""


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    rows = [
        row(HOSTILE, {**CPU, "hardware": f"cpu:{HOSTILE}"}, workload=HOSTILE),
        row("b", {**CPU, "quantization": HOSTILE}, engine=HOSTILE),
    ]
    rows += [row("c", {}, status="failed", output=None, ttft=None, tpot=None, requests=None) | {"reason": HOSTILE * 20}]
    made = pdf_of(report_of(source(*rows, name=HOSTILE, model=HOSTILE)))
    for word in (b"/URI", b"/JS", b"/Launch", b"/AA", b"/OpenAction"):
        assert word not in made, word
    assert not any(p.annotations for p in PdfReader(io.BytesIO(made)).pages)
    text = " ".join(" ".join(p.extract_text() for p in PdfReader(io.BytesIO(made)).pages).split())
    assert "$\\frac{x}{y}$ </script>(" in text
    assert not re.search(r"[\x00-\x08\x0e-\x1f\u202a-\u202e]", text)


def test_nothing_is_drawn_beyond_the_paper(data: bytes) -> None:
    """Every cell of a table and every label is placed inside of the page, for long names too."""
    long = [
        row("x" * 60 + f"{i}", {**GPU, "tp": str(i), "hardware": "gpu:" + "Y" * 80}, workload="w" * 64)
        for i in range(1, 4)
    ]
    for made in (data, pdf_of(report_of(source(*long)))):
        for page in PdfReader(io.BytesIO(made)).pages:
            places: list[tuple[float, float]] = []
            page.extract_text(
                visitor_text=lambda t, cm, tm, fd, fs, places=places: (
                    places.append((cm[4] + tm[4], cm[5] + tm[5])) if t.strip() else None
                )
            )
            assert places and all(-1 <= x <= 596 and 0 <= y <= 842 for x, y in places)


@pytest.mark.parametrize("face", ["Sans", "Bold"])
def test_the_widths_are_those_of_the_font(face: str) -> None:
    from matplotlib.ft2font import FT2Font, LoadFlags

    drawn = FT2Font(str(font(face, 8.0).get_file()))
    for char in map(chr, range(32, 127)):
        advance = drawn.load_char(ord(char), flags=LoadFlags.NO_SCALE).horiAdvance / drawn.units_per_EM
        assert advance <= ems(char, bold=face == "Bold") + 1e-9 <= advance + 0.002, char


@pytest.mark.parametrize("rows", [
    [row("only", CPU)], [row("only", {}, engine="endpoint", n=1)],
    [row("only", GPU, output=None, ttft=None, tpot=None, requests=None, status="partial")],
    [row(f"c{i}", GPU, output=100.0 + i) for i in range(70)],
], ids=["one cell", "all unknown", "nothing measured", "seventy cells in a pane"])  # fmt: skip
def test_the_rarer_campaigns_are_drawn_too(rows: list[dict[str, object]]) -> None:
    report = report_of(source(*rows))
    assert page_count(pdf_of(report)) == len(report.pages)


def test_a_stump_is_refused(smoke: Report, data: bytes) -> None:
    small = b"%PDF-1.4" + b"/Type /Page " * 4  # as many pages, and no drawing
    for bad in (b"%PDF-1.4 tiny", small, data[:9000], b"x" * 20_000, data.replace(b"/Type /Page ", b"/Type /Pale ")):
        with pytest.raises(GateRefused, match="not a report"):
            checked(bad, smoke)
    with pytest.raises(GateRefused):
        pdf_of(dataclasses.replace(smoke, pages=()))
    with pytest.raises(GateRefused, match="stamp"):
        checked(data, dataclasses.replace(smoke, coverage="other"))


def test_report_smoke_writes_a_pdf_and_nothing_else(tmp_path: Path) -> None:
    done = report_smoke(ReportSmokeRequest(out=str(tmp_path / "s.pdf"), variants_line="Variants: mine"), lambda _: None)
    assert [p.name for p in tmp_path.iterdir()] == ["s.pdf"] and done.data["synthetic"] is True
    assert "Variants: mine" in PdfReader(tmp_path / "s.pdf").pages[0].extract_text()
    assert [o["page"] for o in done.data["omitted_pages"]] == [
        "kernel time shares",
        "hardware counters",
        "speed of light (roofline)",
    ]
    for bad in ("report.html", str(tmp_path)):
        with pytest.raises(Exception, match=r"ends in \.pdf"):
            pdf_path(bad)


def test_the_command_line_starts_without_matplotlib() -> None:
    code = (
        "import sys; from profile_and_optimize.ops.base import all_ops; all_ops(); print('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "False\n"
