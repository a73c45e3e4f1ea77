"""Start-up, steady state, drift: series whose answer one can see, and numbers one can check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.stats.steady import (
    NO_STEADY_STATE,
    STEADY_STATE,
    TOO_FEW,
    Steady,
    common_drop,
    find_steady,
    mser,
)

NAN = float("nan")


def noise(n: int, sd: float = 0.01, seed: int = 1) -> np.ndarray:
    return 1.0 + sd * np.random.default_rng(seed).standard_normal(n)


def test_a_step_at_request_20_of_100_is_dropped_there() -> None:
    found = find_steady(np.concatenate((noise(20) + 0.5, noise(80, seed=2))))
    assert (found.drop, found.answer) == (20, STEADY_STATE)


def test_flat_noise_is_steady_and_loses_little() -> None:
    found = [find_steady(noise(100, seed=s)) for s in range(50)]
    assert np.mean([f.drop for f in found]) < 15
    assert sum(f.answer == STEADY_STATE for f in found) >= 45


def test_the_same_value_a_hundred_times_drops_nothing() -> None:
    assert find_steady([0.0123456789] * 100) == Steady(
        0, STEADY_STATE, "TPOT changes by +0.0% over the last 100 of 100 requests (t 0.0, limits 5% and t 2.6)"
    )


def test_a_linear_rise_of_a_third_is_no_steady_state() -> None:
    found = find_steady(np.linspace(1.0, 1.33, 100) * noise(100))
    assert (found.drop, found.answer) == (0, NO_STEADY_STATE) and "TPOT changes by +" in found.reason


def test_a_drift_below_5_percent_is_steady_however_certain_it_is() -> None:
    assert find_steady(np.linspace(1.0, 1.03, 400) * noise(400, sd=0.02)).answer == STEADY_STATE


def test_a_large_slope_inside_the_noise_is_no_drift() -> None:
    assert find_steady(noise(40, sd=0.4, seed=3)).answer == STEADY_STATE


def test_12_requests_are_too_few() -> None:
    assert find_steady(noise(12)) == Steady(0, TOO_FEW, "12 requests with a TPOT, at least 20 are needed")


def test_a_start_up_as_long_as_the_first_half_is_too_few_to_tell_and_drops_nothing() -> None:
    found = find_steady(np.concatenate((noise(50) + 0.5, noise(50, seed=2))))
    assert (found.drop, found.answer) == (0, TOO_FEW) and "50 of 100" in found.reason


def test_requests_without_a_tpot_are_passed_over_but_counted_in_the_drop() -> None:
    # Ten failures among the slow ones: the first of the steady ones is request 30.
    slow = [v for pair in zip(noise(20) + 0.5, [NAN] * 10 + [None] * 10, strict=True) for v in pair if v is not None]
    found = find_steady([*slow, *noise(80, seed=2)])
    assert (len(slow), found.drop, found.answer) == (30, 30, STEADY_STATE)


def test_mser_by_hand() -> None:
    # [4 2 2 2]: nothing dropped 3.0 / 16 = 0.19, one dropped 0. [4 4 2 2]: 4/16 = 0.25, 2.67/9 = 0.30, 0/4 = 0.
    assert mser(np.array([4.0, 2.0, 2.0, 2.0])) == 1
    assert mser(np.array([4.0, 4.0, 2.0, 2.0])) == 2
    # [1 2 1 2 1 2]: 1.5/36 = 0.0417, 1.2/25 = 0.048, 1/16 = 0.0625, 0.67/9 = 0.074.
    assert mser(np.array([1.0, 2.0] * 3)) == 0


@given(st.lists(st.floats(0.1, 10.0), min_size=20, max_size=80), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(values: list[float], scale: float) -> None:
    one, two = find_steady(values), find_steady(np.array(values) * scale)
    assert (one.drop, one.answer) == (two.drop, two.answer)


@given(st.lists(st.one_of(st.floats(1e-6, 1e3), st.just(NAN)), max_size=200))
def test_at_most_half_of_those_with_a_tpot_are_dropped(values: list[float]) -> None:
    found = find_steady(values)
    assert np.isfinite(values[: found.drop]).sum() <= np.isfinite(values).sum() / 2


def test_the_common_drop_is_the_largest_of_the_arms() -> None:
    steadies = [Steady(0, TOO_FEW, ""), Steady(10, STEADY_STATE, ""), Steady(5, NO_STEADY_STATE, "")]
    assert common_drop(steadies) == 10 and common_drop([]) == 0


@pytest.mark.parametrize(("drop", "answer"), [(-1, STEADY_STATE), (0, "perhaps")])
def test_other_answers_cannot_be_given(drop: int, answer: str) -> None:
    with pytest.raises(ValueError):
        Steady(drop, answer, "")
