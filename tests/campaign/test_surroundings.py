"""What surrounds the trials of a whole campaign is in its evidence: machine, prompts, provenance, and how long it waited."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from profile_and_optimize.analysis.machine_gates import prompts_repeat_gate, quiet_gate, repeated_prompts
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.campaign.recover import adopt_orphans
from profile_and_optimize.campaign.session import prompt_ids
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.worlds import make_world, quiet_limit_s
from profile_and_optimize.testing.fakes import FakeClock, FakeEngine, FakeMachine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

RUN = "20261121T090000Z-synthetic"


@pytest.fixture(scope="module")
def ev(closed_run: Path) -> Evidence:
    return load_evidence(closed_run)


def campaign(path: Path, machine: FakeMachine, plan: Plan | None = None, engine: FakeEngine | None = None) -> Evidence:
    world = fake_world(engine or FakeEngine(SPEEDS, {"broken": "x"}), clock=FakeClock(), machine=machine)
    folder = RunFolder(path, world.now)
    try:
        conduct.open_draft(folder, plan or synthetic_plan(blocks=3))
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return load_evidence(path)


def test_every_trial_carries_its_prompts_apart_and_what_the_machine_did(ev: Evidence) -> None:
    for t in ev.trials:
        point = next(p for p in ev.plan.points if p.key == t.key.point)
        assert len(set(t.file.prompt_ids)) == len(t.file.prompt_ids) == point.concurrency + point.requests
        assert t.file.machine["foreign_cores"] == 0.0 and t.file.machine["cores"] == 2.0
        assert t.file.machine["clock_mhz_mean"] is None
    assert repeated_prompts(ev.trials, ev.plan) == [] and prompts_repeat_gate(ev.trials, ev.plan).passed
    assert quiet_gate(ev.trials).passed


def test_the_context_says_where_the_code_came_from_and_how_long_the_template_is(ev: Evidence) -> None:
    context = ev.trials[0].file.context
    assert (context["modified_files"]["observed"], context["template_tokens"]["observed"]) == ("none", "4")


def test_each_session_writes_down_how_it_waited(ev: Evidence) -> None:
    settled = [e.data for e in ev.events if e.kind == "settled"]
    sessions = {(t.key.stage, t.key.block, t.key.arm) for t in ev.trials}
    assert {(d["stage"], d["block"], d["arm"]) for d in settled} == sessions and len(settled) == len(sessions)
    assert all(d["quiet"] is True and d["waited_s"] == 1.0 for d in settled)


def test_a_neighbour_that_never_stops_disturbs_no_order_but_fails_the_gate(tmp_path: Path) -> None:
    ev = campaign(tmp_path / RUN, FakeMachine((0.4,)))
    gate = quiet_gate(ev.trials)
    assert gate.passed is False and "0.40 cores" in gate.reason
    waits = [e.data["waited_s"] for e in ev.events if e.kind == "settled"]
    assert waits[:6] == [120.0, 60.0, 30.0, 15.0, 8.0, 5.0] and {t.key.attempt for t in ev.trials} == {1}


def test_servers_that_are_not_ours_leave_the_machine_unknown(tmp_path: Path) -> None:
    ev = campaign(tmp_path / RUN, FakeMachine((0.4,)), engine=FakeEngine(SPEEDS, {"broken": "x"}, restarts=False))
    assert quiet_gate(ev.trials).passed is None and {t.file.machine["foreign_cores"] for t in ev.trials} == {None}
    assert all(e.data["waited_s"] == 0.0 for e in ev.events if e.kind == "settled")


def test_prompts_that_a_probe_sent_are_never_timed_on_a_server_that_stays_up(tmp_path: Path) -> None:
    """Admission and trials take disjoint slices of one shuffle: what the client sent in all has no prompt twice."""
    dataset = tmp_path / "d.jsonl"
    dataset.write_text("\n".join(json.dumps({"prompt": f"question {i} of many"}) for i in range(600)))
    points = (Point(Workload("set", 8, 4, dataset=str(dataset)), 2, 8),)
    arms = (Arm("baseline", "fake", Role.BASELINE), Arm("fast", "fake", Role.CANDIDATE))
    sent: list[str] = []
    world = fake_world(FakeEngine(SPEEDS, restarts=False), clock=FakeClock())
    run = world.client.run
    world.client.run = lambda load, **kw: (sent.extend(load.prompts), run(load, **kw))[1]  # type: ignore[method-assign]
    folder = RunFolder(tmp_path / RUN, world.now)
    conduct.open_draft(folder, Plan("s", "m", "throughput", arms, points, blocks=3, seed=1))
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    assert len(sent) == len(set(sent)) >= 2 * (4 + 3 * 10)


def test_a_history_that_reached_the_disk_and_not_the_journal_is_adopted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / RUN)
    (folder.path / "aa_history.json").write_text("{}")
    assert adopt_orphans(folder) == 1
    folder.close()


def test_ids_are_short_and_follow_from_the_text_alone() -> None:
    assert prompt_ids(("a", "b", "a")) == ("ca978112ca1b", "3e23e8160039", "ca978112ca1b")


@pytest.mark.parametrize(("given", "limit"), [("", 120.0), ("0", 0.0), ("7.5", 7.5)])
def test_the_limit_of_waiting_is_a_setting(monkeypatch: pytest.MonkeyPatch, given: str, limit: float) -> None:
    monkeypatch.setenv("PAO_QUIET_WAIT_S", given)
    assert quiet_limit_s() == limit


@pytest.mark.parametrize("given", ["-1", "soon", "nan", "inf"])
def test_a_limit_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("PAO_QUIET_WAIT_S", given)
    with pytest.raises(WrongUse, match="PAO_QUIET_WAIT_S"):
        quiet_limit_s()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here: what others use is not seen")
def test_a_campaign_on_real_mock_servers_sees_its_machine(tmp_path: Path) -> None:
    flags = ("--ttft-ms", "5", "--itl-ms", "2")
    arms = (Arm("base", "mock", Role.BASELINE, flags), Arm("quick", "mock", Role.CANDIDATE, flags))
    plan = Plan("mock", "mock", "throughput", arms, (Point(Workload("w", 16, 16), 2, 8),), blocks=3, seed=3)
    world = make_world({"mock"}, lambda _: None)
    folder = RunFolder(tmp_path / RUN, time.time)
    conduct.open_draft(folder, plan)
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    found = load_evidence(tmp_path / RUN).trials
    machines = [t.file.machine for t in found]
    assert len(found) >= 6 and all(m["foreign_cores"] is not None and m["steal_share"] is not None for m in machines)
    assert all(0 <= (m["foreign_cores"] or 0) <= (m["cores"] or 0) for m in machines)
    assert repeated_prompts(found, plan) == []
