"""Accuracy intervals."""

from __future__ import annotations

import pytest

from profile_and_optimize.stats.accuracy import score


def test_clopper_pearson_of_95_of_100() -> None:
    s = score([True] * 95 + [False] * 5)
    assert (s.share, round(s.lower, 4), round(s.upper, 4)) == (0.95, 0.8872, 0.9836)


def test_all_and_none_right_have_honest_ends() -> None:
    assert score([True] * 20).upper == 1.0 and score([True] * 20).lower == pytest.approx(0.8316, abs=1e-4)
    assert score([False] * 20).lower == 0.0
    assert score([]) is None
