"""Blocks given up, trials broken off and trials run again count together: more than one, and the pick stays a DRAFT."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.analysis.whole import whole_gate
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.campaign.selection import BEYOND, Selection, select
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.testing.fakes import FakeEngine
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Two kinds of block: with fast and x0, and with x1."""
    plan = synthetic_plan(blocks=3)
    more = tuple(Arm(f"x{i}", "fake", Role.CANDIDATE, (f"--x{i}",)) for i in range(2))
    arms = (*(a for a in plan.arms if a.id in ("baseline", "aa", "fast")), *more)
    plan = replace(plan, arms=arms, points=plan.points[:1])
    path = tmp_path_factory.mktemp("whole") / "20260921T141320Z-synthetic"
    return load_evidence(synthetic_run(path, plan, engine=FakeEngine(SPEEDS)))


def selection_of(ev: Evidence, excluded: dict[int, str]) -> Selection:
    found = select(ev.plan, ev.trials, ev.failed_arms, {}, limit=ev.plan.blocks)
    return replace(found, excluded=excluded)


def again(ev: Evidence, *places: tuple[int, str], stage: Stage = Stage.CONFIRM) -> Evidence:
    """With a second attempt of the first trial of each (block, arm)."""
    extra = []
    for block, arm in places:
        t = next(t for t in ev.trials if (t.key.block, t.key.arm) == (block, arm))
        extra.append(replace(t, file=replace(t.file, key=replace(t.key, attempt=2, stage=stage))))
    return replace(ev, trials=(*ev.trials, *extra))


def cut(ev: Evidence, times: int) -> Evidence:
    return replace(
        ev, events=(*ev.events, *(Event(9000 + i, 0.0, "interrupted", {"path": "p"}, "") for i in range(times)))
    )


def passed(ev: Evidence, excluded: dict[int, str], pick: str = "fast") -> bool | None:
    return whole_gate(ev, selection_of(ev, excluded), pick, None).passed


def test_one_of_any_kind_is_borne_and_two_together_are_not(evidence: Evidence) -> None:
    gap, unusable = "broken by a gap of 999 s (limit 900 s)", "no usable trial: lacks fast short-chat.c4"
    assert passed(evidence, {}) is True
    assert [passed(evidence, {1: why}) for why in (gap, unusable)] == [True, True]
    assert passed(again(evidence, (1, "fast")), {}) is True and passed(cut(evidence, 1), {}) is True
    assert passed(evidence, {1: gap, 3: unusable}) is None
    assert passed(again(evidence, (1, "fast"), (3, "baseline")), {}) is None
    assert passed(again(evidence, (1, "aa")), {3: unusable}) is None
    assert passed(cut(again(evidence, (1, "fast")), 1), {}) is None and passed(cut(evidence, 2), {}) is None


def test_what_nobody_planned_is_not_lost_and_a_block_that_was_lost_does_not_lose_its_trials_again(
    evidence: Evidence,
) -> None:
    assert passed(evidence, {5: BEYOND, 7: BEYOND}) is True
    assert passed(again(evidence, (1, "fast"), (1, "baseline")), {1: "no usable trial: x"}) is True


def test_blocks_and_trials_in_which_the_pick_has_no_part_are_told_and_do_not_count(evidence: Evidence) -> None:
    gate = whole_gate(
        again(evidence, (1, "x0"), (2, "baseline")), selection_of(evidence, {4: "no usable trial: x"}), "fast", None
    )
    assert gate.passed is True and gate.reason.endswith("; 3 more in which fast has no part")
    assert passed(again(evidence, (1, "x0")), {4: "no usable trial: x"}, "baseline") is None


def test_a_race_chooses_and_claims_nothing_so_its_trials_do_not_count(evidence: Evidence) -> None:
    assert passed(again(evidence, (1, "fast"), (3, "fast"), stage=Stage.RACE), {}) is True
