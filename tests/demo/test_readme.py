"""The demo's part of README comes from a run: dated, without places of a machine, and the same run gives the same bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from demo.readme import BEGIN, END, block, excerpt, main, replaced

from demo import readme
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

TIMES = {
    "date": "2026-12-01", "run": "campaigns/20261201T000000Z-demo", "times": {"make .venv": 3.2, "pao optimize": 536.4},
    "machine": "2.0 of 2 cores free; no AVX-512, no bfloat16", "python": "3.11.7", "budget_minutes": 15.0,
    "left_out": ["8 of 32 requests a trial", "240 of 480 accuracy questions"],
}  # fmt: skip


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    run = synthetic_run(tmp_path / "20261201T000000Z-demo", synthetic_plan(blocks=3))
    ev = load_evidence(run)
    publish(ev, decide(ev))
    times, page = tmp_path / "times.json", tmp_path / "README.md"
    times.write_text(json.dumps(TIMES))
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    argv = ["readme", str(run), "--times", str(times), "--readme", str(page), "--no-picture"]
    monkeypatch.setattr(sys, "argv", argv)
    main()
    return run, page


def test_the_block_is_the_runs_own_report_with_date_machine_times_and_what_was_left_out(
    written: tuple[Path, Path],
) -> None:
    run, page = written
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n") and "old" not in text
    first = (run / "report.txt").read_text().strip().split("\n")[0]
    assert f"    {first}" in text and "     536 s  pao optimize" in text and "     540 s  together" in text
    assert "(2026-12-01; 2.0 of 2 cores free; no AVX-512, no bfloat16; Python 3.11.7. Times with downloads.)" in text
    assert "Left out, to fit into 15 minutes: 8 of 32 requests a trial; 240 of 480 accuracy questions." in text


def test_written_again_it_is_the_same_bytes(written: tuple[Path, Path]) -> None:
    _, page = written
    before = page.read_bytes()
    main()
    assert page.read_bytes() == before


def test_times_of_another_run_are_refused(
    tmp_path: Path, written: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "20261202T000000Z-demo"
    monkeypatch.setattr(sys, "argv", ["readme", str(other), "--times", str(tmp_path / "times.json"), "--no-picture"])
    with pytest.raises(SystemExit, match="not of 20261202T000000Z-demo"):
        main()


def test_a_place_on_the_machine_is_refused() -> None:
    with pytest.raises(SystemExit, match="/home/me/model"):
        block("model   /home/me/model\n", TIMES)
    assert "    model   .demo/model" in block(f"model   {readme.ROOT}/.demo/model\n", TIMES)
    assert "tok/s" in block("230 tok/s of .demo/model, see https://example.org/a/b\n", TIMES)


def test_an_excerpt_ends_with_a_paragraph() -> None:
    assert excerpt("a\nb\n\nc\nd\n\ne\n", most=5) == "a\nb\n\nc\nd"


@pytest.mark.parametrize("page", ["nothing", f"{BEGIN} {BEGIN} {END}", f"{END} {BEGIN}"])
def test_a_readme_without_its_marks_is_refused(page: str) -> None:
    with pytest.raises(SystemExit, match="each once"):
        replaced(page, "new")


def test_the_readme_of_this_repository_has_the_marks() -> None:
    text = (readme.ROOT / "README.md").read_text()
    assert replaced(text, f"{BEGIN}{END}").count(BEGIN) == 1
