"""Levers, tables of arms and one controlled change, as somebody types them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.tree import walk
from profile_and_optimize.ops.campaigns import create
from profile_and_optimize.ops.config import load_config, plan_of
from profile_and_optimize.ops.node import has_experts
from profile_and_optimize.ops.sources import check_sources
from profile_and_optimize.optimize.arms_tsv import parse_arms
from profile_and_optimize.testing.synthetic import synthetic_plan

TABLE = "arm\tengine\tflags\tenv\tlever\nv0\tmock\t\t\tits own defaults\nv1\tmock\t--itl-ms 9\t\tfaster\n"
SMALL = ("--model", "mock", "--suite", "demo-short", "--blocks", "2", "--requests", "6", "--concurrency", "2")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFREPORT_CAMPAIGNS_DIR", raising=False)
    (tmp_path / "arms.tsv").write_text(TABLE)


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    code = pao([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def commands(answer: dict) -> dict[str, list[str]]:
    return {c["cell"]: c["argv"] for c in answer["result"]["commands"]}


def test_levers_are_listed_with_what_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = ask(capsys, "levers", "--engines", "mock")
    assert code == 0 and [lv["lever"] for lv in answer["result"]["engines"]["mock"]["here"]] == ["quick", "slow"]


def test_a_table_of_arms_becomes_a_campaign_with_a_twin(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = ask(capsys, "run_variant_ab", "arms.tsv", *SMALL, "--dry-run")
    found = commands(answer)
    assert code == 0 and list(found) == ["v0", "baseline-again", "v1"]
    assert found["v1"][-2:] == ["--itl-ms", "9"] and found["baseline-again"] == found["v0"]


@pytest.mark.slow
def test_it_runs_to_a_champion_that_verifies_and_leaves_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = ask(capsys, "run_variant_ab", "arms.tsv", *SMALL, "--name", "variants")
    run = Path(answer["result"]["path"])
    assert code == 0 and answer["result"]["engines"] == [
        {"engine": "mock", "first": "v0", "top": answer["result"]["engines"][0]["top"]}
    ]
    assert parse_arms((run / "arms.tsv").read_bytes(), "arms.tsv") == parse_arms(TABLE.encode(), "arms.tsv")
    assert ask(capsys, "verify", str(run))[0] == 0


def test_a_row_with_a_checkpoint_and_flags_is_served_with_both_and_needs_questions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    there = tmp_path / "int8"
    there.mkdir()
    quantized = {"quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized"}}
    (there / "config.json").write_text(json.dumps(quantized))
    (there / "tokenizer.json").write_text("{}")
    table = TABLE.replace("lever\n", "lever\tpredicts\tpredicted\tcheckpoint\n")
    (tmp_path / "both.tsv").write_text(table + "both\tmock\t--itl-ms 9\t\tINT8, faster\t\t\tint8\n")
    code, answer = ask(capsys, "run_variant_ab", "both.tsv", *SMALL, "--dry-run")
    assert code == 2 and "without questions" in answer["error"]["message"]
    (tmp_path / "q.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    code, answer = ask(capsys, "run_variant_ab", "both.tsv", *SMALL, "--dry-run", "--questions", "q.jsonl")
    arm = next(a for a in answer["result"]["plan"]["arms"] if a["id"] == "both")
    assert code == 0 and (arm["checkpoint"], arm["flags"]) == (str(there), ["--itl-ms", "9"])
    (tmp_path / "both.tsv").write_text(table + "both\tmock\t-q awq\t\tINT8\t\t\tint8\n")
    code, answer = ask(capsys, "run_variant_ab", "both.tsv", *SMALL, "--dry-run", "--questions", "q.jsonl")
    assert code == 2 and "awq names another method, and the checkpoint int8" in answer["error"]["message"]


def test_one_controlled_change_is_judged_by_latency(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = ask(capsys, "run_controlled_ab", *SMALL, "--engine", "mock", "--flags", "--itl-ms 9", "--dry-run")
    assert code == 0 and answer["result"]["plan"]["focus"] == "latency"
    assert commands(answer)["candidate"][-2:] == ["--itl-ms", "9"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("run_controlled_ab", *SMALL, "--engine", "mock"), "changes nothing"),
        (("run_controlled_ab", *SMALL, "--engine", "mock", "--env", "OMP_NUM_THREADS"), "not NAME=VALUE"),
        (("run_controlled_ab", *SMALL, "--engine", "mock", "--flags", "'--x"), "not written as in a shell"),
        (("run_controlled_ab", *SMALL, "--engine", "mock", "--flags", "--x", "--focus", "throughput"), "latency"),
        (("run_variant_ab", "nosuch.tsv", *SMALL), "cannot read"),
        (("run_variant_ab", "arms.tsv"), "which model"),
        (("optimize", "--model", "mock", "--engines", "mock,tgi"), "unknown engine 'tgi'"),
        (("optimize", "--model", "mock", "--engines", ","), "no engine"),
        (("optimize", "--model", "mock", "--engines", "mock", "--levers", "warp"), "unknown lever 'warp'"),
    ],
)
def test_wrong_use_is_refused_with_a_line(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], says: str) -> None:
    assert pao([*argv, "--dry-run"]) == 2
    assert says in capsys.readouterr().err


CONFIG = """
name: both
model: m
workloads: [{name: w, isl: 16, osl: 4}]
cells:
  - {cell_id: base, role: baseline, engine: mock, flags: {itl-ms: 2}}
  - {cell_id: other, engine: fake}
engine_flags: {mock: {ttft-ms: 1}, fake: [--slow]}
"""


def test_flags_of_one_engine_go_to_its_cells_alone(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    arms = {a.id: a.flags for a in plan_of(load_config(tmp_path / "c.yaml"), at=0.0).arms}
    assert arms == {"base": ("--ttft-ms", "1", "--itl-ms", "2"), "other": ("--slow",)}


def test_flags_of_an_engine_that_no_cell_has_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG.replace("fake: [", "sglang: ["))
    with pytest.raises(WrongUse, match="no cell has the engine sglang"):
        plan_of(load_config(tmp_path / "c.yaml"), at=0.0)


def plan_in(tmp_path: Path) -> tuple[Path, Plan]:
    plan = synthetic_plan()
    return create(plan, tmp_path / "space", "Made by `test`."), plan


def test_an_edited_table_of_arms_is_found(tmp_path: Path) -> None:
    run, plan = plan_in(tmp_path)
    ev = SimpleNamespace(draft=plan)
    assert not [line for line in check_sources(run, ev, walk(run)) if "arms.tsv" in line]
    path = run / "arms.tsv"
    path.write_bytes(path.read_bytes().replace(b"--fast", b"--slow"))
    assert [line for line in check_sources(run, ev, walk(run)) if line.startswith("arms.tsv")]


@pytest.mark.parametrize(
    ("config", "experts"),
    [
        ({"num_experts": 8}, True),
        ({"text_config": {"n_routed_experts": 64}}, True),
        ({"hidden_size": 8}, False),
        ([], None),
    ],
)
def test_experts_are_read_from_the_models_own_config(tmp_path: Path, config: object, experts: bool | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert has_experts(str(tmp_path)) is experts
    assert has_experts("owner/on-a-hub") is None
