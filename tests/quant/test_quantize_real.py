"""The quantizing worker with the real libraries, in one process of the ptq tool environment (see worker_trials.py)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from profile_and_optimize.quant import pao_ptq
from profile_and_optimize.toolenv.find import find

pytestmark = [pytest.mark.engine, pytest.mark.slow]

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "demo"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    env = find("ptq")
    if env is None:
        pytest.skip("the ptq tool environment is not installed: pao tools install ptq")
    space = tmp_path_factory.mktemp("worker")
    samples = space / "samples.json"
    samples.write_text(json.dumps(demo_samples()))
    files = (Path(pao_ptq.__file__).parents[1], HERE / "make_model.py", DEMO / "model", samples, space)
    argv = [str(env.python), str(HERE / "worker_trials.py"), *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1800, env=os.environ | {"OMP_NUM_THREADS": "1"})
    told = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    assert done.returncode == 0 and told, done.stderr[-4000:]
    return dict(json.loads(told[-1].removeprefix("SEEN ")))


def demo_samples() -> list[list[int]]:
    """16 pieces of 32 tokens of the demo's held-out questions; the first four are kept from calibration."""
    tokenizer = Tokenizer.from_file(str(DEMO / "model/tokenizer.json"))
    rows = [json.loads(line) for line in (DEMO / "heldout.jsonl").read_text().splitlines()]
    ids = [i for row in rows for i in tokenizer.encode(f"{row['question']} {row['answer']}").ids]
    return [ids[at : at + 32] for at in range(0, 16 * 32, 32)]


@pytest.mark.parametrize("form", ["nvfp4", "nvfp4 by row", "mxfp4", "mxfp8", "static"])
def test_the_arithmetic_is_that_of_the_packed_tensors(seen: dict[str, Any], form: str) -> None:
    assert seen["arithmetic"][form]


def test_what_is_exported_is_what_answered(seen: dict[str, Any]) -> None:
    assert seen["unpacked"] == 0.0


@pytest.mark.parametrize("target", ["nvfp4", "fp8_static"])
def test_killed_in_calibration_it_goes_on_and_writes_the_same_bytes(seen: dict[str, Any], target: str) -> None:
    trial = seen[target]
    assert trial["killed"] and 6 <= trial["kept"] < 12
    assert f"resumes after batch {trial['kept']} of 12" in trial["note"]
    assert trial["same"] and trial["same facts"]


def test_int8_has_its_layout_its_records_and_answers_close_to_the_base(seen: dict[str, Any]) -> None:
    trial = seen["int8"]
    assert (
        trial["method"] == "compressed-tensors" and trial["dtypes"] == ["torch.int8"] and trial["state"] == ["lm_head"]
    )
    assert 0 < trial["kl"] < 0.01 and trial["peak"] > 100e6 and trial["job"] == "int8"
    wanted = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "quantize.json",
        "calibration.json",
    }
    assert wanted <= set(trial["files"])


@pytest.mark.parametrize("name", ["mixtral llm-compressor", "nemotron_h modelopt", "qwen3_moe modelopt"])
def test_layer_by_layer_gives_what_the_whole_model_gives(seen: dict[str, Any], name: str) -> None:
    trial = seen[name]
    assert trial["same"] and trial["kl"][0] == trial["kl"][1] > 0.01
    assert trial["inputs"] and all(trial["inputs"]) and trial["unquantized"] == ["lm_head"]
    for experts in trial["experts"]:
        assert experts["weight_quantizers"] == experts["count"] * experts["projections"]
        # 12 samples of 32 tokens, two experts each
        assert sum(experts["tokens"]) == 12 * 32 * 2 and len(experts["tokens"]) == experts["count"] == 4


@pytest.mark.parametrize("name", ["mixtral llm-compressor", "nemotron_h modelopt", "qwen3_moe modelopt"])
def test_weights_keep_the_names_of_the_base_s_files(seen: dict[str, Any], name: str) -> None:
    trial = seen[name]
    ends = (
        "weight_scale",
        "weight_scale_2",
        "input_scale",
        "weight_packed",
        "weight_global_scale",
        "input_global_scale",
    )
    stems = {f"{n.rpartition('.')[0]}.weight" if n.rpartition(".")[2] in ends else n for n in trial["names"]}
    assert stems == set(trial["base"])
    modules = {n.rpartition(".")[0] for n in trial["base"]}
    named = [*trial["kinds"], *trial["excludes"]]
    assert not [e for e in named if not any(m == e or m.startswith(e + ".") for m in modules)]
    assert not [e for e in trial["excludes"] if any(ord(c) < 32 for c in e)]
    assert "experts" in trial["kinds"].values() and "router" in trial["kinds"].values()


def test_experts_that_a_backend_does_not_know_are_refused_by_name(seen: dict[str, Any]) -> None:
    for backend in ("modelopt", "llm-compressor"):
        told = seen["refused"][f"odd_moe {backend}"]
        assert told["code"] == "refused" and told["where"] == "model.layers.0.mlp" and not told["written"]


def test_awq_of_experts_is_refused_before_the_work(seen: dict[str, Any]) -> None:
    told = seen["refused"]["qwen3_moe modelopt"]
    assert told["code"] == "wrong_use" and "AWQ" in told["message"] and not told["written"]
