"""A whole campaign on fakes: what it calls, what it leaves behind, and what a kill or a gap does to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.campaign.run import run_one_session
from profile_and_optimize.campaign.timing import affordable_blocks, round_cost
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, WrongUse
from profile_and_optimize.core.verdict import Call, Tier
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run

RUN = "20261121T090000Z-synthetic"


@pytest.fixture(scope="module")
def ev(closed_run: Path) -> Evidence:
    return load_evidence(closed_run)


def test_faster_is_better_slower_is_worse_and_the_pick_is_the_better_one(ev: Evidence) -> None:
    d = decide(ev)
    assert (d.effects["fast"].call, d.effects["slow"].call, d.pick) == (Call.BETTER, Call.WORSE, "fast")
    assert d.effects["fast"].estimate == pytest.approx(0.105, abs=0.02)  # log(10 / 9)


def test_an_arm_that_cannot_start_is_a_failed_cell_with_its_reason(closed_run: Path) -> None:
    assert (closed_run / "cells/broken/status.txt").read_text() == "failed\n"
    rows = [json.loads(line) for line in (closed_run / "atlas.jsonl").read_text().splitlines()]
    failed = [r for r in rows if r["cell"] == "broken"]
    assert failed and all("not supported on this device" in r["reason"] and r["blocks"] == [] for r in failed)


def test_the_baseline_is_compared_with_itself_and_does_not_win(ev: Evidence) -> None:
    aa = decide(ev).aa
    assert aa.lower < 0 < aa.upper


def test_without_accuracy_the_pick_stays_a_draft_that_says_so(ev: Evidence) -> None:
    d = decide(ev)
    assert d.tier is Tier.DRAFT and "accuracy" in {g.name for g in d.open_gates}


def test_with_every_gate_passed_it_is_a_verdict(tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text("\n".join(json.dumps({"question": f"say word{i}", "answer": f"word{i}"}) for i in range(300)))
    plan = synthetic_plan(blocks=4, questions=str(questions))
    plan = replace(
        plan, proof_blocks=8, points=tuple(replace(p, requests=24) for p in plan.points)
    )  # enough to see a steady state
    d = decide(load_evidence(synthetic_run(tmp_path / RUN, plan)))
    assert (d.tier, [g.name for g in d.open_gates]) == (Tier.VERDICT, [])


def test_two_renders_are_the_same_bytes(run_copy: Path) -> None:
    before = {
        p: (run_copy / p).read_bytes()
        for p in ("report.html", "report.txt", "CHAMPION.md", "atlas.jsonl", "manifest.json")
    }
    publish(run_copy)
    assert before == {p: (run_copy / p).read_bytes() for p in before}


def test_an_invalid_client_is_run_again_and_then_the_block_dropped_for_all(tmp_path: Path) -> None:
    client = FakeClient(lag_ns=5_000_000)
    plan = synthetic_plan(blocks=2)
    with pytest.raises(BrokeMidway, match="too many blocks were lost"):
        synthetic_run(tmp_path / RUN, plan, client=client)
    ev = load_evidence(tmp_path / RUN)
    assert {t.key.attempt for t in ev.trials} == {1, 2, 3}
    assert len(ev.given_up) == plan.blocks + 3 and decide(ev).pick == "baseline"


def test_failed_requests_count_against_the_arm_and_fail_a_gate(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path / RUN, client=FakeClient(error_every=5))
    d = decide(load_evidence(run))
    gate = next(g for g in d.gates if g.name == "failed requests")
    assert gate.passed is False and d.tier is Tier.DRAFT


def test_a_baseline_that_cannot_serve_stops_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match="out of memory"):
        synthetic_run(tmp_path / RUN, engine=FakeEngine(SPEEDS, {"baseline": "out of memory"}))


def test_an_aa_arm_that_differs_vetoes_every_win(tmp_path: Path) -> None:
    speeds = {**SPEEDS, "aa": 9.0}
    run = synthetic_run(tmp_path / RUN, engine=FakeEngine(speeds, {"broken": "x"}))
    d = decide(load_evidence(run))
    assert d.vetoed and d.effects["fast"].call is Call.UNKNOWN and d.pick == "baseline"


def test_a_block_with_a_long_gap_is_excluded_for_all_its_arms_and_run_afresh(tmp_path: Path) -> None:
    clock, plan = FakeClock(), synthetic_plan(blocks=2)
    world = fake_world(FakeEngine(SPEEDS, {"broken": "x"}), clock=clock)
    folder = RunFolder(tmp_path / RUN, clock)
    conduct.open_draft(folder, plan)
    frozen = conduct.admit(folder, world)
    run_one_session(folder, frozen, world, session_order(frozen, 1)[0])
    clock.at += 10 * frozen.gap_limit_s
    selection = conduct.run(folder, frozen, world)
    folder.close()
    assert sorted(selection.blocks) == [2, 3] and "gap" in selection.excluded[1]


def test_sessions_out_of_the_drawn_order_are_found_by_a_gate(tmp_path: Path) -> None:
    clock, plan = FakeClock(), synthetic_plan(blocks=2)
    world = fake_world(FakeEngine(SPEEDS, {"broken": "x"}), clock=clock)
    folder = RunFolder(tmp_path / RUN, clock)
    conduct.open_draft(folder, plan)
    frozen = conduct.admit(folder, world)
    for block in (1, 2):
        for arm in reversed(session_order(frozen, block)):
            clock.at += 1
            run_one_session(folder, frozen, world, arm)
    folder.close()
    gate = next(g for g in decide(load_evidence(tmp_path / RUN)).gates if g.name == "random order")
    assert gate.passed is False


def test_all_arms_of_a_block_get_the_same_prompts_and_the_next_block_new_ones(ev: Evidence) -> None:
    digests: dict[tuple[int, str], set[str]] = {}
    for t in ev.trials:
        digests.setdefault((t.key.block, t.key.point), set()).add(t.file.prompts_digest)
    assert all(len(d) == 1 for d in digests.values())
    assert len({next(iter(d)) for d in digests.values()}) == len(digests)


def test_the_number_of_blocks_is_what_the_budget_buys_and_at_least_the_first_look() -> None:
    plan = synthetic_plan()
    cost = round_cost(plan.less(frozenset({"broken"})), {"baseline": 10, "aa": 10, "fast": 10, "slow": 10})
    assert cost.round_s == pytest.approx(42.0)
    assert [affordable_blocks(cost, s) for s in (0, 130, 170, 1e9)] == [3, 3, 4, 12]


def test_more_candidates_than_fit_in_four_make_groups_with_the_baseline_in_each() -> None:
    plan = synthetic_plan()
    assert plan.groups == (("baseline", "aa", "fast", "slow"), ("baseline", "aa", "broken"))


@pytest.mark.parametrize("spoil", [
    {"arms": ()}, {"focus": "speed"}, {"points": ()}, {"alpha": 0.02}, {"slug": "../x"}, {"blocks": -1},
])  # fmt: skip
def test_a_plan_that_cannot_be_is_refused_at_birth(spoil: dict[str, object]) -> None:
    with pytest.raises(WrongUse):
        replace(synthetic_plan(), **spoil)


def campaign_at(tmp_path: Path, blocks: int) -> tuple[RunFolder, object, object]:
    clock, plan = FakeClock(), synthetic_plan(blocks=blocks)
    world = fake_world(FakeEngine(SPEEDS, {"broken": "x"}), clock=clock)
    folder = RunFolder(tmp_path / RUN, clock)
    conduct.open_draft(folder, plan)
    return folder, conduct.admit(folder, world), world


def test_before_the_first_look_nobody_is_called(tmp_path: Path) -> None:
    """Looked at after 2 of 4 planned blocks, an arm 10% faster is UNKNOWN; at the look after block 3 it is BETTER."""
    folder, plan, world = campaign_at(tmp_path, 4)
    for block in (1, 2):
        for arm in session_order(plan, block):
            run_one_session(folder, plan, world, arm)
    early = decide(load_evidence(folder.path))
    assert (
        early.effects["fast"].call is Call.UNKNOWN and "the first look is after block 3" in early.effects["fast"].reason
    )
    assert early.pick == "baseline" and "interim analyses complete" in {g.name for g in early.open_gates}
    conduct.run(folder, plan, world)
    folder.close()
    assert decide(load_evidence(tmp_path / RUN)).effects["fast"].call is Call.BETTER


def test_a_finished_campaign_cannot_be_topped_up(tmp_path: Path) -> None:
    folder, plan, world = campaign_at(tmp_path, 2)
    conduct.run(folder, plan, world)
    with pytest.raises(WrongUse, match="all its sessions"):
        run_one_session(folder, plan, world, "fast")
    folder.close()


def test_a_baseline_that_fails_requests_makes_no_winner(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path / RUN, client=FakeClient(error_every=7))
    effect = decide(load_evidence(run)).effects["fast"]
    assert effect.call is Call.UNKNOWN and effect.estimate is None and "failed" in effect.reason


def test_questions_that_the_baseline_cannot_answer_prove_no_accuracy(tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text(
        "\n".join(json.dumps({"question": f"say word{i}", "answer": "something else"}) for i in range(200))
    )
    run = synthetic_run(tmp_path / RUN, synthetic_plan(blocks=4, questions=str(questions)))
    gate = next(g for g in decide(load_evidence(run)).gates if g.name == "accuracy")
    assert gate.passed is None and "cannot show a loss" in gate.reason


def test_an_aa_arm_that_cannot_start_leaves_a_campaign_that_says_so(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path / RUN, engine=FakeEngine(SPEEDS, {"broken": "x", "aa": "port taken"}))
    d = decide(load_evidence(run))
    assert d.aa is None and "A/A arm" in {g.name for g in d.open_gates} and d.tier is Tier.DRAFT


@pytest.mark.parametrize(("flags", "env", "word"), [
    (("--host", "0.0.0.0"), (), "--host"), (("--uds=x",), (), "--uds"), (("--api-key", "x"), (), "credential"),
    (("--served-model-name=other",), (), "--served-model-name"), ((), (("HF_TOKEN", "hf_x"),), "HF_TOKEN"),
])  # fmt: skip
def test_settings_that_are_not_an_arms_to_make_are_refused_at_birth(flags, env, word: str) -> None:
    with pytest.raises(WrongUse, match=word):
        Arm("x", "fake", Role.CANDIDATE, flags, env)


def test_two_workloads_of_the_same_name_and_load_are_refused(tmp_path: Path) -> None:
    plan = synthetic_plan()
    with pytest.raises(WrongUse, match=r"short-chat\.c4"):
        replace(plan, points=(plan.points[0], plan.points[0]))
