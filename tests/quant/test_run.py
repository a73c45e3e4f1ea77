"""Running the steps: what is reused, what is refused, what dies with us. A made-up Python plays all steps but the first."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small import Player, alive, small_job

from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, WrongUse
from profile_and_optimize.quant import run
from profile_and_optimize.quant.bundle import ACK
from profile_and_optimize.quant.job import base_bytes
from profile_and_optimize.quant.pao_ptq.__main__ import STEPS
from profile_and_optimize.quant.run import quantized


def until(told: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for something that has to come."""
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_every_step_runs_in_order_with_the_threads_of_the_job(tmp_path: Path) -> None:
    job, player, said = small_job(tmp_path, threads=2), Player(tmp_path / "env"), []
    made = quantized(job, said.append, player.python)
    assert player.ran == [*STEPS] and player.threads == {"2"}
    assert made.proven and made.folder == job.out and made.job_digest == job.digest
    assert not job.partial.exists()
    assert any(line.startswith("llama: dense; family llama") for line in said)
    assert any(line.startswith("quantize 3/3: done") for line in said)
    log = (job.bundle / "log.txt").read_text()
    assert '"OMP_NUM_THREADS": "2"' in log and "PAO {" in log


def test_what_is_there_of_this_very_job_is_handed_back(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    first = quantized(job, print, player.python)
    assert quantized(job, print, Path("/no/such/python")) == first and player.ran == [*STEPS]


def test_a_result_of_another_job_or_of_nobody_is_refused_and_kept(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    quantized(job, print, player.python)
    before = sorted((p.name, p.stat().st_size) for p in job.out.iterdir())
    with pytest.raises(WrongUse, match="not of this job"):
        quantized(replace(job, seed=1), print, player.python)
    assert sorted((p.name, p.stat().st_size) for p in job.out.iterdir()) == before
    shutil.rmtree(job.out)
    job.out.mkdir()
    with pytest.raises(WrongUse, match="is there already"):
        quantized(job, print, player.python)


def test_a_result_that_did_not_pass_is_not_reused(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    quantized(job, print, player.python)
    (job.out / "roundtrip.json").write_text('{"passed": false}')
    with pytest.raises(WrongUse, match=r"roundtrip\.json: not the bytes"):
        quantized(job, print, player.python)


@pytest.mark.parametrize(
    ("act", "kind", "code"), [("wrong_use", WrongUse, 2), ("refused", GateRefused, 1), ("broke", BrokeMidway, 3)]
)
def test_the_error_that_a_step_names_is_ours(tmp_path: Path, act: str, kind: type[PaoError], code: int) -> None:
    job, player, said = small_job(tmp_path), Player(tmp_path / "env", roundtrip=act), []
    with pytest.raises(kind, match="a place: why it stopped -- next: what to do") as e:
        quantized(job, said.append, player.python)
    assert e.value.exit_code == code and type(e.value) is kind
    assert player.ran == [*STEPS[:3]] and not job.out.exists() and (job.partial / "NOT_A_CHECKPOINT.txt").exists()
    assert "FAIL no-zero-scale: 3 scales are zero" in said


def test_a_crash_without_a_word_is_told_by_its_last_error(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env", quantize="crash")
    with pytest.raises(BrokeMidway, match="quantize ended with status 1: RuntimeError: the library says no"):
        quantized(job, print, player.python)


def test_a_step_that_the_system_killed_is_said_to_be_so(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env", quantize="memory")
    with pytest.raises(BrokeMidway, match="quantize was killed: mostly that is the memory"):
        quantized(job, print, player.python)
    player.does()
    assert quantized(job, print, player.python).proven


def test_steps_that_end_well_and_leave_nothing_are_found_out(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env", guard="nothing")
    with pytest.raises(BrokeMidway, match="there is no checkpoint"):
        quantized(job, print, player.python)


def test_a_result_of_another_method_is_found_out(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    player.does(method="compressed-tensors")
    with pytest.raises(BrokeMidway, match="it reports compressed-tensors"):
        quantized(job, print, player.python)


def test_another_release_of_the_model_code_is_refused_before_anything_runs(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    player.does(transformers="5.15.2")
    with pytest.raises(WrongUse, match=r"transformers 5\.15\.2 is there, family llama is known for >=5\.5,<5\.15"):
        quantized(job, print, player.python)
    assert player.ran == [] and not job.partial.exists()


def test_no_disk_is_said_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(BrokeMidway, match=r"about 0\.0 GB are needed, 0\.0 GB are free") as e:
        quantized(job, print, player.python)
    assert e.value.exit_code == 3 and player.ran == [] and not job.out.exists()


def test_the_room_that_is_asked_for_is_that_of_export_and_records(tmp_path: Path) -> None:
    """A quarter of the base's bits stays; 2 x 32 rows of 718 numbers, two tensors of two bytes; 4 x 64 tokens as text."""
    job = small_job(tmp_path)
    os.truncate(job.base / "model.safetensors", 1_600_000)
    assert run.export_bytes(job) == int(1_600_000 * (4.5 / 16 + 0.25))
    assert run.side_bytes(job) == 2 * 32 * 718 * 4 + 4 * 64 * 8 + run.RECORDS_BYTES + base_bytes(job.base)


def test_too_little_memory_for_the_libraries_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    monkeypatch.setattr(run, "available_memory", lambda: 10**9)
    with pytest.raises(BrokeMidway, match=r"1\.0 GB of memory are free"):
        quantized(job, print, player.python)


def test_two_runs_of_one_job_do_not_meet(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env")
    with run.only_one(job), pytest.raises(WrongUse, match="by another run right now"):
        quantized(job, print, player.python)
    assert player.ran == []


def test_too_few_samples_stop_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "short"}\n')
    from profile_and_optimize.quant.job import Calibration
    from profile_and_optimize.workloads.recorded import digest_file

    text = Calibration("c.jsonl", str(tmp_path / "c.jsonl"), digest_file(tmp_path / "c.jsonl"), 512, 64)
    player = Player(tmp_path / "env")
    with pytest.raises(WrongUse, match="0 samples of 64 tokens are there, 512 are asked"):
        quantized(small_job(tmp_path, calibration=text), print, player.python)
    assert player.ran == ["calibrate"]


CHILD = """
import sys
from pathlib import Path
from profile_and_optimize.quant.job import read_job
from profile_and_optimize.quant.run import quantized
quantized(read_job(Path(sys.argv[1])), lambda line: None, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_us_ends_the_step_and_its_children_and_another_run_goes_on(
    tmp_path: Path, sign: signal.Signals
) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env", quantize="hang")
    (tmp_path / "job.json").write_text(json.dumps(job.to_json()))
    ours = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "job.json"), str(player.python)], stderr=subprocess.DEVNULL
    )
    until(lambda: len(player.pids()) == 2)
    ours.send_signal(sign)
    ours.wait(60)
    until(lambda: not any(alive(pid) for pid in player.pids()))
    assert not job.out.exists() and (job.partial / "NOT_A_CHECKPOINT.txt").exists()
    player.does()
    assert quantized(job, lambda line: None, player.python).proven
    assert player.ran == ["calibrate", "quantize", *STEPS]


def test_a_run_says_how_it_is_acknowledged() -> None:
    assert ACK == "PAO_I_UNDERSTAND_THIS_SUBMITS_JOBS"


def test_an_interruption_that_we_survive_ends_the_step_too(tmp_path: Path) -> None:
    job, player = small_job(tmp_path), Player(tmp_path / "env", quantize="hang")

    def say(line: str) -> None:
        if "at work" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantized(job, say, player.python)
    assert len(player.pids()) == 2 and not any(alive(pid) for pid in player.pids())
    assert not job.out.exists()


def test_an_end_that_nobody_saw_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unseen:
        ended, exit_code = True, None

        def __init__(self, *_: object) -> None: ...

        def stop(self) -> None: ...

    monkeypatch.setattr(run, "Managed", Unseen)
    step = run.steps(small_job(tmp_path), Path(sys.executable))[0]
    with pytest.raises(BrokeMidway):
        run.run_worker(step, tmp_path / "log.txt", print)
