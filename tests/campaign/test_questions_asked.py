"""How many of the accuracy questions are asked, of whom and when: no more than settle it, and the others when they are needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.accuracy import FIRST, LEFT_OUT, MORE, accuracy_of
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.questions import drawn
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evals.exact_match import load_questions
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.testing.fakes import FakeClock, FakeEngine, fake_ask, fake_world
from profile_and_optimize.testing.quantized import forgetful, questions
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

RUN = "20261201T000000Z-synthetic"


def plan_of(tmp_path: Path, n: int = 480) -> Plan:
    plan = synthetic_plan(blocks=3, questions=str(questions(tmp_path / "q.jsonl", n)))
    return replace(plan, arms=tuple(a for a in plan.arms if a.id != "broken"))


def campaign(tmp_path: Path, plan: Plan, ask: Callable[..., Any] = fake_ask, engine: FakeEngine | None = None) -> Path:
    world = replace(fake_world(engine or FakeEngine(SPEEDS), None, FakeClock()), ask=ask)
    folder = RunFolder(tmp_path / RUN, world.now)
    try:
        conduct.open_draft(folder, plan)
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return tmp_path / RUN


def problems(run: Path) -> list[str]:
    ev = load_evidence(run)
    publish(ev, decide(ev))
    return list(look_at(run).problems)


def answered(run: Path, name: str = FIRST) -> dict[str, int]:
    return {p.parts[-3]: len(json.loads(p.read_text())["answers"]) for p in run.glob(f"cells/*/{name}")}


def nth(plan: Plan, n: int) -> int:
    """The number of the question that counts as the n-th."""
    return int(drawn(load_questions(Path(plan.questions)))[n - 1].question.split("w")[-1])


def gate(run: Path) -> str:
    return next(g for g in decide(load_evidence(run)).gates if g.name == "accuracy").reason


def test_where_nothing_is_lost_the_interim_analysis_that_settles_it_ends_all_sides(tmp_path: Path) -> None:
    """480 questions without a loss settle at the seventh tenth, 336: nobody is asked the other 144, which are kept by name."""
    run = campaign(tmp_path, plan_of(tmp_path))
    assert answered(run) == dict.fromkeys(("baseline", "aa", "fast", "slow"), 336) and answered(run, MORE) == {}
    record = json.loads((run / "cells/baseline" / FIRST).read_text())
    assert len(record["unasked"]) == 144 and record["questions"] == 480
    assert "336 of 480 questions asked: settled at interim analysis 7" in gate(run)
    assert problems(run) == []


def test_a_loss_that_leaves_it_open_has_the_others_asked_of_baseline_and_that_candidate_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    run = campaign(tmp_path, plan, forgetful({"fast": [nth(plan, 5)]}))
    assert answered(run) == dict.fromkeys(("baseline", "aa", "fast", "slow"), 336)
    ev = load_evidence(run)
    found = accuracy_of(ev.frozen, ev.accuracy, "fast")
    assert found is not None and found.call == "pass" and 336 < found.n == found.decided_at < 480
    assert answered(run, MORE) == {"baseline": 144, "fast": found.n - 336}
    assert problems(run) == []


def test_a_candidate_that_the_other_questions_show_to_lose_answers_leaves(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    lost = [nth(plan, 3), *(nth(plan, n) for n in range(337, 481, 2))]
    run = campaign(tmp_path, plan, forgetful({"fast": lost}))
    assert load_evidence(run).failed_arms["fast"].startswith("no ship: accuracy") and problems(run) == []


def test_candidates_are_asked_as_many_questions_at_once_as_the_load_has_requests(tmp_path: Path) -> None:
    run = campaign(tmp_path, plan_of(tmp_path))
    assert {json.loads(p.read_text())["at_once"] for p in run.glob(f"cells/*/{FIRST}")} == {4}


def test_killed_between_the_two_parts_nobody_is_asked_again(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    wrong, count = forgetful({"fast": [nth(plan, 5)]}), {"n": 0}

    def dying(url: str, model: str, prompt: str, **more: Any) -> Any:
        count["n"] += "w" in prompt
        if count["n"] > 4 * 336 + 144 + 10:  # in the second part, after the baseline's
            raise KeyboardInterrupt
        return wrong(url, model, prompt, **more)

    with pytest.raises(KeyboardInterrupt):
        campaign(tmp_path, plan, dying)
    kept = {p: p.read_bytes() for p in (tmp_path / RUN).glob("cells/*/raw/accuracy*.json")}
    assert len(kept) == 5
    run = campaign(tmp_path, plan, wrong)
    assert all(p.read_bytes() == data for p, data in kept.items())
    assert answered(run, MORE)["fast"] == 96 and problems(run) == []


def test_a_baseline_that_does_not_start_again_leaves_the_others_out_and_says_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    run = campaign(tmp_path, plan, forgetful({"fast": [nth(plan, 5)]}), FakeEngine(SPEEDS, fails={"baseline": {2}}))
    ev = load_evidence(run)
    assert any(e.kind == LEFT_OUT for e in ev.events) and answered(run, MORE) == {}
    assert "336 of 480 questions asked, 144 left out" in gate(run) and problems(run) == []


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    data: Mapping[str, Any] = json.loads(path.read_text())
    edit(dict(data))
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("cell", "edit", "said"),
    [
        ("baseline", lambda d: d["unasked"].pop(), "not those of its digest"),
        ("baseline", lambda d: d["unasked"].insert(0, d["answers"].pop()), "admission asks 336 of 480"),
        ("fast", lambda d: d["answers"].pop(), "asked 335 questions; the looks say"),
        ("aa", lambda d: d["answers"].pop(), "335 of 336 questions were asked of the A/A control"),
    ],
)
def test_verify_knows_how_many_had_to_be_asked(tmp_path: Path, cell: str, edit: Any, said: str) -> None:
    run = campaign(tmp_path, plan_of(tmp_path))
    ev = load_evidence(run)
    publish(ev, decide(ev))
    change(run / "cells" / cell / FIRST, edit)
    assert any(said in line for line in look_at(run).problems), look_at(run).problems
