"""A short campaign on a real vLLM, from a model folder to a verified champion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.evidence.trialfile import is_trial_path
from profile_and_optimize.ops.verify import check
from profile_and_optimize.toolenv.find import find

ROOT = Path(__file__).parents[1]
ACK = "--i-understand-this-submits-jobs"
pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model grown, in a few layers so that the engine starts quickly."""
    env = find("vllm")
    if env is None:
        pytest.skip("the vLLM tool environment is not installed: pao tools install vllm")
    out = tmp_path_factory.mktemp("model") / "grown"
    argv = [str(env.python), "-m", "demo.grow", "--model", "demo/model", "--out", str(out), "--layers", "8"]
    subprocess.run(argv, cwd=ROOT, check=True, timeout=300)
    return out


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks of three arms and one that cannot start; eager throughout, for a short start."""
    space = tmp_path_factory.mktemp("space")
    config = {
        "name": "real", "model": str(model), "engine": "vllm", "blocks": 2, "concurrencies": [4], "requests": 16,
        "workloads": [{"name": "short", "isl": 48, "osl": 16}], "questions": str(ROOT / "demo/heldout.jsonl"),
        "common_flags": ["--enforce-eager"],
        "cells": [
            {"cell_id": "base", "role": "baseline"}, {"cell_id": "again", "role": "aa"},
            {"cell_id": "one-seq", "flags": {"max-num-seqs": 1}}, {"cell_id": "fp8", "flags": {"quantization": "fp8"}},
        ],
    }  # fmt: skip
    file = space / "c.yaml"
    file.write_text(yaml.safe_dump(config))
    assert pao(["campaign_init", "--config", str(file), "--campaigns-dir", str(space)]) == 0
    made = next(p for p in space.iterdir() if p.name.endswith("-real"))
    before = {**killed(space, made, trials=1), **killed(space, made, trials=3)}
    assert pao(["campaign_run", "real", ACK, "--campaigns-dir", str(space)]) == 0
    assert all((made / name).read_bytes() == data for name, data in before.items())
    assert pao(["report_render", "real", "--campaigns-dir", str(space)]) == 0
    return next(p for p in space.iterdir() if p.name.endswith("-real"))


def killed(space: Path, run: Path, *, trials: int) -> dict[str, bytes]:
    """kill -9 of a running campaign once it has finished so many trials, a few seconds into what comes next.

    Gives every finished trial with its bytes. Nothing of the engine may be left running.
    """
    argv = [
        sys.executable,
        "-m",
        "profile_and_optimize.cli.main",
        "campaign_run",
        "real",
        ACK,
        "--campaigns-dir",
        str(space),
    ]
    with (space / f"killed-{trials}.log").open("wb") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 500
        while len(finished(run)) < trials and child.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(4)
        assert child.poll() is None, (space / f"killed-{trials}.log").read_text()[-2000:]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    end = time.monotonic() + 60
    while engines() and time.monotonic() < end:
        time.sleep(0.5)
    assert engines() == []
    return finished(run)


def finished(run: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(run)): p.read_bytes() for p in run.glob("cells/*/raw/b*-a*.json") if ".raw." not in p.name
    }


def engines() -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if "serve" in line and "--served-model-name" in line and "vllm" in line]


def test_a_real_campaign_killed_twice_did_nothing_twice(run: Path) -> None:
    wrote = [e.data["path"] for e in load_evidence(run).events if e.kind == "wrote"]
    trials = [p for p in wrote if is_trial_path(p)]
    assert len(trials) == len(set(trials)) and not [p for p in trials if not p.endswith("-a1.json")]


def test_one_sequence_at_a_time_does_not_win_and_the_broken_arm_is_failed_with_the_engines_own_reason(
    run: Path,
) -> None:
    d = decide(load_evidence(run))
    assert d.effects["one-seq"].call is not Call.BETTER and d.effects["one-seq"].estimate < -0.1
    assert (run / "cells/fp8/status.txt").read_text() == "failed\n" and len(d.failed["fp8"]) > 10
    assert list((run / "cells/fp8/raw").glob("log-*.txt"))


def test_the_demo_model_answers_its_held_out_questions_through_the_engine(run: Path) -> None:
    answers = json.loads((run / "cells/base/raw/accuracy.json").read_text())["answers"]
    assert sum(a["said"].strip() == a["expected"] for a in answers) / len(answers) >= 0.95


def test_the_engine_and_not_only_the_flags_is_in_the_context(run: Path) -> None:
    context = load_evidence(run).trials[0].file.context
    assert context["enforce_eager"]["observed"] == "True" and context["dtype"]["observed"] == "bfloat16"
    assert context["engine_lock"]["observed"] != "unknown" and context["base_model_digest"]["asked"].startswith(
        "sha256:"
    )


def test_prompts_have_exactly_the_asked_tokens_and_the_server_kept_its_histogram(run: Path) -> None:
    for t in load_evidence(run).trials:
        assert {r.prompt_tokens for r in t.file.run.records if r.ok} == {48}
        assert t.honesty.server_tpot_ratio is not None


def test_it_verifies_and_serve_sh_starts_the_pick(run: Path) -> None:
    problems, _ = check(run)
    assert problems == []
    assert "vllm" in (run / "serve.sh").read_text()


def test_no_engine_process_is_left(run: Path) -> None:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(run.parent) not in listed and "vllm.entrypoints.cli.main serve" not in listed
