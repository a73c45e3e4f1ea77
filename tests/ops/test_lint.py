"""pao lint as a stranger types it: exit codes, the envelope, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.ops.lint import sides

DATA = Path(__file__).parents[1] / "data/importers"


def ask(capsys: pytest.CaptureFixture[str], *names: str | Path) -> tuple[int, dict]:
    code = pao(["lint", *map(str, names), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_result_exits_0_and_says_what_was_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, DATA / "vllm-good1.json")
    assert (code, said["ok"], said["result"]["counts"]["wrong"]) == (0, True, 0)
    assert {"warm-prefix", "lengths"} == {u["code"] for u in said["result"]["unchecked"]}
    assert pao(["lint", str(DATA / "vllm-good1.json")]) == 0
    text = capsys.readouterr().out
    assert "nothing here is known to be wrong" in text and "not checked  warm-prefix" in text


def test_a_wrong_result_exits_1_with_the_findings_still_given(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, DATA / "vllm-errors.json")
    assert (code, said["ok"], said["error"]["code"]) == (1, False, "refused")
    worst = said["result"]["findings"][0]
    assert set(worst) == {"code", "severity", "result", "seen", "why", "fix"}
    assert (worst["code"], worst["severity"]) == ("failed-hidden", "wrong")
    assert pao(["lint", str(DATA / "vllm-errors.json")]) == 1
    captured = capsys.readouterr()
    assert "WRONG   failed-hidden" in captured.out and "1 wrong: failed-hidden" in captured.err


def test_metrics_come_in_our_terms_with_the_field_they_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = ask(capsys, DATA / "guidellm-good1.json")
    (run,) = said["result"]["results"]
    assert run["metrics"]["tpot_ms"]["p50"] == pytest.approx(50, rel=0.02)
    assert run["metrics"]["itl_ms"] is None and run["from"]["tpot"] == "inter_token_latency_ms"


def test_files_that_differ_in_their_numbers_are_repeats_and_folders_are_sides(tmp_path: Path) -> None:
    for n in (1, 2):
        shutil.copy(DATA / f"vllm-good{n}.json", tmp_path)
    (tmp_path / "other").mkdir()
    shutil.copy(DATA / "vllm-rate.json", tmp_path / "other")
    made = sides([str(tmp_path / "vllm-good1.json"), str(tmp_path / "vllm-good2.json"), str(tmp_path / "other")])
    assert [(Path(g.name).name, len(g.runs)) for g in made] == [("vllm-good*.json", 2), ("other", 1)]


def test_a_run_folder_of_ours_is_sent_to_verify(closed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, closed_run)
    assert (code, said["error"]["next"]) == (2, f"pao verify {closed_run}")
    code, said = ask(capsys, closed_run, DATA / "vllm-good1.json")
    assert code == 0 and "pao verify" in said["warnings"][0]


def test_what_is_no_result_exits_2_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    for argv in (["lint"], ["lint", str(tmp_path)], ["lint", str(tmp_path / "none")]):
        assert pao(argv) == 2
        said = capsys.readouterr()
        assert "Traceback" not in said.err and len([line for line in said.err.splitlines() if "error:" in line]) == 1


def test_names_with_stray_bytes_and_control_characters_reach_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a\x1b[31m\udcff"
    folder.mkdir()
    doc = json.loads((DATA / "vllm-errors.json").read_text())
    doc["errors"] = [e and "\x1b]0;x\x07 \ud800 bad" for e in doc["errors"]]
    (folder / "r.json").write_text(json.dumps(doc))
    assert pao(["lint", str(folder)]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_credential_in_an_error_is_not_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doc = json.loads((DATA / "vllm-errors.json").read_text())
    doc["errors"] = [e and "401: Authorization: Bearer planted-0123456789" for e in doc["errors"]]
    (tmp_path / "r.json").write_text(json.dumps(doc))
    for argv in (["lint", str(tmp_path)], ["lint", str(tmp_path), "--json"]):
        pao(argv)
        said = capsys.readouterr()
        assert "401" in said.out and "planted" not in said.out + said.err


@pytest.mark.parametrize("as_folder", [True, False])
def test_names_that_look_alike_are_two_sides_where_the_files_name_two_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_folder: bool
) -> None:
    doc = json.loads((DATA / "vllm-good1.json").read_text())
    files = [tmp_path / f"m-fp{bits}.json" for bits in (16, 8)]
    for file in files:
        file.write_text(json.dumps(doc | {"model_id": file.stem}))
    code, said = ask(capsys, *([tmp_path] if as_folder else files))
    codes = [f["code"] for f in said["result"]["findings"]]
    assert (code, codes.count("one-run"), codes.count("different-context")) == (0, 2, 1)
    assert "model: m-fp16 | m-fp8" in next(
        f["seen"] for f in said["result"]["findings"] if f["code"] == "different-context"
    )
