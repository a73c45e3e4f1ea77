"""vLLM's own sweep on a cell with a real engine that it starts itself, from a model folder to rows that verify makes again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from machine_help import DTYPE, DTYPE_FLAGS, commands
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.ops.verify import check
from profile_and_optimize.toolenv.find import find

ROOT = Path(__file__).parents[1]
ACK = "--i-understand-this-submits-jobs"
pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cell, two loads, eager for a short start."""
    if find("vllm") is None:
        pytest.skip("the vLLM tool environment is not installed: pao tools install vllm")
    space, model = tmp_path_factory.mktemp("space"), ROOT / "demo/model"
    config = {
        "name": "swept", "model": str(model), "engine": "vllm", "concurrencies": [1, 4], "requests": 8,
        "workloads": [{"name": "short", "isl": 48, "osl": 8}], "common_flags": ["--enforce-eager", *DTYPE_FLAGS],
        "cells": [{"cell_id": "base", "role": "baseline"}, {"cell_id": "one-seq", "flags": {"max-num-seqs": 1}}],
    }  # fmt: skip
    (space / "c.yaml").write_text(yaml.safe_dump(config))
    assert pao(["campaign_init", "--config", str(space / "c.yaml"), "--campaigns-dir", str(space)]) == 0
    assert (
        pao(["cell_run", "swept", "--cell", "one-seq", "--backend", "vllm-sweep", ACK, "--campaigns-dir", str(space)])
        == 0
    )
    return next(p for p in space.iterdir() if p.name.endswith("-swept"))


def test_every_load_is_there_with_the_engine_s_own_context(run: Path) -> None:
    rows = json.loads((run / "cells/one-seq/imported/vllm-sweep.json").read_text())["rows"]
    assert [(r["concurrency"], r["requests"], r["status"], r["flags"]) for r in rows] == [
        (1, 8, "full", []), (4, 8, "full", []),
    ]  # fmt: skip
    for row in rows:
        assert row["metrics"]["tpot_ms"]["p50"]["estimate"] > 0 and row["mean_output_tokens"] == 8
        context = row["context"]
        assert (
            context["max_num_seqs"]["observed"] == "1"
            and context["enforce_eager"]["observed"] == "True"
            and context["dtype"]["observed"] == DTYPE
        )
        assert (
            context["flags"]["asked"] == f"--enforce-eager --dtype {DTYPE} --max-num-seqs 1"
            and context["delivery"]["observed"] != "unknown"
        )
    assert (run / "cells/one-seq/status.txt").read_text() == "full\n"


def test_it_verifies_and_no_process_is_left(run: Path) -> None:
    assert check(run)[0] == []
    assert not [c for c in commands(below=os.getpid()) if "vllm" in c]
