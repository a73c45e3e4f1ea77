"""A server that dies counts against its variant: the rule at its edges, and whole campaigns on servers that die."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import publish

from profile_and_optimize.analysis.crashes import GATE, Starts, counted, crash_gate, excess, of_arm, unshipped
from profile_and_optimize.analysis.decide import Decision, decide
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import BrokeMidway, GateRefused
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.fakes import FAKE_DEATH, FAKE_FAILURE, FakeEngine
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run

RUN = "20260921T141320Z-synthetic"
BLOCKS = 6


def plan_of(*, blocks: int = BLOCKS, more: tuple[Arm, ...] = ()) -> Plan:
    plan = synthetic_plan(blocks=blocks)
    arms = tuple(a for a in plan.arms if a.id in ("baseline", "aa", "fast"))
    return replace(plan, arms=arms + more, points=plan.points[:1])


def run_on(
    space: Path, engine: FakeEngine, plan: Plan | None = None, *, resumed: bool = False
) -> tuple[Evidence, Decision]:
    path = synthetic_run(space / RUN, plan or plan_of(), engine=engine)
    ev = load_evidence(publish(path))
    return ev, decide(ev)


def gate_of(d: Decision) -> tuple[bool | None, str]:
    return next((g.passed, g.reason) for g in d.gates if g.name == GATE)


@pytest.mark.parametrize(
    ("mine", "base", "more", "out"),
    [
        # One more than the baseline is a doubt, two more are too many.
        (Starts(7), Starts(14), 0, False),
        (Starts(7, 1), Starts(14), 1, False),
        (Starts(7, 0, 1), Starts(14), 1, False),
        (Starts(7, 1, 1), Starts(14), 2, True),
        (Starts(40, 2), Starts(80), 2, True),
        # At equal numbers of starts, and half a loss of the baseline excuses none.
        (Starts(7, 1), Starts(14, 1), 1, False),
        (Starts(7, 1), Starts(14, 2), 0, False),
        (Starts(7, 1), Starts(7, 1), 0, False),
        (Starts(14, 2), Starts(7, 1), 0, True),
        # Over a tenth of its starts it is not shipped, whatever the baseline did; a tenth is not over a tenth.
        (Starts(7, 2), Starts(14, 8), -2, True),
        (Starts(20, 2), Starts(20, 2), 0, False),
        (Starts(19, 2), Starts(19, 2), 0, True),
        # A single loss has no share: of seven starts it would be 14%.
        (Starts(7, 1), Starts(7, 7), -6, False),
        (Starts(1, 1), Starts(2), 1, False),
        (Starts(3), Starts(), 0, False),
        (Starts(3, 1), Starts(), 1, False),
    ],
)
def test_one_more_is_a_doubt_two_more_or_over_a_tenth_are_not_shipped(
    mine: Starts, base: Starts, more: int, out: bool
) -> None:
    assert (excess(mine, base), unshipped(mine, base)) == (more, out)


def test_more_losses_than_starts_cannot_be() -> None:
    with pytest.raises(ValueError, match="2 losses at 1 starts"):
        Starts(1, 1, 1)


def event(seq: int, kind: str, label: str, **data: object) -> Event:
    return Event(seq, 0.0, kind, {"arm": "x", "label": label, **data}, "")


def test_a_start_that_a_kill_of_ours_broke_off_counts_once_and_a_server_that_would_not_stop_is_no_loss() -> None:
    events = [
        event(0, "session", "admission", start=1),
        event(1, "session", "admission", start=1),  # we were killed, and began again
        event(2, "session", "b001-x", start=1),
        event(3, "session_failed", "b001-x", start=1, loss="start", reason="one"),
        event(4, "session", "b001-x", start=2),
        event(5, "session", "b001-x", start=2),
        event(6, "session_failed", "b001-x", start=2, loss="death", reason="two"),
        event(7, "session", "b002-x", start=1),
        event(8, "session_failed", "b002-x", start=1, loss="stop", reason="would not go"),
    ]
    assert counted(events) == {"x": Starts(4, 1, 1, "two")}


def test_events_of_before_starts_were_numbered_count_as_deaths() -> None:
    old = [Event(0, 0.0, "session", {"arm": "x", "label": "b001-x"}, "")]
    old += [Event(1, 0.0, "session_failed", {"stage": "confirm", "block": 1, "arm": "x", "reason": "gone"}, "")]
    old += [Event(2, 0.0, "session", {"arm": "x", "label": "b001-x"}, "")]
    assert counted(old) == {"x": Starts(2, 0, 1, "gone")}


def test_servers_that_stay_up_leave_the_gate_green_with_both_counts(tmp_path: Path) -> None:
    ev, d = run_on(tmp_path, FakeEngine(SPEEDS))
    n = len(d.selection.blocks) + 1  # admission is a start as well
    assert counted(ev.events) == {"baseline": Starts(n), "aa": Starts(n), "fast": Starts(n)}
    assert gate_of(d) == (True, f"fast: 0 of {n} starts lost. baseline with aa: 0 of {2 * n} starts lost")


@pytest.mark.parametrize(
    ("how", "reason", "field"), [("fails", FAKE_FAILURE, "failed_starts"), ("dies", FAKE_DEATH, "deaths")]
)
def test_one_loss_more_than_the_baseline_is_a_draft(tmp_path: Path, how: str, reason: str, field: str) -> None:
    ev, d = run_on(tmp_path, FakeEngine(SPEEDS, **{how: {"fast": {3}}}))
    passed, words = gate_of(d)
    assert (d.pick, d.effects["fast"].call, passed) == ("fast", Call.BETTER, False)
    assert "1 more than the baseline" in words and reason in words
    chosen = json.loads((ev.run / "champion_select.json").read_text())
    row = next(a for a in chosen["arms"] if a["cell"] == "fast")
    assert row[field] == 1 and row["starts"] == len(d.selection.blocks) + 2 and row["not_shipped"] is None
    assert check(ev.run)[0] == []


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_a_candidate_whose_server_was_lost_at_three_starts_is_not_shipped_and_every_page_says_why(
    tmp_path: Path, how: str
) -> None:
    ev, d = run_on(tmp_path, FakeEngine(SPEEDS, **{how: {"fast": {2, 4, 6}}}))
    mine = of_arm(ev.plan, counted(ev.events), "fast")
    assert (d.pick, mine.lost) == ("baseline", 3)
    verb = "did not start" if how == "fails" else "died"
    n = len(d.selection.blocks) + 1
    said = f"fast was better and is not shipped: its server {verb} at 3 of {mine.starts} starts, baseline with aa 0 of {2 * n}"
    assert said in d.why and d.effects["fast"].reason == said and d.effects["fast"].call is Call.UNKNOWN
    for page in ("report.txt", "report.html", "CHAMPION.md"):
        text = " ".join((ev.run / page).read_text().split())
        assert f"its server {verb} at 3 of {mine.starts} starts" in text, page
    assert check(ev.run)[0] == []


def test_the_next_better_arm_is_shipped_in_the_place_of_one_that_dies(tmp_path: Path) -> None:
    more = (Arm("calm", "fake", Role.CANDIDATE, ("--calm",), lever="slower and steady"),)
    engine = FakeEngine({**SPEEDS, "fast": 8.0, "calm": 9.0}, dies={"fast": {3, 5}})
    ev, d = run_on(tmp_path, engine, plan_of(more=more))
    assert d.pick == "calm" and d.effects["calm"].call is Call.BETTER and gate_of(d)[0] is True
    assert "fast was better and is not shipped: its server died at 2 of" in d.why


def test_a_baseline_that_dies_more_than_the_candidate_is_said_and_one_that_dies_often_makes_a_draft(
    tmp_path: Path,
) -> None:
    ev, d = run_on(tmp_path / "one", FakeEngine(SPEEDS, dies={"baseline": {3}, "aa": {4}}))
    base = counted(ev.events)["baseline"].plus(counted(ev.events)["aa"])
    assert base.lost == 2 and gate_of(d)[0] is (not base.often)
    plan = ev.plan
    few = {"baseline": Starts(10, 1), "aa": Starts(10), "fast": Starts(20)}
    assert crash_gate("fast", plan, few).reason.endswith("the baseline was lost more often")
    often = {"baseline": Starts(10, 3), "aa": Starts(10), "fast": Starts(10)}
    for pick in ("fast", "baseline"):
        gate = crash_gate(pick, plan, often)
        assert gate.passed is False and gate.reason.startswith("the baseline itself is not stable")
    assert crash_gate("fast", plan, {}).passed is None


def test_a_twin_of_the_pick_counts_with_it(tmp_path: Path) -> None:
    plan = plan_of(more=(Arm("fast-again", "fake", Role.CANDIDATE, ("--fast",)),))
    by_arm = {"baseline": Starts(9), "aa": Starts(9), "fast": Starts(9), "fast-again": Starts(5, 1)}
    assert of_arm(plan, by_arm, "fast") == Starts(14, 1)
    assert crash_gate("fast", plan, by_arm).passed is False


def test_a_crash_at_the_first_start_of_all_is_a_failed_start_of_an_arm_that_is_out(tmp_path: Path) -> None:
    more = (Arm("never", "fake", Role.CANDIDATE, ("--never",)), Arm("dead", "fake", Role.CANDIDATE, ("--dead",)))
    engine = FakeEngine(SPEEDS, {"never": "no kernel"}, dies={"dead": {1}})
    ev, d = run_on(tmp_path, engine, plan_of(more=more))
    found = counted(ev.events)
    assert found["never"] == Starts(1, 1, 0, "no kernel") and found["dead"] == Starts(1, 0, 1, FAKE_DEATH)
    assert {"never", "dead"} <= set(d.failed) and d.pick == "fast" and gate_of(d)[0] is True
    assert check(ev.run)[0] == []


def test_two_losses_in_one_session_put_a_candidate_out_and_stop_a_baseline_until_it_is_resumed(tmp_path: Path) -> None:
    ev, d = run_on(tmp_path / "candidate", FakeEngine(SPEEDS, fails={"fast": {3, 4}}))
    assert d.failed == {"fast": FAKE_FAILURE} and d.pick == "baseline"
    lost = [(e.data["label"], e.data["start"]) for e in ev.events if e.kind == "session_failed"]
    assert lost == [("b002-fast", 1), ("b002-fast", 2)]
    engine = FakeEngine(SPEEDS, fails={"baseline": {3, 4}})
    with pytest.raises(BrokeMidway, match="the baseline stopped serving"):
        run_on(tmp_path / "base", engine)
    ev, d = run_on(tmp_path / "base", engine)  # mended
    lost = [(e.data["label"], e.data["start"]) for e in ev.events if e.kind == "session_failed"]
    assert lost == [("b002-baseline", 1), ("b002-baseline", 2)]
    assert check(ev.run)[0] == []


def test_deaths_in_the_race_count_against_a_finalist(tmp_path: Path) -> None:
    more = tuple(Arm(f"x{i}", "fake", Role.CANDIDATE, (f"--x{i}",)) for i in range(3))
    plan = replace(plan_of(blocks=3, more=more), race_rounds=2)
    engine = FakeEngine({**SPEEDS, "fast": 8.0, "x0": 9.0}, dies={"fast": {2, 3}})
    ev, d = run_on(tmp_path / "out", engine, plan)  # both starts of its first session died: it is out of the race
    assert d.failed["fast"] == FAKE_DEATH
    ev, d = run_on(tmp_path / "in", FakeEngine({**SPEEDS, "fast": 8.0, "x0": 9.0}, dies={"fast": {2, 4}}), plan)
    stages = {e.data["stage"] for e in ev.events if e.kind == "session_failed"}
    assert "race" in stages and counted(ev.events)["fast"].deaths == 2
    assert d.pick != "fast" and "fast was better and is not shipped" in d.why


def test_a_baseline_that_dies_at_admission_starts_no_campaign_however_often_it_is_asked(tmp_path: Path) -> None:
    engine = FakeEngine(SPEEDS, fails={"baseline": {1}})
    with pytest.raises(GateRefused, match="the baseline cannot serve"):
        synthetic_run(tmp_path / RUN, plan_of(), engine=engine)
