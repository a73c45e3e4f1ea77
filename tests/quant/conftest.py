"""Checkpoints of the demo model, made once for all tests that serve or compare them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from profile_and_optimize.quant.job import Calibration, Heldout, new_job
from profile_and_optimize.quant.run import quantized
from profile_and_optimize.toolenv.find import find
from profile_and_optimize.workloads.recorded import digest_file

ROOT = Path(__file__).parents[2]
DEMO, QUESTIONS = ROOT / "demo/model", ROOT / "demo/heldout.jsonl"
MADE = {"nvfp4": "modelopt", "int8": "llm-compressor"}


@pytest.fixture(scope="session")
def demo_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By target: NVFP4 by ModelOpt and INT8 by llm-compressor, through every step of a quantization."""
    if find("ptq") is None:
        pytest.skip("the ptq tool environment is not installed: pao tools install ptq")
    space = tmp_path_factory.mktemp("checkpoints")
    text = Calibration("demo", str(QUESTIONS), digest_file(QUESTIONS), samples=24, seq_len=64)
    jobs = [
        new_job(DEMO, space / target, backend=backend, target=target, calibration=text, heldout=Heldout(8, 64))
        for target, backend in MADE.items()
    ]
    return {job.target: quantized(job, lambda line: None).folder for job in jobs}
