"""A bundle of another tool's A/B becomes cells: one an arm, with exactly what its files say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.ops.verify import check

DATA = Path(__file__).parents[1] / "data/importers"
ARMS = (
    "arm\tengine\tflags\tenv\tlever\nbase\tvllm\t\t\t\n"
    "base-long\tvllm\t--max-num-seqs 1\tOMP_NUM_THREADS=1\tone at a time\nsg\tsglang\t\t\t\n"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        "name: ab\nmodel: mock\nengine: mock\nworkloads: [{name: w, isl: 8, osl: 8}]\nconcurrencies: [4]\n"
        "cells: [{cell_id: base-mock, role: baseline}, {cell_id: quick}]\n"
    )
    assert pao(["campaign_init", "--config", "c.yaml"]) == 0
    return next(p for p in (tmp_path / "campaigns").iterdir() if p.is_dir())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """vLLM's results of two arms, an artifact folder of aiperf for none, and SGLang's appended lines for the third."""
    folder = tmp_path / "bundle"
    (folder / "base").mkdir(parents=True)
    (folder / "arms.tsv").write_text(ARMS)
    shutil.copy(DATA / "vllm-good1.json", folder / "base/c4.json")
    shutil.copy(DATA / "vllm-good2.json", folder / "base-long-c4.json")
    shutil.copy(DATA / "sglang-two.jsonl", folder / "sg.jsonl")
    return folder


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = pao(["import_variant_ab", "ab", *argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def rows(run: Path) -> list[dict]:
    return [
        r for line in (run / "atlas.jsonl").read_text().splitlines() if (r := json.loads(line))["source"] == "imported"
    ]


def test_every_arm_becomes_a_cell_tagged_with_its_engine(
    run: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = ask(capsys, "--bundle", str(bundle), "--workload", "w")
    assert (code, answer["result"]["tier"], answer["result"]["rows"]) == (0, "DRAFT", 4)
    assert [(c["cell"], c["backend"], c["status"]) for c in answer["result"]["cells"]] == [
        ("base", "vllm-sweep", "full"),
        ("base-long", "vllm-sweep", "full"),
        ("sg", "sglang-sweep", "full"),
    ]
    found = rows(run)
    assert [(r["cell"], r["role"], r["tool"], r["run"]) for r in found] == [
        ("base", "baseline", "vllm bench", 0), ("base-long", "candidate", "vllm bench", 0),
        ("sg", "candidate", "sglang bench_serving", 0), ("sg", "candidate", "sglang bench_serving", 1),
    ]  # fmt: skip
    assert found[0]["metrics"]["tpot_ms"]["p50"]["estimate"] == pytest.approx(50, rel=0.02)
    # The second SGLang line met a server with a TTFT of 100 ms instead of 1000: two rows, no mean of both.
    assert [round(r["metrics"]["ttft_ms"]["p50"]["estimate"], -2) for r in found[2:]] == [1000, 100]
    assert found[1]["context"]["flags"]["asked"] == "--max-num-seqs 1"
    for name in ("hardware", "node", "engine_version", "kv_cache_dtype", "driver"):
        assert name in found[0]["unknown"]
    assert (run / "cells/sg/status.txt").read_text() == "full\n"
    assert check(run)[0] == []


def test_raw_files_are_those_of_the_bundle_byte_for_byte(run: Path, bundle: Path) -> None:
    assert pao(["import_variant_ab", "ab", "--bundle", str(bundle)]) == 0
    kept = run / "cells/base/raw/vllm-sweep/r1/BENCH--unknown.c4/run=0.json"
    assert kept.read_bytes() == (bundle / "base/c4.json").read_bytes()
    lines = [(run / f"cells/sg/raw/sglang-sweep/r1/BENCH--unknown.c4/run={k}.jsonl").read_bytes() for k in (0, 1)]
    assert b"".join(lines).split() == (bundle / "sg.jsonl").read_bytes().split()


def test_an_arm_without_a_load_that_others_have_is_partial_and_one_without_any_failed(
    run: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DATA / "vllm-late.json", bundle / "base/c32.json")
    (bundle / "sg.jsonl").unlink()
    code, answer = ask(capsys, "--bundle", str(bundle))
    states = {c["cell"]: (c["status"], c["missing"]) for c in answer["result"]["cells"]}
    assert code == 1 and states["base-long"] == ("partial", ["unknown.c32"])
    assert states["sg"] == ("failed", ["unknown.c4", "unknown.c32"])
    lost = [r for r in rows(run) if r["cell"] == "sg"]
    assert all(r["metrics"]["ttft_ms"]["p50"] is None and r["isl"] is None for r in lost) and check(run)[0] == []


def test_fewer_than_two_requests_a_slot_are_flagged(
    run: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DATA / "vllm-few.json", bundle / "base/c4.json")
    _, answer = ask(capsys, "--bundle", str(bundle))
    assert [r["flags"] for r in rows(run) if r["cell"] == "base"] == [["steady_window_undercount"]]
    assert any("steady_window_undercount: base" in w for w in answer["warnings"])


def test_aiperf_s_folder_is_a_result_with_its_prompts_beside_it(run: Path, bundle: Path) -> None:
    (bundle / "base/c4.json").unlink()
    shutil.copytree(DATA / "aiperf-good", bundle / "base/c4")
    assert pao(["import_variant_ab", "ab", "--bundle", str(bundle)]) == 0
    (row,) = [r for r in rows(run) if r["cell"] == "base"]
    assert (row["tool"], row["tool_version"], row["status"]) == ("aiperf", "0.13.0", "full")
    assert (run / "cells/base/raw/vllm-sweep/r1/BENCH--unknown.c4/inputs.json").is_file() and check(run)[0] == []


@pytest.mark.parametrize(("spoil", "word"), [
    (lambda b: (b / "arms.tsv").unlink(), "arms.tsv"),
    (lambda b: (b / "other-c4.json").write_bytes((b / "base/c4.json").read_bytes()), "of none of the arms"),
    (lambda b: (b / "base/c8.json").write_text("{}"), "no result that is known"),
    (lambda b: (b / "base/c8.json").write_text("[1]"), "a list of runs"),
    (lambda b: shutil.copy(DATA / "vllm-good1.json", b / "sg-x.json"), "one tool for each arm"),
    (lambda b: (b / "arms.tsv").write_text(ARMS.replace("base-long", "../../evil")), "not a name"),
    (lambda b: (b / "arms.tsv").write_text(ARMS.replace("base-long", "quick")), "other flags"),
])  # fmt: skip
def test_a_bundle_that_cannot_be_meant_is_refused_before_anything_is_written(
    run: Path, bundle: Path, spoil: object, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(bundle)  # type: ignore[operator]
    if "quick" in (bundle / "arms.tsv").read_text() if (bundle / "arms.tsv").exists() else False:
        (bundle / "base-long-c4.json").rename(bundle / "quick-c4.json")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    assert pao(["import_variant_ab", "ab", "--bundle", str(bundle)]) == 2
    assert word in capsys.readouterr().err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_the_same_cell_is_not_imported_twice(run: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["import_variant_ab", "ab", "--bundle", str(bundle)]) == 0
    code, answer = ask(capsys, "--bundle", str(bundle))
    assert code == 2 and "has results of vllm-sweep" in answer["error"]["message"]
