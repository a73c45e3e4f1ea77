"""pao quant_compare before anything starts: what it takes, and the plan it makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import plan_from_json
from profile_and_optimize.ops.config import load_config, plan_of
from profile_and_optimize.ops.quant_arms import QuantRequest, jobs_of
from profile_and_optimize.ops.quant_arms import arms_of as quant_arms_of
from profile_and_optimize.ops.quant_compare import CompareRequest, run
from profile_and_optimize.optimize.levers import Facts
from profile_and_optimize.quant.checkpoint import read_checkpoint

DEMO = Path(__file__).parents[2] / "demo/model"
QUANT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
CPU = Facts(cores=2, cpu=True, compiler=True)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return shutil.copytree(DEMO, tmp_path / "base")


def like(base: Path, folder: Path) -> Path:
    """A copy that says it is quantized."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": QUANT}))
    return folder


def request(base: Path, ours: Path, **more: object) -> CompareRequest:
    return CompareRequest(base=str(base), ours=str(ours), engine="mock", dry_run=True, **more)


def test_the_three_stand_in_one_block_and_the_contrast_of_ours_and_theirs_is_planned(
    base: Path, tmp_path: Path
) -> None:
    ours, theirs = like(base, tmp_path / "ours"), like(base, tmp_path / "theirs")
    (base / "eval.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    found = run(request(base, ours, vendor=str(theirs)), lambda _: None)
    plan = plan_from_json({**found.data["plan"], "schema": 1})
    assert plan.groups == (("baseline", "baseline-again", "ours", "vendor"),) and plan.rivals == (("ours", "vendor"),)
    assert (plan.accuracy_margin, plan.race_rounds, plan.vendor) == (0.01, 0, "vendor")
    assert plan.model_of(plan.arm("ours")) == str(ours) and plan.model_of(plan.baseline) == plan.model


def test_it_refuses_what_is_not_quantized_and_what_nobody_could_judge(base: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="names no quantization"):
        run(request(base, base), lambda _: None)
    with pytest.raises(WrongUse, match="without questions"):
        run(request(base, like(base, tmp_path / "ours")), lambda _: None)
    half = like(base, tmp_path / "ours.partial")
    with pytest.raises(WrongUse, match="half made"):
        run(request(base, half), lambda _: None)


def test_a_target_takes_the_backend_whose_result_is_served_here(base: Path, tmp_path: Path) -> None:
    theirs = like(base, tmp_path / "theirs")
    asked = QuantRequest(
        quant_target="int8,nvfp4,modelopt:fp8", seq_len=256, vendor=str(theirs), campaigns_dir=str(tmp_path / "runs")
    )
    jobs = jobs_of(asked, str(base), "vllm", CPU, lambda _: None)
    assert {n: j.backend for n, j in jobs.items()} == {"int8": "llm-compressor", "nvfp4": "modelopt", "fp8": "modelopt"}
    arms = quant_arms_of(asked, jobs, "vllm", "throughput", CPU)
    assert [a.id for a in arms] == ["int8", "vendor", "nvfp4", "fp8"]
    assert arms[0].predicted == (1.1, 1.7) and arms[2].predicted is not None and arms[2].predicted[1] < 1
    assert all(Path(a.checkpoint).parent == tmp_path / "checkpoints" for a in arms if a.id != "vendor")
    with pytest.raises(WrongUse, match="unknown target 'int3'"):
        jobs_of(QuantRequest(quant_target="int3"), str(base), "vllm", CPU, lambda _: None)


def test_flags_are_those_of_every_arm_and_may_not_contradict_a_checkpoint(base: Path, tmp_path: Path) -> None:
    ours = like(base, tmp_path / "ours")
    (base / "eval.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    found = run(request(base, ours, flags="--itl-ms 9"), lambda _: None)
    assert all(c["argv"][-2:] == ["--itl-ms", "9"] for c in found.data["commands"])
    assert "3 arms are started once" in found.data["cost"] and "1 candidate are" not in found.data["cost"]
    with pytest.raises(WrongUse, match="--quantization awq names another method") as e:
        run(request(base, ours, flags="--quantization awq"), lambda _: None)
    assert e.value.where == "cell ours"
    with pytest.raises(WrongUse, match="not written as in a shell"):
        run(request(base, ours, flags="'--x"), lambda _: None)


def test_a_cell_of_a_campaign_file_may_name_both_and_may_not_contradict(base: Path, tmp_path: Path) -> None:
    ours = like(base, tmp_path / "ours")
    file = tmp_path / "campaign.yaml"
    cells = "{cell_id: base, role: baseline}, {cell_id: aa, role: aa}, {cell_id: both, checkpoint: %s, flags: {%s}}"
    head = f"name: both\nmodel: {base}\nengine: mock\ncells: ["
    file.write_text(head + cells % (ours, "itl-ms: 9") + "]\n")
    arm = plan_of(load_config(file), at=0.0).arm("both")
    assert (arm.checkpoint, arm.flags) == (str(ours), ("--itl-ms", "9"))
    file.write_text(head + cells % (ours, "quantization: gptq") + "]\n")
    with pytest.raises(WrongUse, match="--quantization gptq names another method"):
        plan_of(load_config(file), at=0.0)
    file.write_text(head + cells % (ours, "itl-ms: 9") + "]\ncommon_flags: [--quantization, gptq]\n")
    with pytest.raises(WrongUse, match="--quantization gptq names another method"):
        plan_of(load_config(file), at=0.0)


def test_an_unquantized_folder_has_no_method(base: Path) -> None:
    assert read_checkpoint(base).quant_method is None
