"""A short campaign on a real vLLM, from a model folder to a verified champion."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from machine_help import DTYPE, DTYPE_FLAGS, commands
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.evidence.trialfile import is_trial_path
from profile_and_optimize.ops.verify import check
from profile_and_optimize.toolenv.find import find

ROOT = Path(__file__).parents[1]
REQUESTS, ASKED = 8, 8
ACK = "--i-understand-this-submits-jobs"
pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks of two arms and one that cannot start; eager throughout, for a short start."""
    if find("vllm") is None:
        pytest.skip("the vLLM tool environment is not installed: pao tools install vllm")
    space = tmp_path_factory.mktemp("space")
    questions = space / "questions.jsonl"
    questions.write_text("".join((ROOT / "demo/heldout.jsonl").read_text().splitlines(keepends=True)[:ASKED]))
    config = {
        "name": "real", "model": str(ROOT / "demo/model"), "engine": "vllm", "blocks": 2, "concurrencies": [2],
        "requests": REQUESTS, "workloads": [{"name": "short", "isl": 48, "osl": 8}], "questions": str(questions),
        "common_flags": ["--enforce-eager", *DTYPE_FLAGS],
        "cells": [
            {"cell_id": "base", "role": "baseline"}, {"cell_id": "one-seq", "flags": {"max-num-seqs": 1}},
            {"cell_id": "fp8", "flags": {"quantization": "fp8"}},
        ],
    }  # fmt: skip
    file = space / "c.yaml"
    file.write_text(yaml.safe_dump(config))
    assert pao(["campaign_init", "--config", str(file), "--campaigns-dir", str(space)]) == 0
    made = next(p for p in space.iterdir() if p.name.endswith("-real"))
    before = {**killed(space, made, trials=1), **killed(space, made, trials=3)}
    assert len(before) == 3
    assert pao(["campaign_run", "real", ACK, "--campaigns-dir", str(space)]) == 0
    assert all((made / name).read_bytes() == data for name, data in before.items())
    assert pao(["report_render", "real", "--campaigns-dir", str(space)]) == 0
    return next(p for p in space.iterdir() if p.name.endswith("-real"))


def killed(space: Path, run: Path, *, trials: int) -> dict[str, bytes]:
    """kill -9 of a running campaign once it has finished so many trials and started the next engine.

    Gives every finished trial with its bytes. Nothing of the engine may be left running.
    """
    argv = ["campaign_run", "real", ACK, "--campaigns-dir", str(space)]
    with (space / f"killed-{trials}.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "profile_and_optimize.cli.main", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        wait_for(lambda: len(finished(run)) >= trials, child)
        before = ports(child.pid)
        wait_for(lambda: ports(child.pid) - before, child)
        mine = ports(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    wait_for(lambda: not engines(mine))
    return finished(run)


def wait_for(told: Callable[[], object], running: subprocess.Popen[bytes] | None = None) -> None:
    """Until it is so; fails after half an hour, or when the process that should bring it has ended."""
    end = time.monotonic() + 1800
    while not told():
        assert time.monotonic() < end and (running is None or running.poll() is None)
        time.sleep(0.2)


def finished(run: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(run)): p.read_bytes() for p in run.glob("cells/*/raw/b*-a*.json") if ".raw." not in p.name
    }


def ports(pid: int) -> set[str]:
    """Of the engines that run below this process."""
    return set(re.findall(r" serve .*?--port (\d+)", "\n".join(commands(below=pid))))


def engines(ports: set[str]) -> list[str]:
    return [c for c in commands() if any(f"--port {port} " in c for port in ports)]


def test_a_real_campaign_killed_twice_did_nothing_twice(run: Path) -> None:
    wrote = [e.data["path"] for e in load_evidence(run).events if e.kind == "wrote"]
    trials = [p for p in wrote if is_trial_path(p)]
    assert len(trials) == len(set(trials)) and not [p for p in trials if not p.endswith("-a1.json")]


def test_the_broken_arm_is_failed_with_the_engines_own_reason_and_the_others_have_a_call(run: Path) -> None:
    d = decide(load_evidence(run))
    assert set(d.effects) == {"one-seq"} and len(d.selection.blocks) == 2
    assert (run / "cells/fp8/status.txt").read_text() == "failed\n" and len(d.failed["fp8"]) > 10
    (log,) = (run / "cells/fp8/raw").glob("log-*.txt")
    assert d.failed["fp8"][:60] in log.read_text()


def test_the_demo_model_answers_its_held_out_questions_through_the_engine(run: Path) -> None:
    answers = json.loads((run / "cells/base/raw/accuracy.json").read_text())["answers"]
    assert len(answers) == ASKED and sum(a["said"].strip() == a["expected"] for a in answers) >= ASKED - 1


def test_the_engine_and_not_only_the_flags_is_in_the_context(run: Path) -> None:
    for t in load_evidence(run).trials:
        context = t.file.context
        assert context["enforce_eager"]["observed"] == "True" and context["dtype"]["observed"] == DTYPE
        # Its log names what differs from its defaults.
        assert (context.get("max_num_seqs", {}).get("observed") == "1") is (t.key.arm == "one-seq")
        assert context["engine_lock"]["observed"] != "unknown"
        assert context["base_model_digest"]["asked"].startswith("sha256:")


def test_prompts_have_exactly_the_asked_tokens_and_the_server_kept_its_histogram(run: Path) -> None:
    trials = load_evidence(run).trials
    assert len(trials) == 4 and {len(t.file.run.records) for t in trials} == {REQUESTS}
    for t in trials:
        assert {r.prompt_tokens for r in t.file.run.records if r.ok} == {48}
        assert t.honesty.server_tpot_ratio is not None


def test_it_verifies_and_serve_sh_starts_the_pick(run: Path) -> None:
    problems, _ = check(run)
    assert problems == []
    assert "vllm" in (run / "serve.sh").read_text()


def test_no_engine_process_is_left(run: Path) -> None:
    assert ports(os.getpid()) == set()
