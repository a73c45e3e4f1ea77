"""The real road: every family on a small model of its architecture, and a quantization that is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import pytest
from small import QUESTIONS
from test_run import CHILD, until

from machine_help import commands
from profile_and_optimize.quant import bundle
from profile_and_optimize.quant.checkpoint import read_checkpoint
from profile_and_optimize.quant.families import family_of
from profile_and_optimize.quant.job import Calibration, Heldout, Job, job_bytes, new_job
from profile_and_optimize.quant.run import quantized
from profile_and_optimize.toolenv.find import ToolEnv, find
from profile_and_optimize.workloads.recorded import digest_file

HERE = Path(__file__).parent
WORKERS = Path(bundle.__file__).parent
TEXT = Calibration("questions", str(QUESTIONS), digest_file(QUESTIONS), samples=24, seq_len=64)
# The share of all weights that the family's scope leaves quantized, of models whose embedding and head are most of the rest.
LEAST_SHARE = 0.4
pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def ptq() -> ToolEnv:
    env = find("ptq")
    if env is None:
        pytest.skip("the ptq tool environment is not installed: pao tools install ptq")
    return env


def child(env: ToolEnv, *argv: str) -> str:
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run([str(env.python), *argv], env=settings, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def models(ptq: ToolEnv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    child(ptq, str(HERE / "make_model.py"), "all", str(folder))
    return folder


def job_of(model: Path, out: Path, **differs: Any) -> Job:
    asked = {"backend": "modelopt", "target": "nvfp4", "calibration": TEXT, "heldout": Heldout(8, 64)}
    return new_job(model, out, **(asked | differs))


@pytest.fixture(scope="module")
def made(
    ptq: ToolEnv, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[Job, dict[str, Any]]]:
    """By architecture: the job of NVFP4 by ModelOpt, and what came of it."""
    space = tmp_path_factory.mktemp("made")
    jobs = {arch: job_of(models / arch, space / arch) for arch in make_model.ARCHITECTURES}
    # Asked for past the registry, which refuses it: the worker has to see what the backend would pass over.
    odd = models / make_model.ODD
    dense = family_of({"model_type": "llama"})
    jobs[make_model.ODD] = replace(
        jobs["llama"], base=odd, out=space / make_model.ODD, family=dense, trust_remote_code=True
    )
    for arch, job in jobs.items():
        (space / f"{arch}.json").write_bytes(job_bytes(job))
    told = child(ptq, str(HERE / "road.py"), str(WORKERS), *(str(space / f"{arch}.json") for arch in jobs))
    found = {Path(one["job"]).stem: one for one in map(json.loads, told.splitlines()) if "statuses" in one}
    return {arch: (job, found[arch]) for arch, job in jobs.items()}


@pytest.mark.parametrize("arch", list(make_model.ARCHITECTURES))
def test_a_family_is_quantized_and_proven_on_a_small_model(
    made: Mapping[str, tuple[Job, dict[str, Any]]], arch: str
) -> None:
    job, told = made[arch]
    assert told["statuses"] == [0, 0, 0, 0], (told["error"], told["failed"])
    found = read_checkpoint(job.out)
    assert found.proven and found.job_digest == job.digest and found.quant_method == "modelopt"
    assert found.bits_per_weight == pytest.approx(4.5, rel=0.01)
    coverage = json.loads((job.out / "coverage.json").read_text())
    assert coverage["quantized_share"] >= LEAST_SHARE and coverage["bytes"]["actual"] == pytest.approx(
        coverage["bytes"]["expected"], rel=0.02
    )
    assert not job.partial.exists()


def test_experts_that_no_backend_knows_never_get_the_name(made: Mapping[str, tuple[Job, dict[str, Any]]]) -> None:
    job, told = made[make_model.ODD]
    assert told["statuses"][-1] != 0 and not job.out.exists() and (job.partial / "NOT_A_CHECKPOINT.txt").exists()
    assert "does not know 2 modules of experts" in told["error"]["message"], told


def test_killed_in_the_middle_it_goes_on_and_ends_in_the_same_bytes(
    ptq: ToolEnv, models: Path, made: Mapping[str, tuple[Job, dict[str, Any]]], tmp_path: Path
) -> None:
    whole, _ = made["qwen3_moe"]
    job = job_of(models / "qwen3_moe", tmp_path / "out")
    assert job.digest == whole.digest
    (tmp_path / "job.json").write_bytes(job_bytes(job))
    ours = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "job.json"), str(ptq.python)], stderr=subprocess.DEVNULL
    )
    log = job.bundle / "log.txt"
    until(lambda: log.exists() and '"stage": "quantize"' in log.read_text(), 300)
    time.sleep(0.2)
    ours.send_signal(signal.SIGKILL)
    ours.wait(60)
    assert not job.out.exists() and (job.partial / "NOT_A_CHECKPOINT.txt").exists()
    until(lambda: _free(job), 60)
    assert quantized(job, lambda line: None).proven
    assert (job.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()


def _free(job: Job) -> bool:
    """Has the worker of the killed run gone? Its reaper waits some seconds before it is ended by force."""
    return not [c for c in commands() if str(job.bundle) in c]
