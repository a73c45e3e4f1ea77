"""The order-statistic interval of a quantile: least sample sizes known from the binomial, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest

from profile_and_optimize.stats.quantile import quantile_interval


def test_368_is_the_least_n_whose_p99_has_an_upper_bound_at_95_percent() -> None:
    # 1 - 0.99**n reaches 97.5% at n = 368: 0.99**367 = 0.02501, 0.99**368 = 0.02476.
    assert quantile_interval(range(367), 0.99).high is None
    assert quantile_interval(range(368), 0.99).high == 367


def test_the_median_of_ten_lies_between_the_second_and_the_ninth() -> None:
    # The textbook case: P(2nd <= median <= 9th) = 1 - 2 * 11/1024 = 97.9%.
    found = quantile_interval([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], 0.5)
    assert (found.low, found.high) == (2, 9)


def test_the_interval_covers_at_least_as_often_as_it_says() -> None:
    rng, true = np.random.default_rng(3), 4.605170  # p99 of a unit exponential: ln 100
    hits = [
        (i.low or 0) <= true <= (i.high or np.inf)
        for i in (quantile_interval(rng.exponential(size=500), 0.99) for _ in range(2000))
    ]
    assert np.mean(hits) >= 0.95 - 3 * 0.005


def test_nothing_measured_bounds_nothing() -> None:
    assert (quantile_interval([], 0.99).low, quantile_interval([], 0.99).high) == (None, None)
    assert quantile_interval([5.0], 0.5).low is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_interval([1.0], 1.0)
