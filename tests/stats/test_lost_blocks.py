"""What an operator gains who may lose blocks that he has seen: numbers that can be checked by hand."""

from __future__ import annotations

import random

import pytest

from profile_and_optimize.stats.lost_blocks import worst_error


def test_without_losses_the_error_is_that_of_the_signs() -> None:
    # 8 of 8: 1/256. Else 11 of 12 with a miss among the first 8 and none after (8 ways), and so on to 14 of 16.
    assert worst_error(0, {8: 8}) == 1 / 256
    assert worst_error(0, {12: 11}) == 13 / 4096
    assert worst_error(0) == pytest.approx(0.0068, abs=5e-5)


def test_one_lost_block_makes_eight_of_eight_into_eight_of_nine() -> None:
    assert worst_error(1, {8: 8}) == 10 / 512
    assert worst_error(3, {8: 8}) == (165 + 55 + 11 + 1) / 2048


def test_every_block_that_may_be_lost_adds_error_and_one_already_breaks_one_per_cent() -> None:
    found = [worst_error(k) for k in range(4)]
    assert found == sorted(found) and found[0] < 0.01 < found[1] < 0.03


def test_the_worst_operator_is_as_bad_when_he_is_played() -> None:
    rng, passed, n = random.Random(5), 0, 20_000
    for _ in range(n):
        won = blocks = 0
        losses = 1
        while blocks < 8:
            if rng.random() < 0.5:
                won += 1
            elif losses:
                losses -= 1
                continue
            blocks += 1
        passed += won == 8
    assert passed / n == pytest.approx(worst_error(1, {8: 8}), abs=0.004)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        worst_error(-1)
