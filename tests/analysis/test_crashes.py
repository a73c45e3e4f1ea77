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
from profile_and_optimize.campaign.starts import SILENT
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, Unreachable
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call
from profile_and_optimize.engines.base import EngineFailed, Server, ServeSpec
from profile_and_optimize.evidence.journal import Event, Journal
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.fakes import FAKE_DEATH, FAKE_FAILURE, FakeEngine
from profile_and_optimize.testing.forge import Forged
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
    assert lost == [("b002-fast", 1), ("b002-fast", 2)] and check(ev.run)[0] == []
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


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@pytest.mark.parametrize("at", ["session_failed", "arm_failed", "session"])
def test_a_kill_of_ours_is_no_death_and_the_root_is_that_of_a_campaign_that_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def engine(more: dict[str, set[int]]) -> FakeEngine:
        return FakeEngine({**SPEEDS, "calm": 9.5}, fails=more)

    plan = plan_of(blocks=3, more=(Arm("calm", "fake", Role.CANDIDATE, ("--calm",)),))
    whole, _ = run_on(tmp_path / "whole", engine({"fast": {3, 4}}), plan)
    real = Journal.append
    killed = []

    def dying(self: Journal, kind: str, when: float, **data: object) -> Event:
        event = real(self, kind, when, **data)
        if kind == at and data["arm"] == "fast" and data.get("block") == 2 and not killed:
            killed.append(event)
            raise Killed
        return event

    monkeypatch.setattr(Journal, "append", dying)
    with pytest.raises(Killed):
        synthetic_run(tmp_path / "cut" / RUN, plan, engine=engine({"fast": {3, 4}}))
    # What the session had left to lose is lost after the resume: its starts are counted on, not afresh.
    left = {"session": {1, 2}, "session_failed": {1}, "arm_failed": set()}[at]
    cut, _ = run_on(tmp_path / "cut", engine({"fast": left}), plan)
    assert cut.root == whole.root and counted(cut.events)["fast"] == counted(whole.events)["fast"]
    assert check(cut.run)[0] == []


def test_a_death_that_a_kill_came_too_early_to_write_down_is_written_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("profile_and_optimize.campaign.starts.Start._lost", killed)
        with pytest.raises(Killed):
            synthetic_run(tmp_path / RUN, plan_of(), engine=FakeEngine(SPEEDS, dies={"fast": {3}}))
    ev, d = run_on(tmp_path, FakeEngine(SPEEDS))
    assert counted(ev.events)["fast"].deaths == 1 and gate_of(d)[0] is False
    assert check(ev.run)[0] == []


FORGED = {
    "the losses taken out": lambda es: [e for e in es if e["kind"] != "session_failed"],
    "a death called a stop": lambda es: [
        {**e, "data": {**e["data"], "loss": "stop"}} if e["kind"] == "session_failed" else e for e in es
    ],
    "the second start taken out": lambda es: [
        e for e in es if not (e["kind"] == "session" and e["data"]["start"] == 2)
    ],
    "more starts made up": lambda es: [
        x
        for e in es
        for x in (
            [e, {**e, "data": {**e["data"], "start": 2}}] if e["kind"] == "session" and e["data"]["block"] == 1 else [e]
        )
    ],
    "another word for a loss": lambda es: [
        {**e, "data": {**e["data"], "loss": "nothing"}} if e["kind"] == "session_failed" else e for e in es
    ],
    "a loss of a server that never started": lambda es: [
        *es, {**next(e for e in es if e["kind"] == "session_failed"), "seq": len(es)},
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_losses_that_were_tampered_with_do_not_agree_with_the_records(tmp_path: Path, kind: str) -> None:
    ev, _ = run_on(tmp_path, FakeEngine(SPEEDS, dies={"fast": {3}}), plan_of(blocks=3))
    forged = Forged(ev.run)
    forged.events = FORGED[kind](forged.events)
    forged.save(rehash=True)
    assert check(ev.run)[0] != []


def test_an_endpoint_that_cannot_be_reached_is_a_lost_start_and_its_lost_answers_a_death(tmp_path: Path) -> None:
    class Endpoint(FakeEngine):
        def start(self, spec: ServeSpec) -> Server:
            try:
                return super().start(spec)
            except EngineFailed as e:
                raise Unreachable(e.message, where="http://fake") from e

    engine = Endpoint(SPEEDS, fails={"fast": {2}}, dies={"fast": {4}}, restarts=False)
    ev, d = run_on(tmp_path, engine)
    assert (counted(ev.events)["fast"].failed, counted(ev.events)["fast"].deaths) == (1, 1)
    assert d.pick == "baseline"


def test_a_server_that_hangs_and_answers_nothing_has_died(tmp_path: Path) -> None:
    class Hanging(FakeEngine):
        def lost(self, server: Server) -> str:
            return ""  # its process is there, and its health check says so

    ev, d = run_on(tmp_path, Hanging(SPEEDS, dies={"fast": {3}}))
    assert counted(ev.events)["fast"] == Starts(len(d.selection.blocks) + 2, 0, 1, SILENT)
    assert gate_of(d)[0] is False and check(ev.run)[0] == []


def test_a_server_that_will_not_be_stopped_is_told_and_is_no_loss(tmp_path: Path) -> None:
    class Clinging(FakeEngine):
        def stop(self, server: Server) -> None:
            if "fast" in server.url and self.started["fast"] == 3:
                raise EngineFailed("did not finish in 30 s")

    ev, d = run_on(tmp_path, Clinging(SPEEDS))
    assert [e.data["loss"] for e in ev.events if e.kind == "session_failed"] == ["stop"]
    assert counted(ev.events)["fast"].lost == 0 and d.pick == "fast" and gate_of(d)[0] is True
    assert check(ev.run)[0] == []
