"""Levers on top of a quantized checkpoint: which checkpoint, how many, and that the pick may be both with all it is on record."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.analysis.checkpoints import checkpoint_gate
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.checkpoints import keep
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.optimize import OptimizeRequest, arms_of, run
from profile_and_optimize.ops.quant_arms import QuantRequest, jobs_of, keep_jobs, kept_jobs
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.optimize.levers import Facts
from profile_and_optimize.optimize.on_top import on_top
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.living import living_run
from profile_and_optimize.testing.quantized import forgetful, quantized_plan


def arm(name: str, predicted: tuple[float, float] | None, *flags: str, checkpoint: str = "") -> Arm:
    return Arm(
        name,
        "mock",
        Role.CANDIDATE,
        flags,
        lever=f"{name} lever",
        predicts=name,
        predicted=predicted,
        checkpoint=checkpoint,
    )


INT8 = arm("int8", (1.1, 1.7), checkpoint="/c/int8")
FP4 = arm("nvfp4", (0.5, 0.9), checkpoint="/c/nvfp4")
BARE = arm("w4a16", None, checkpoint="/c/w4a16")
FAST, WIDE = arm("fast", (1.0, 1.5), "--fast"), arm("wide", None, "--wide", "2")


def test_the_checkpoint_that_promises_most_gets_the_levers_in_their_order() -> None:
    found = on_top([FP4, BARE, INT8], [FAST, WIDE], most=1)
    (both,) = found.arms
    assert (both.id, both.checkpoint, both.flags) == ("int8-fast", "/c/int8", ("--fast",))
    assert both.predicted == pytest.approx((1.1, 2.55)) and both.lever == "int8 lever; on top of it: fast lever"
    assert found.left == ("wide",) and found.others == ("nvfp4", "w4a16")
    assert found.words()[0] == "on top of int8, which promises most of 3 (x1.1 to x1.7): int8-fast"


def test_without_a_prediction_a_checkpoint_ranks_as_no_change_and_the_product_is_unknown() -> None:
    found = on_top([FP4, BARE], [FAST], most=2)
    assert found.base is BARE and found.arms[0].predicted is None
    assert on_top([INT8, replace(INT8, id="again")], [], most=2).base is INT8
    assert "no lever" in on_top([INT8], [FAST], most=0).words()[0]


def planned(**more: object) -> tuple[list[str], list[str]]:
    said: list[str] = []
    world = replace(fake_world(FakeEngine({}), FakeClient(), FakeClock()), say=said.append)
    world = replace(world, engines={"mock": world.engine("fake")}) if "fake" in world.engines else world
    asked = OptimizeRequest(model="m", engines="mock", quant_target="int8,nvfp4", **more)
    return [a.id for a in arms_of(asked, ("mock",), "m", world, (INT8, FP4))], said


def test_the_arms_are_bounded_and_said_before_anything_starts() -> None:
    assert planned()[0] == ["baseline", "baseline-again", "int8", "nvfp4"]
    both, said = planned(levers_on_top=True)
    assert both == ["baseline", "baseline-again", "int8", "nvfp4", "int8-quick", "int8-slow"]
    assert "levers no lever on top of nvfp4: one campaign tunes one checkpoint" in said
    assert planned(levers_on_top=True, max_arms=6)[0] == [*both[:5], "quick"]
    assert planned(levers_on_top=True, max_arms=5)[0] == both[:5]
    assert planned(levers_on_top=True, levers="slow")[0] == [*both[:4], "int8-slow", "slow"]
    for most in range(3, 12):
        assert len(planned(levers_on_top=True, max_arms=most)[0]) <= max(most, 4)


def test_levers_on_top_of_nothing_or_against_a_vendor_are_refused() -> None:
    with pytest.raises(WrongUse, match="no checkpoint of ours"):
        run(OptimizeRequest(model="m", levers_on_top=True), lambda _: None)
    with pytest.raises(WrongUse, match="not like for like"):
        run(OptimizeRequest(model="m", quant_target="int8", vendor="v", levers_on_top=True), lambda _: None)


DEMO = Path(__file__).parents[2] / "demo/model"
FLAG = ("--max-num-seqs", "64")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours by itself is faster than the base, and faster still with a lever on top."""
    folder = tmp_path_factory.mktemp("both")
    plan = quantized_plan(folder, vendor=False)
    bare = plan.arm("ours")
    more = replace(
        bare, id="ours-seqs", flags=FLAG, env=(("PAO_X", "1"),), lever="NVFP4; on top of it: fewer sequences"
    )
    lever = replace(more, id="seqs", checkpoint="", lever="fewer sequences")
    speeds = {"baseline": 10.0, "aa": 10.0, "ours": 8.0, "ours-seqs": 6.0, "seqs": 9.5}
    run = living_run(
        folder / "20261121T090000Z-both", replace(plan, arms=(*plan.arms, more, lever)), speeds=speeds, noise=0.002,
        ask=forgetful({}),
    )  # fmt: skip
    ev = load_evidence(run)
    publish(ev, decide(ev))
    return run


def test_the_pick_may_be_both_and_every_page_names_both_parts(both: Path) -> None:
    ev = load_evidence(both)
    d = decide(ev)
    assert d.pick == "ours-seqs" and look_at(both).problems == []
    assert {"ours", "ours-seqs", "seqs"} <= set(d.effects)  # one family: each part and both
    for name in ("report.txt", "report.html", "CHAMPION.md"):
        text = " ".join((both / name).read_text().split())
        assert "--max-num-seqs 64" in text and "ours" in text, name
    assert "on the checkpoint ours" in " ".join((both / "report.html").read_text().split())


def test_what_starts_it_and_what_is_known_good_hold_both(both: Path) -> None:
    ev = load_evidence(both)
    arm = ev.plan.arm("ours-seqs")
    good = json.loads((both / "known_good_config.json").read_text())
    assert good["flags"] == list(FLAG) and good["env"]["PAO_X"] == "1"
    assert good["checkpoint"] == {"folder": arm.checkpoint, "digest": arm.checkpoint_digest} and arm.checkpoint_digest
    row = next(r for r in json.loads((both / "quant_compare.json").read_text())["rows"] if r["cell"] == "ours-seqs")
    assert row["flags"] == list(FLAG) and row["env"] == {"PAO_X": "1"} and row["role"] == "ours"
    script = (both / "serve.sh").read_text()
    assert arm.checkpoint in shlex.split(script.replace("\n", " ").replace("#", "")) and "--max-num-seqs 64" in script


def test_its_answers_were_asked_of_it_as_it_is_served(tmp_path: Path) -> None:
    """The checkpoint alone keeps its answers, with the lever on top it forgets: only the latter leaves."""
    plan = quantized_plan(tmp_path, vendor=False)
    more = replace(plan.arm("ours"), id="ours-kv", flags=("--kv-cache-dtype", "fp8"))
    run = living_run(
        tmp_path / "20261121T090000Z-kv", replace(plan, arms=(*plan.arms, more)), noise=0.002,
        speeds={"baseline": 10.0, "aa": 10.0, "ours": 8.0, "ours-kv": 5.0}, ask=forgetful({"ours-kv": range(0, 600, 10)}),
    )  # fmt: skip
    ev = load_evidence(run)
    assert "no ship: accuracy" in ev.failed_arms["ours-kv"] and decide(ev).pick == "ours"


def test_one_job_stands_for_every_arm_that_serves_its_checkpoint(both: Path) -> None:
    ev = load_evidence(both)
    kept = ev.checkpoints
    other = {"ours": {"job_digest": "sha256:another"}}
    for pick in ("ours", "ours-seqs"):
        assert checkpoint_gate(pick, ev.plan, kept, {}).passed is True
        assert checkpoint_gate(pick, ev.plan, kept, other).passed is False
    assert kept_jobs(both, ev.plan) == {}


def test_a_run_that_goes_on_makes_one_checkpoint_for_all_its_arms(tmp_path: Path) -> None:
    asked = QuantRequest(quant_target="int8", seq_len=256, campaigns_dir=str(tmp_path / "runs"))
    jobs = jobs_of(asked, str(DEMO), "vllm", Facts(cores=2, cpu=True, compiler=True), lambda _: None)
    made = replace(INT8, checkpoint=str(jobs["int8"].out))
    both = on_top([made], [FAST], most=1).arms
    plan = replace(quantized_plan(tmp_path, vendor=False), slug="again")
    plan = replace(plan, arms=(*(a for a in plan.arms if not a.checkpoint), made, *both))
    folder = RunFolder(tmp_path / "20261121T090000Z-again")
    keep_jobs(folder, jobs)
    assert list(kept_jobs(folder.path, plan)) == ["int8"]
    with pytest.raises(WrongUse, match="still to be made"):
        keep(folder, plan, both[0])
    folder.close()


def test_a_contradiction_that_shows_once_the_checkpoint_is_made_leaves_at_admission(tmp_path: Path) -> None:
    plan = quantized_plan(tmp_path, vendor=False)
    more = replace(plan.arm("ours"), id="ours-awq", flags=("--quantization", "awq"))
    run = living_run(
        tmp_path / "20261121T090000Z-awq", replace(plan, arms=(*plan.arms, more)), noise=0.002,
        speeds={"baseline": 10.0, "aa": 10.0, "ours": 8.0, "ours-awq": 5.0},
    )  # fmt: skip
    ev = load_evidence(run)
    assert "--quantization awq names another method" in ev.failed_arms["ours-awq"] and decide(ev).pick == "ours"
