"""Campaigns that look after every block, race, stop when answered, and are extended: on fakes, through the real loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.looks import looks_at
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
    assert (
        len(d.selection.blocks) == 3
        and next(g for g in d.gates if g.name == "interim analyses complete").passed is True
    )


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
    run = run_at(tmp_path, plan_of("slow"), {"slow": 20.0})
    with pytest.raises(WrongUse, match="every variant has its answer"):
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


def slo_gate(path: Path, limit_s: float, requests: int) -> Gate:
    plan = replace(plan_of("fast"), slo=(("ttft", limit_s),))
    plan = replace(plan, points=(replace(plan.points[0], requests=requests),))
    d = decide(load_evidence(run_at(path, plan, {"fast": 7.0}, noise=0.01)))
    return next(g for g in d.gates if g.name == "SLO")


def test_an_slo_needs_enough_requests_to_bound_a_p99_and_is_met_by_the_interval_over_sessions(tmp_path: Path) -> None:
    few = slo_gate(tmp_path / "few", 10.0, 64)
    assert few.passed is None and "64 values in a session, it takes 299" in few.reason
    met = slo_gate(tmp_path / "met", 10.0, 304)
    assert met.passed is True and "over 3 sessions" in met.reason
    assert slo_gate(tmp_path / "broken", 0.01, 64).passed is False
    assert slo_gate(tmp_path / "inside", 0.0350, 304).passed is None  # the fake's TTFT is 35 ms, give or take its noise


def test_a_veto_that_more_blocks_would_drown_leaves_no_call_behind() -> None:
    """The baseline runs 4% slow in blocks 1 to 3: the candidate looks better there, and so does the A/A arm."""
    plan = plan_of("like", blocks=8)
    rng = np.random.default_rng(3)
    table = {}
    for b in range(1, 9):
        noise = rng.normal(0, 0.001, 3)
        table[b] = {"baseline": noise[0] - (0.04 if b <= 3 else 0.0), "aa": noise[1], "like": noise[2]}
    early = looks_at(plan, [(plan.groups[0], {b: table[b] for b in (1, 2, 3)})])
    assert early.effects["like"].call is Call.UNKNOWN and "vetoed" in early.effects["like"].reason
    assert looks_at(plan, [(plan.groups[0], table)]).effects["like"].call is not Call.BETTER


def test_without_an_aa_arm_nothing_is_called_better() -> None:
    plan = plan_of("fast")
    plan = replace(plan, arms=tuple(a for a in plan.arms if a.id != "aa"))
    table = {b: {"baseline": 0.001 * b, "fast": 0.3 + 0.0011 * b} for b in range(1, 9)}
    effect = looks_at(plan, [(plan.groups[0], table)]).effects["fast"]
    assert effect.call is Call.UNKNOWN and "no A/A arm" in effect.reason


def test_trials_broken_off_and_run_again_are_counted_and_keep_the_pick_a_draft(tmp_path: Path) -> None:
    class Stopped(BaseException):
        """kill -9 in the middle of a trial."""

    class Breaking(FakeClient):
        def run(self, load, *, workdir):
            if "fast" in load.url and len(load.prompts) > 4 and next(breaks, 0):
                raise Stopped
            return super().run(load, workdir=workdir)

    breaks = iter([0, 0, 1, 1, 1])
    clock = FakeClock()
    for _ in range(6):
        world = fake_world(FakeEngine({"baseline": 10.0, "aa": 10.0, "fast": 7.0}), Breaking(), clock)
        folder = RunFolder(tmp_path / RUN, clock)
        try:
            conduct.open_draft(folder, plan_of("fast"))
            conduct.run(folder, conduct.admit(folder, world), world)
        except Stopped:
            continue
        finally:
            folder.close()
    d = decide(load_evidence(publish(tmp_path / RUN)))
    gate = next(g for g in d.gates if g.name == "no run cut short")
    assert gate.passed is None and gate.reason.startswith("3 times a trial was begun")
    assert check(tmp_path / RUN)[0] == []
