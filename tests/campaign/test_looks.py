"""Campaigns that look after every block, race, stop when answered, and are extended: on fakes, through the real loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan, plan_from_json
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import synthetic_plan

RUN = "20261121T090000Z-looks"


def plan_of(*ids: str, blocks: int = 8, race_rounds: int = 0) -> Plan:
    arms = [
        Arm("baseline", "fake", Role.BASELINE),
        Arm("aa", "fake", Role.AA),
        *(Arm(i, "fake", Role.CANDIDATE) for i in ids),
    ]
    return replace(synthetic_plan(blocks=blocks), arms=tuple(arms), race_rounds=race_rounds)


def run_at(
    path: Path, plan: Plan, speeds: dict[str, float], noise: float = 0.005, broken: dict[str, str] | None = None
) -> Path:
    clock = FakeClock()
    world = fake_world(FakeEngine({"baseline": 10.0, "aa": 10.0, **speeds}, broken or {}), FakeClient(noise), clock)
    folder = RunFolder(path / RUN, clock)
    try:
        conduct.open_draft(folder, plan)
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return path / RUN


def test_a_clear_answer_stops_at_the_first_look(tmp_path: Path) -> None:
    ev = load_evidence(run_at(tmp_path, plan_of("fast", "slow"), {"fast": 7.0, "slow": 20.0}))
    d = decide(ev)
    assert (d.effects["fast"].call, d.effects["slow"].call, dict(d.decided_at)) == (
        Call.BETTER,
        Call.WORSE,
        {"fast": 3, "slow": 3},
    )
    assert len(d.selection.blocks) == 3 and next(g for g in d.gates if g.name == "all looks taken").passed is True


def test_a_small_effect_takes_more_looks_than_a_large_one_and_an_open_one_all(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("small", "none", blocks=6), {"small": 9.5, "none": 10.0}, noise=0.012)
    d = decide(load_evidence(run))
    assert len(d.selection.blocks) == 6 and d.effects["none"].call is not Call.BETTER


def test_a_group_that_is_answered_gets_no_more_blocks(tmp_path: Path) -> None:
    plan = plan_of("fast", "slow", "like", "twin", blocks=5)
    run = run_at(tmp_path, plan, {"fast": 5.0, "slow": 20.0, "like": 9.9, "twin": 10.0}, noise=0.01)
    ev = load_evidence(run)
    d = decide(ev)
    have = [len(d.selection.of_group(ev.plan, g)) for g in ev.plan.groups]
    assert have[0] == 3 and have[1] == 5


def test_running_a_stopped_campaign_again_changes_nothing(tmp_path: Path) -> None:
    plan = plan_of("fast")
    run = run_at(tmp_path, plan, {"fast": 7.0})
    before = (run / "journal.jsonl").read_bytes()
    run_at(tmp_path, plan, {"fast": 7.0})
    assert (run / "journal.jsonl").read_bytes() == before


def extended(run: Path, blocks: int) -> None:
    clock = FakeClock()
    world = fake_world(FakeEngine({"baseline": 10.0, "aa": 10.0, "near": 9.75}), FakeClient(0.01), clock)
    folder = RunFolder(run, clock)
    try:
        plan = conduct.admit(folder, world)
        conduct.extend(folder, plan, blocks)
        conduct.run(folder, plan, world)
    finally:
        folder.close()


def test_an_open_campaign_can_be_extended_at_the_level_kept_back(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("near", blocks=3), {"near": 9.75}, noise=0.01)
    assert decide(load_evidence(run)).effects["near"].call is Call.UNKNOWN
    extended(run, 12)
    d = decide(load_evidence(run))
    assert d.effects["near"].call is Call.BETTER and 3 < d.decided_at["near"] <= 15
    assert d.effects["near"].level < 0.001  # 10% of 1%, shared over all added blocks there may ever be
    publish(run)
    assert check(run)[0] == []


def test_an_answered_or_unfinished_campaign_is_not_extended(tmp_path: Path) -> None:
    run = run_at(tmp_path, plan_of("fast"), {"fast": 7.0})
    with pytest.raises(WrongUse, match="every arm has its answer"):
        extended(run, 2)


def test_a_race_confirms_the_best_on_fresh_blocks_and_no_race_data_enters(tmp_path: Path) -> None:
    speeds = {f"x{i}": 10.0 + i for i in range(9)} | {"x4": 7.0}
    run = run_at(tmp_path, plan_of(*speeds, race_rounds=4), speeds)
    ev = load_evidence(run)
    d = decide(ev)
    assert json.loads((run / "finalists.json").read_text())["finalists"] == ["x4"]
    assert (d.pick, d.effects["x4"].call, set(d.effects)) == ("x4", Call.BETTER, {"x4"})
    used = {t.key.stage for arms in d.selection.blocks.values() for pts in arms.values() for t in pts.values()}
    assert used == {Stage.CONFIRM} and {t.key.stage for t in ev.trials} == {Stage.RACE, Stage.CONFIRM}
    raced = {t.file.prompts_digest for t in ev.trials if t.key.stage is Stage.RACE}
    assert not raced & {t.file.prompts_digest for t in ev.trials if t.key.stage is Stage.CONFIRM}
    publish(run)
    assert check(run)[0] == []
    text = (run / "report.txt").read_text()
    assert "RACED OUT" in text and "exploratory" in text


def test_an_arm_that_dies_in_the_race_is_a_failed_cell_and_the_race_goes_on(tmp_path: Path) -> None:
    class Dying(FakeEngine):
        def start(self, spec):  # the second start of x1 (its first race block) fails, as an engine that broke does
            seen.append(spec.arm.id)
            if spec.arm.id == "x1" and seen.count("x1") > 1:
                return FakeEngine({}, {"x1": "engine core died"}).start(spec)
            return super().start(spec)

    seen: list[str] = []
    speeds = {"x0": 10.0, "x1": 5.0, "x2": 8.0, "x3": 11.0}
    clock = FakeClock()
    world = fake_world(Dying({"baseline": 10.0, "aa": 10.0, **speeds}), FakeClient(), clock)
    folder = RunFolder(tmp_path / RUN, clock)
    conduct.open_draft(folder, plan_of(*speeds, race_rounds=2))
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    d = decide(load_evidence(tmp_path / RUN))
    assert d.failed == {"x1": "engine core died"} and d.pick == "x2"


def test_plans_with_a_race_come_back_from_json() -> None:
    plan = replace(plan_of("a", "b", "c", "d", race_rounds=3), slo=(("ttft", 0.2),))
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan
    last = plan.confirming(("c",))
    assert ([a.id for a in last.arms], [a.id for a in last.raced]) == (["baseline", "aa", "c"], ["a", "b", "d"])
    assert set(last.all_arms) == set(plan.all_arms)


@pytest.mark.parametrize(("limit_s", "passed"), [(10.0, True), (0.01, False)])
def test_an_slo_is_met_by_the_interval_over_sessions(tmp_path: Path, limit_s: float, passed: bool) -> None:
    run = run_at(tmp_path, replace(plan_of("fast"), slo=(("ttft", limit_s),)), {"fast": 7.0})
    gate = next(g for g in decide(load_evidence(run)).gates if g.name == "SLO")
    assert gate.passed is passed and "over 3 sessions" in gate.reason


def test_an_slo_inside_the_interval_stays_open(tmp_path: Path) -> None:
    run = run_at(tmp_path, replace(plan_of("fast"), slo=(("ttft", 0.0350),)), {"fast": 7.0}, noise=0.02)
    gate = next(g for g in decide(load_evidence(run)).gates if g.name == "SLO")
    assert gate.passed is None
