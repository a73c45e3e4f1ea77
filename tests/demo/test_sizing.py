"""What the demo measures, by the speed of the machine: a pure function, checked at three kinds of machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from demo.run import command, downloaded_s, spread
from demo.sizing import SETTLED, STEPS, Speed, measure, plan, plan_lines

from demo import run
from profile_and_optimize.stats.noninferiority import enough_without_loss

MINUTES = 60.0
AVX512 = Speed(cores=2.0, cores_there=2, ops_per_s=22e6, bytes_per_s=5e9, avx512=True, bf16=True)
AVX2 = replace(AVX512, avx512=False, bf16=False)
BUSY = replace(AVX2, cores=1.33)  # two of ours and one other process on two cores


def test_a_machine_with_avx512_measures_the_whole_demo() -> None:
    found = plan(AVX512, 15 * MINUTES)
    assert (found.parameters, found.requests, found.questions) == (120_000_000, 32, 480)
    assert (found.lever, found.flags, found.left_out) == ("threads-all", (), ())


def test_one_with_avx2_alone_gets_a_smaller_model_its_engines_default_dtype_and_float32_as_the_lever() -> None:
    found = plan(AVX2, 15 * MINUTES)
    assert found.parameters < 120_000_000 and found.questions >= 240
    assert (found.lever, found.flags, found.dtype) == ("dtype-float32", ("--enforce-eager",), "")


def test_one_busy_core_gets_less_and_never_more() -> None:
    quiet, busy = plan(AVX2, 15 * MINUTES), plan(BUSY, 20 * MINUTES)
    assert (busy.parameters, busy.requests, busy.questions) <= (quiet.parameters, quiet.requests, quiet.questions)


@pytest.mark.parametrize("speed", [AVX512, AVX2, BUSY, replace(AVX512, cores=1.33)])
@pytest.mark.parametrize("minutes", [15, 20, 40])
def test_what_is_planned_fits_or_is_the_smallest(speed: Speed, minutes: int) -> None:
    found = plan(speed, minutes * MINUTES)
    smallest = (found.parameters, found.layers, found.requests, found.questions) == STEPS[-1]
    assert found.seconds <= minutes * MINUTES or smallest


def test_what_is_left_out_is_said_before_it_begins() -> None:
    found = plan(AVX2, 15 * MINUTES)
    said = "\n".join(plan_lines(AVX2, found, 15 * MINUTES))
    assert "left out, to fit into 15 min: compilation: every variant runs with --enforce-eager" in said
    assert f"left out, to fit into 15 min: {480 - found.questions} of 480 accuracy questions" in said
    assert "3 blocks of baseline, A/A control and dtype-float32" in said and "no AVX-512, no bfloat16" in said


def test_a_machine_that_cannot_do_it_is_told_so_before_it_begins() -> None:
    slow = replace(AVX2, cores=0.3)
    said = "\n".join(plan_lines(slow, plan(slow, 15 * MINUTES), 15 * MINUTES))
    assert "more than the budget of 15 min" in said


def test_the_questions_that_settle_are_those_of_the_gate() -> None:
    assert {n: enough_without_loss([("", "")] * n, 0.02) for n in SETTLED} == SETTLED


def test_the_command_has_the_sizes() -> None:
    found = plan(AVX2, 15 * MINUTES)
    argv = command(found, 660.0, 225.0)
    assert argv[argv.index("--requests") + 1] == str(found.requests) and "--engine-flags=--enforce-eager" in argv
    assert argv[argv.index("--levers") + 1] == "dtype-float32" and "--eager-after-s" not in argv
    compiled = command(plan(AVX512, 15 * MINUTES), 660.0, 86.0)
    assert compiled[compiled.index("--eager-after-s") + 1] == "108"
    assert not any(a.startswith("--engine-flags") for a in compiled)


def test_fewer_questions_are_taken_from_every_kind(tmp_path: Path) -> None:
    spread(Path(__file__).parents[2] / "demo/heldout.jsonl", tmp_path / "q.jsonl", 240)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert {k: kinds.count(k) for k in set(kinds)} == dict.fromkeys(("add", "subtract", "copy", "lookup"), 60)


def test_what_is_installed_already_leaves_room_for_more() -> None:
    tight = replace(AVX2, cores=1.6)
    assert plan(tight, 15 * MINUTES, setup_s=25.0).questions > plan(tight, 15 * MINUTES).questions


def test_only_downloads_of_this_run_are_apart(tmp_path: Path) -> None:
    marker = tmp_path / "pao-tool.json"
    assert downloaded_s(marker, 0.0) == 0.0
    marker.write_text(json.dumps({"download": {"seconds": 76.0}}))
    assert downloaded_s(marker, 0.0) == 76.0 and downloaded_s(marker, marker.stat().st_mtime + 1) == 0.0


def test_a_second_measurement_that_gives_another_plan_is_said(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(run, "measure", lambda: AVX2)
    first = plan(AVX2, 700.0, setup_s=25.0)
    assert run.again(first, 700.0) == (AVX2, first) and capsys.readouterr().out == ""
    monkeypatch.setattr(run, "measure", lambda: BUSY)
    assert run.again(first, 700.0)[1] != first and "another plan" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"cores": 0.0}, {"cores": 3.0}, {"ops_per_s": 0.0}, {"bytes_per_s": -1.0}])
def test_a_speed_is_checked_at_birth(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a measured speed"):
        replace(AVX2, **wrong)


def test_the_probe_measures_this_machine() -> None:
    found = measure(probe_s=0.05)
    assert 0 < found.cores <= found.cores_there and found.ops_per_s > 0 and found.bytes_per_s > 0
