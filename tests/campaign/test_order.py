"""The order of sessions: Williams squares, exact after each whole one and within one before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from profile_and_optimize.campaign.order import rows_of, session_order
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.testing.synthetic import synthetic_plan


def plan_of(arms: int, seed: int = 3) -> Plan:
    made = [Arm("base", "fake", Role.BASELINE), Arm("aa", "fake", Role.AA)]
    made += [Arm(f"c{i}", "fake", Role.CANDIDATE) for i in range(arms - 2)]
    return replace(synthetic_plan(), arms=tuple(made), seed=seed)


@pytest.mark.parametrize(("arms", "blocks"), [(2, 2), (3, 6), (4, 4)])
def test_a_square_takes_as_many_blocks_as_the_arms_ask(arms: int, blocks: int) -> None:
    assert rows_of(arms) == blocks


@pytest.mark.parametrize("arms", [2, 3, 4])
@pytest.mark.parametrize("stage", [Stage.CONFIRM, Stage.PROVE])
def test_places_and_neighbours_are_balanced(arms: int, stage: Stage) -> None:
    for seed in range(30):
        plan, places, after = plan_of(arms, seed), Counter(), Counter()
        names = plan.groups[0]
        for block in range(1, 3 * rows_of(arms) + 1):
            order = session_order(plan, block, stage)
            assert sorted(order) == sorted(names)
            places.update(enumerate(order))
            after.update(pairwise(order))
            counts = [places[i, a] for i in range(arms) for a in names]
            assert max(counts) - min(counts) <= 1
            if block % rows_of(arms) == 0:
                assert len(set(counts)) == 1 and len(set(after.values())) == 1


def test_every_kind_of_block_has_its_own_square_and_the_seed_draws_it() -> None:
    plan = plan_of(5)
    assert plan.groups == (("base", "aa", "c0", "c1"), ("base", "aa", "c2"))
    for kind, arms in enumerate((4, 3)):
        mine = [session_order(plan, b) for b in range(kind + 1, 2 * rows_of(arms) + 1, 2)]
        assert all(
            Counter(order[i] for order in mine)[a] == rows_of(arms) // arms for i in range(arms) for a in mine[0]
        )
    assert len({session_order(plan_of(4, seed), 1) for seed in range(40)}) > 10


def test_a_plan_of_before_keeps_its_order() -> None:
    old = replace(plan_of(4, seed=7), order="shuffled", schema=1)
    assert [session_order(old, b) for b in (1, 2)] != [session_order(replace(old, order="williams"), b) for b in (1, 2)]
    assert "order" not in old.to_json() and "proof_blocks" not in old.to_json() and old.to_json()["schema"] == 1
