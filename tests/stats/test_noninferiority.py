"""The accuracy gate's statistics: known answers by hand, laws, and the error rate."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from profile_and_optimize.stats.bounded_mean import Values, lower_bound, p_above, p_below, upper_bound, values_of
from profile_and_optimize.stats.clusters import counting_order
from profile_and_optimize.stats.noninferiority import (
    Pair,
    answer,
    looks,
    questions_for,
    share_of_look,
)


def pairs(n: int, lost: int, won: int, task: str = "a", seed: int = 0) -> list[Pair]:
    made = [Pair(task, 1, 0)] * lost + [Pair(task, 0, 1)] * won + [Pair(task, 1, 1)] * (n - lost - won)
    random.Random(seed).shuffle(made)
    return made


def swapped(made: list[Pair]) -> list[Pair]:
    return [Pair(p.task, p.candidate, p.base) for p in made]


# --- the mean of values in [-1, 1] -------------------------------------------------------------------------------------------


def test_without_any_difference_p_is_the_power_of_what_is_left() -> None:
    assert p_below(values_of([0.0] * 480), 0.01) == pytest.approx(0.99**480, rel=1e-12)
    assert p_below(values_of([0.0] * 3), 0.2) == pytest.approx(0.8**3, rel=1e-12)
    assert p_below(values_of([]), 0.01) == 1.0


def test_with_losses_alone_it_is_clopper_and_pearson() -> None:
    seen = values_of([1.0] * 3 + [0.0] * 477)
    assert p_below(seen, 0.01) == pytest.approx(beta.sf(0.01, 4, 477), rel=1e-10)
    assert upper_bound(seen, 0.05) == pytest.approx(beta.ppf(0.95, 4, 477), abs=1e-8)


def test_with_losses_and_gains_it_is_the_dirichlet_probability() -> None:
    """Two lost, one won, two alike, and one more lost: P(A - B >= 0.1) of a Dirichlet(3, 1, 2), by drawing."""
    drawn = np.random.default_rng(0).dirichlet([3, 1, 2], 400_000)
    assert p_below(values_of([1, 1, -1, 0, 0]), 0.1) == pytest.approx(
        (drawn[:, 0] - drawn[:, 1] >= 0.1).mean(), abs=0.003
    )


def test_small_and_large_p_keep_their_digits() -> None:
    seen = Values((1.0, 0.0), (40.0, 12975.0))
    assert p_below(seen, 0.01) == pytest.approx(beta.sf(0.01, 41, 12975), rel=1e-9)
    assert p_below(seen, 0.001) == pytest.approx(beta.sf(0.001, 41, 12975), rel=1e-9)
    assert p_below(values_of([1.0] * 5), 0.5) == 1.0 and p_below(values_of([1.0] * 5), 1.0) == 1.0


def test_a_value_outside_of_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        values_of([1.5])


differences = st.lists(st.sampled_from([-1.0, -0.5, -0.125, 0.0, 0.0, 0.0, 0.25, 1.0]), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(differences, st.sampled_from([0.001, 0.01, 0.2]))
def test_bounds_are_where_p_is_the_level_and_mirror_each_other(seen: list[float], level: float) -> None:
    values = values_of(seen)
    upper, lower = upper_bound(values, level), lower_bound(values, level)
    assert lower <= values.mean <= upper
    assert lower_bound(values.mirrored(), level) == -upper
    if upper < 1 - 1e-6:
        assert p_below(values, upper) == pytest.approx(level, rel=1e-3)
    if lower > -1 + 1e-6:
        assert p_above(values, lower) == pytest.approx(level, rel=1e-3)


# --- the gate ----------------------------------------------------------------------------------------------------------------


def test_480_questions_without_a_flip_pass_one_point_and_not_before_the_end() -> None:
    """0.99^480 is 0.80% and fits into the last look's 0.83%; at nine tenths it is 1.30%."""
    found = answer(pairs(480, 0, 0), tolerance=0.01, planned=480)
    assert (found.call, found.decided_at, found.flips) == ("pass", 480, 0.0)
    assert found.upper == pytest.approx(1 - (0.01 * share_of_look("pass", 10, 0.01)) ** (1 / 480), abs=1e-8)
    assert answer(pairs(474, 0, 0), tolerance=0.01, planned=474).call == "unknown"


def test_one_flip_in_480_is_unknown_and_names_what_it_takes() -> None:
    found = answer(pairs(480, 1, 0), tolerance=0.01, planned=480)
    assert found.call == "unknown" and found.needed is not None and 500 < found.needed < 2000


def test_one_lost_in_five_fails_early() -> None:
    found = answer(pairs(1000, 200, 0), tolerance=0.01, planned=1000)
    assert (found.call, found.decided_at) == ("fail", 100) and found.lower > 0.01
    assert found.look_at == (100,)


def test_a_task_that_lost_is_a_veto_where_the_pooled_loss_is_small() -> None:
    """20 of 60 questions lost in a small task are two points of the pool, but 33 of the task."""
    small, large = pairs(60, 20, 0, "small"), pairs(2940, 0, 40, "large", 1)
    made = small + large
    random.Random(2).shuffle(made)
    found = answer(made, tolerance=0.01, planned=3000)
    assert found.call == "fail" and "small" in found.reason and "large" not in found.reason
    assert [t.task for t in found.tasks if t.harmed] == ["small"]
    assert answer([Pair("all", p.base, p.candidate) for p in made], tolerance=0.01, planned=3000).call == "pass"


def test_a_base_that_is_never_right_has_nothing_to_lose_and_passes_nothing() -> None:
    found = answer([Pair("a", 0, 0)] * 500, tolerance=0.01, planned=500)
    assert found.call == "unknown" and "cannot show a loss" in found.reason and found.needed is None


def test_before_the_first_look_nothing_is_said() -> None:
    found = answer(pairs(47, 0, 0), tolerance=0.01, planned=480)
    assert (found.call, found.loss, found.lower, found.tasks) == ("unknown", None, None, ())
    assert "first look is after 48" in found.reason
    assert answer([], tolerance=0.01, planned=10).flips is None


def test_what_comes_after_the_decision_changes_nothing() -> None:
    made = pairs(1000, 200, 0)
    early = answer(made[:100], tolerance=0.01, planned=1000)
    late = answer(made[:100] + [Pair("a", 0, 1)] * 900, tolerance=0.01, planned=1000)
    same = ("call", "loss", "lower", "upper", "decided_at", "look_at", "tasks", "reason")
    assert all(getattr(early, k) == getattr(late, k) for k in same)


def test_looks_are_tenths_and_never_more_than_the_questions() -> None:
    assert looks(480) == (48, 96, 144, 192, 240, 288, 336, 384, 432, 480)
    assert looks(3) == (1, 2, 3) and looks(1) == (1,)
    assert looks(13)[-1] == 13


def test_the_share_of_a_level_is_never_less_than_the_spending_of_its_look() -> None:
    for side, power in (("pass", 5), ("harm", 1)):
        for alpha in (0.01, 0.003, 0.00001):
            spent = [(k / 10) ** power - ((k - 1) / 10) ** power for k in range(1, 11)]
            assert all(share_of_look(side, k, alpha) >= spent[k - 1] - 2e-6 for k in range(1, 11))
    assert share_of_look("pass", 10, 0.01) == pytest.approx(0.8312, abs=1e-4)
    assert share_of_look("harm", 10, 0.003) == share_of_look("harm", 10, 0.0025)


def test_two_hundred_tasks_are_as_good_as_two() -> None:
    made = [Pair(f"t{i % 200}", 1, 1) for i in range(600)]
    assert answer(made, tolerance=0.01, planned=600).call == "pass"


def test_more_pairs_than_planned_and_scores_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="planned"):
        answer(pairs(5, 0, 0), tolerance=0.01, planned=4)
    with pytest.raises(ValueError, match="score"):
        Pair("a", 1.2, 0)
    with pytest.raises(ValueError, match="tolerance"):
        answer(pairs(5, 0, 0), tolerance=1.0, planned=5)


def test_the_floor_is_shown_and_never_subtracted() -> None:
    made, floor = pairs(600, 6, 6), pairs(600, 30, 30, seed=1)
    with_floor = answer(made, tolerance=0.01, planned=600, floor=floor)
    alone = answer(made, tolerance=0.01, planned=600)
    assert (with_floor.floor, alone.floor) == (0.1, None)
    assert (with_floor.loss, with_floor.upper, with_floor.call) == (alone.loss, alone.upper, alone.call)


def test_flips_that_the_base_has_with_itself_go_away_with_samples_and_others_do_not() -> None:
    """40 of 1000 flip, and as many when the base is asked twice: all of it is sampling noise."""
    noise = answer(pairs(1000, 20, 20), tolerance=0.01, planned=1000, floor=pairs(1000, 20, 20, seed=3))
    assert noise.samples in (4, 8, 16, 32, 64)
    steady = answer(pairs(1000, 20, 20), tolerance=0.01, planned=1000, floor=pairs(1000, 0, 0))
    assert steady.samples is None and steady.needed == noise.needed


def test_scores_between_0_and_1_are_finer_than_right_and_wrong() -> None:
    """Losing and winning a quarter of a question ten times each is far less noise than losing and winning ten whole ones."""
    fine = [Pair("a", 0.75, 0.5)] * 10 + [Pair("a", 0.5, 0.75)] * 10 + [Pair("a", 1, 1)] * 680
    random.Random(0).shuffle(fine)
    told, coarse = answer(fine, tolerance=0.01, planned=700), answer(pairs(700, 10, 10), tolerance=0.01, planned=700)
    assert told.call == "pass" and told.flips == coarse.flips and coarse.call == "unknown"


def test_questions_for_meets_the_textbook() -> None:
    """(2.326 + 1.282)^2 * flips / tolerance^2 is 13,017 at 10% flips and one point; ours adds looks and small numbers."""
    assert 13_017 < questions_for(0.1, 0.0, 0.01) < 1.08 * 13_017
    assert questions_for(0.0, 0.0, 0.01) == 477
    assert questions_for(0.1, 0.01, 0.01) is None
    with pytest.raises(ValueError, match="flips"):
        questions_for(0.01, 0.02, 0.01)


def test_what_was_planned_by_questions_for_mostly_passes() -> None:
    n, rng = questions_for(0.05, 0.0, 0.03), np.random.default_rng(5)
    drawn = rng.choice([1, -1, 0], (60, n), p=[0.025, 0.025, 0.95])
    made = [[Pair("a", max(d, 0), max(-d, 0)) if d else Pair("a", 1, 1) for d in row] for row in drawn.tolist()]
    assert sum(answer(m, tolerance=0.03, planned=n).call == "pass" for m in made) >= 48


def test_the_counting_order_mixes_and_depends_on_the_questions_alone() -> None:
    names = [f"q{i}" for i in range(200)]
    order = counting_order(names)
    again = counting_order(names[::-1])
    assert [names[i] for i in order] == [names[::-1][i] for i in again] and sorted(order) == list(range(200))
    assert order != list(range(200))


losses = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(20, 120), st.integers(0, 99))


@settings(max_examples=25, deadline=None)
@given(losses)
def test_swapping_sides_flips_the_loss_and_the_counts(given_: tuple[int, int, int, int]) -> None:
    lost, won, same, seed = given_
    made = pairs(lost + won + same, lost, won, seed=seed)
    one, two = (answer(m, tolerance=0.05, planned=10 * len(made)) for m in (made, swapped(made)))
    assert one.loss == -two.loss and one.flips == two.flips and one.n == two.n
    (a,), (b,) = one.tasks, two.tasks
    assert (a.lost, a.won, a.base) == (b.won, b.lost, b.candidate)


@settings(max_examples=25, deadline=None)
@given(losses)
def test_the_order_of_pairs_within_a_look_does_not_matter(given_: tuple[int, int, int, int]) -> None:
    lost, won, same, seed = given_
    made = pairs(lost + won + same, lost, won, seed=seed)
    chunks = list(zip((0, *looks(len(made))[:-1]), looks(len(made)), strict=True))
    mixed = [p for a, b in chunks for p in random.Random(seed).sample(made[a:b], b - a)]
    assert answer(made, tolerance=0.05, planned=len(made)) == answer(mixed, tolerance=0.05, planned=len(made))


@settings(max_examples=15, deadline=None)
@given(losses, st.integers(2, 5))
def test_more_questions_at_the_same_rates_never_widen(given_: tuple[int, int, int, int], times: int) -> None:
    lost, won, same, _ = given_
    few = values_of([1.0] * lost + [-1.0] * won + [0.0] * same)
    many = few.scaled(times)
    for level in (0.01, 0.1):
        assert upper_bound(many, level) <= upper_bound(few, level) + 1e-8
        assert lower_bound(many, level) >= lower_bound(few, level) - 1e-8


@pytest.mark.parametrize("flips", [0.1, 0.15, 0.4, 0.9])
def test_a_loss_at_the_tolerance_passes_and_fails_at_most_once_in_a_hundred_computed_exactly(flips: float) -> None:
    """All sequences of 50 questions at a true loss of 10 points, summed up look by look over (lost, won)."""
    planned, tolerance, rates = 50, 0.1, ((flips + 0.1) / 2, (flips - 0.1) / 2)
    alive, calls, before = {(0, 0): 1.0}, {"pass": 0.0, "fail": 0.0, "unknown": 0.0}, 0
    for look, n in enumerate(looks(planned), start=1):
        for _ in range(n - before):
            alive = one_more(alive, *rates)
        before = n
        for (lost, won), chance in list(alive.items()):
            call = called(lost, won, n, look, tolerance)
            if call != "unknown":
                calls[call] += chance
                del alive[lost, won]
    assert 0.001 < calls["pass"] <= 0.01 and calls["fail"] <= 0.01


def one_more(alive: dict[tuple[int, int], float], lost: float, won: float) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for (a, b), chance in alive.items():
        for step, rate in (((1, 0), lost), ((0, 1), won), ((0, 0), 1 - lost - won)):
            at = (a + step[0], b + step[1])
            found[at] = found.get(at, 0.0) + chance * rate
    return found


def called(lost: int, won: int, n: int, look: int, tolerance: float) -> str:
    seen = Values(*zip(*((v, k) for v, k in ((1.0, lost), (-1.0, won), (0.0, n - lost - won)) if k), strict=True))
    if p_above(seen, tolerance) <= 0.01 * share_of_look("harm", look, 0.01):
        return "fail"
    return "pass" if p_below(seen, tolerance) <= 0.01 * share_of_look("pass", look, 0.01) else "unknown"


def test_the_gate_calls_what_its_parts_say() -> None:
    """The same 40 sequences through `answer`, look for look."""
    rng = np.random.default_rng(2)
    for row in rng.choice([1, -1, 0], (40, 50), p=[0.2, 0.15, 0.65]).tolist():
        made = [Pair("a", max(d, 0) if d else 1, max(-d, 0) if d else 1) for d in row]
        parts = ("unknown", None)
        for look, n in enumerate(looks(50), start=1):
            call = called(row[:n].count(1), row[:n].count(-1), n, look, 0.1)
            if call != "unknown":
                parts = (call, n)
                break
        found = answer(made, tolerance=0.1, planned=50)
        assert (found.call, found.decided_at) == parts
