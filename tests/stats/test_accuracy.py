"""Accuracy intervals and the paired gate."""

from __future__ import annotations

import pytest

from profile_and_optimize.stats.accuracy import paired_loss, score


def test_clopper_pearson_of_95_of_100() -> None:
    s = score([True] * 95 + [False] * 5)
    assert (s.share, round(s.lower, 4), round(s.upper, 4)) == (0.95, 0.8872, 0.9836)


def test_all_and_none_right_have_honest_ends() -> None:
    assert score([True] * 20).upper == 1.0 and score([True] * 20).lower == pytest.approx(0.8316, abs=1e-4)
    assert score([False] * 20).lower == 0.0
    assert score([]) is None


def test_no_loss_seen_in_300_still_bounds_the_loss_above_zero() -> None:
    loss = paired_loss([True] * 300, [True] * 300)
    assert (loss.lost, loss.won) == (0, 0) and 0.01 < loss.upper < 0.013


def test_ten_lost_of_300_are_beyond_a_margin_of_two_percent() -> None:
    assert paired_loss([True] * 300, [False] * 10 + [True] * 290).upper > 0.02


def test_different_numbers_of_questions_give_no_answer() -> None:
    assert paired_loss([True], [True, True]) is None
