"""vLLM on a CPU serves what we make: an NVFP4 checkpoint through our plugin, which is named, an INT8 one as released."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.ops.verify import check
from profile_and_optimize.toolenv import plugin
from profile_and_optimize.toolenv.find import ToolEnv, find

ACK = "--i-understand-this-submits-jobs"
QUESTIONS = Path(__file__).parents[2] / "demo/heldout.jsonl"
ASKED = 40
pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def vllm() -> ToolEnv:
    env = find("vllm")
    if env is None:
        pytest.skip("the vLLM tool environment is not installed: pao tools install vllm")
    return env


def served(model: Path, space: Path) -> dict[str, Any]:
    """The row of vLLM's own choice of a kernel, from a verified matrix."""
    options = [
        "--backends",
        "auto",
        "--concurrency",
        "2",
        "--requests",
        "4",
        "--osl",
        "8",
        "--flags",
        "--enforce-eager",
    ]
    questions = ["--questions", str(QUESTIONS), "--ask", str(ASKED)]
    code = pao(["serve_matrix", "--model", str(model), *options, *questions, "--campaigns-dir", str(space), ACK])
    run = next(p for p in space.iterdir() if p.name.endswith(model.name))
    assert code == 0, (run / "serve_matrix.txt").read_text()
    assert check(run)[0] == []
    return dict(json.loads((run / "serve_matrix.json").read_text())["rows"][0])


def test_its_answers_are_those_of_the_base_and_only_nvfp4_is_an_overlay(
    vllm: ToolEnv, demo_checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    # The base answers all of them right (demo/model/recipe.json).
    row = served(demo_checkpoints["nvfp4"], tmp_path)
    assert row["status"] == "serves" and row["right"] >= ASKED - 2
    assert row["kernels"] == ["WidenedNvFp4LinearKernel"] and row["sweep"][0]["requests"]["failed"] == 0
    named = plugin.label(str(plugin.folder_of(plugin.VLLM_NVFP4_CPU)))
    assert (row["delivery"], row["modified_files"]) == ("overlay", f"1: {named}")
    row = served(demo_checkpoints["int8"], tmp_path)
    assert row["status"] == "serves" and row["right"] == ASKED
    assert row["kernels"] == ["CPUInt8ScaledMMLinearKernel"]
    assert (row["delivery"], row["modified_files"]) == ("release", "none")


# Half-way cases, zeros, what is clipped, and blocks whose scale underflows.
ROUNDED = """
import torch
from pao_vllm_nvfp4_cpu import rounded
from vllm.model_executor.layers.quantization.utils.nvfp4_emulation_utils import ref_nvfp4_quant_dequant as theirs
torch.manual_seed(0)
ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 0.0, -0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5.0])
for x in (ties[None], torch.randn(7, 64), torch.randn(3, 32) * 300, torch.zeros(1, 16), torch.randn(2, 48) * 1e-6):
    for scale in (448.0, 1.0, 0.37, 2688.0 / float(x.abs().max() + 1e-9)):
        for dtype in (torch.bfloat16, torch.float32):
            given = x.to(dtype)
            assert torch.equal(rounded(given, torch.tensor(scale)), theirs(given, torch.tensor(scale), 16)), (x, scale)
print("equal")
"""


def test_activations_are_rounded_to_the_bits_of_vllms_own_emulation(vllm: ToolEnv) -> None:
    env = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(plugin.folder_of(plugin.VLLM_NVFP4_CPU)),
        "OMP_NUM_THREADS": "1",
    }
    argv = [str(vllm.python), "-c", ROUNDED]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines()[-1:] == ["equal"], done.stderr[-2000:]
