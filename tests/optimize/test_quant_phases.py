"""Phases 4 and 5 on fakes: checkpoints are made before anything is measured, a red gate stops, and a run goes on with its jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.optimize import OptimizeRequest
from profile_and_optimize.ops.quant_arms import kept_jobs
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.optimize.phases import road, walk
from profile_and_optimize.optimize.quant_levers import NOTHING, quant_lever
from profile_and_optimize.optimize.quantized import Quantize
from profile_and_optimize.quant.targets import RECIPES
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.quantized import checkpoint, quantized_plan


def begun(folder: Path) -> tuple[RunFolder, World, Plan, list[str]]:
    """A run with its draft, whose checkpoint of ours is still to be made."""
    plan = replace(quantized_plan(folder, vendor=False), client="fake-client")
    shutil.rmtree(folder / "ours")
    said: list[str] = []
    world = replace(fake_world(FakeEngine({"ours": 7.0}), FakeClient(), FakeClock()), say=said.append)
    run = RunFolder(folder / "20260921T141320Z-quantized", world.now)
    run.write_json("draft.json", plan.to_json(), producer="campaign_init")
    return run, world, plan, said


def maker(folder: Path) -> Callable[[Callable[[str], None]], None]:
    def make(say: Callable[[str], None]) -> None:
        say("quantize 1/1")
        checkpoint(folder / "ours")

    return make


def test_what_phase_4_makes_is_served_and_judged_in_the_same_run(tmp_path: Path) -> None:
    run, world, _, said = begun(tmp_path)
    walk(road(None, Quantize({"ours": maker(tmp_path)}), True), run, world)
    run.close()
    phases = [line.split()[1] for line in said if line.startswith("phase ")]
    assert phases == ["0", "4", "1", "3", "5", "8", "8.4", "8.5"]
    assert "  gate 4 passed: ours is modelopt" in said and any("ours: ship ours" in line for line in said)
    champion = json.loads((run.path / "champion_select.json").read_text())
    assert champion["pick"] == "ours" and look_at(run.path).problems == []
    assert str(tmp_path / "ours") in (run.path / "serve.sh").read_text()


def test_a_red_gate_4_stops_the_run_before_anything_is_started(tmp_path: Path) -> None:
    run, world, _, said = begun(tmp_path)

    def refuse(say: Callable[[str], None]) -> None:
        raise GateRefused("the export does not pass: no-zero-scale", where="coverage.json", next="read it")

    with pytest.raises(GateRefused, match="ours: the export does not pass: no-zero-scale"):
        walk(road(None, Quantize({"ours": refuse}), True), run, world)
    run.close()
    assert not (run.path / "plan.json").exists() and not any("serves" in line for line in said)


def test_quantizing_has_to_be_acknowledged(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="quantization jobs") as e:
        OptimizeRequest(model="m", quant_target="int8").require_ack()
    assert "--i-understand-this-submits-jobs" in e.value.next
    OptimizeRequest(model="m", quant_target="int8", dry_run=True).require_ack()
    OptimizeRequest(model="m").require_ack()


def test_a_run_whose_jobs_were_not_kept_says_so(tmp_path: Path) -> None:
    run, _, plan, _ = begun(tmp_path)
    run.close()
    with pytest.raises(WrongUse, match="how to make ours was not kept"):
        kept_jobs(run.path, plan)
    checkpoint(tmp_path / "ours")
    assert kept_jobs(run.path, plan) == {}


def test_predictions_are_ranges_and_written_for_what_can_be_served() -> None:
    told = [quant_lever(s.weight_format, s.activations, cpu=any(d.device == "cpu" for d in s.served)) for s in RECIPES]
    assert any(t is not NOTHING for t in told)
    assert all(0 < low < high for t in told for _, (low, high) in t.predicted)
