"""Base, ours and a vendor-like checkpoint on a real vLLM: the vendor's is made by the other backend, without our records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.ops.verify import check
from profile_and_optimize.quant.vendor import vendor_scope
from profile_and_optimize.testing.quantized import vendor_like
from profile_and_optimize.toolenv.find import find

ROOT = Path(__file__).parents[2]
DEMO, ASKED = ROOT / "demo/model", 40
UNKNOWN_OF_IT = ("coverage", "roundtrip", "kl", "top1", "bits_per_weight")
pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_a_vendors_checkpoint_is_served_asked_and_judged_and_nothing_is_made_up_of_it(
    demo_checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    if find("vllm") is None:
        pytest.skip("the vLLM tool environment is not installed: pao tools install vllm")
    theirs = vendor_like(demo_checkpoints["nvfp4"], tmp_path / "theirs")
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join((ROOT / "demo/heldout.jsonl").read_text().splitlines(keepends=True)[:ASKED]))
    small = ["--suite", "demo-short", "--blocks", "2", "--proof-blocks", "0", "--requests", "4", "--concurrency", "2"]
    argv = [
        "--base",
        str(DEMO),
        "--ours",
        str(demo_checkpoints["int8"]),
        "--vendor",
        str(theirs),
        "--flags=--enforce-eager",
    ]
    code = pao(
        ["quant_compare", *argv, "--questions", str(questions), *small, "--campaigns-dir", str(tmp_path / "runs")]
    )
    (run,) = (tmp_path / "runs").iterdir()
    assert code == 0 and check(run)[0] == []
    found = json.loads((run / "quant_compare.json").read_text())
    base, ours, vendor = found["rows"]
    assert [r["role"] for r in found["rows"]] == ["base", "ours", "vendor"]
    assert all(r["failure"] is None and r["tpot_ms_median"] > 0 and r["accuracy"]["n"] for r in found["rows"])
    assert ours["kl_base"]["reloaded"] < 0.05 and vendor["kl_base"] is None and vendor["format"] == "modelopt NVFP4"
    kept = json.loads((run / "cells/vendor/raw/checkpoint.json").read_text())
    assert kept["records"] == {} and kept["same_tokenizer"] is True
    assert {kept["checkpoint"][n] for n in UNKNOWN_OF_IT} == {None} and kept["checkpoint"]["base_digest"] == "unknown"
    # Its list of what stays unquantized can be taken for ours, so that the two are alike.
    assert vendor_scope(theirs).exclude == ("lm_head", "model.embed_tokens")
