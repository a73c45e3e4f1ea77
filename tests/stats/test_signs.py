"""The signs of a proof: when they suffice, and that noise of any shape does not make a winner."""

from __future__ import annotations

import numpy as np
import pytest

from profile_and_optimize.stats.paired import contrasts, floored_se, step_of
from profile_and_optimize.stats.proof import LOSS, TABLE, WIN, e_value, least_more, most_useful, signs_of

EDGE = 0.01


@pytest.mark.parametrize(("blocks", "wins"), TABLE)
def test_the_table_is_where_the_product_reaches_a_hundred_first(blocks: int, wins: int) -> None:
    losses = blocks - wins
    assert e_value(wins, losses) >= 100 > e_value(wins - 1, losses)
    assert e_value(8, 0) == pytest.approx(110.2, abs=0.1) and (WIN + LOSS) / 2 == 1


def test_the_first_sixteen_blocks_use_68_hundredths_of_a_percent() -> None:
    """All sign sequences of 16 blocks, each as probable as any other: those that reach 100 on the way."""
    signs = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1
    reached = (np.cumprod(np.where(signs == 1, WIN, LOSS), axis=1) >= 100).any(axis=1)
    assert reached.mean() == pytest.approx(0.0068, abs=0.0001)


def test_signs_and_interval_have_to_agree() -> None:
    clear = signs_of([0.05, 0.06, 0.04, 0.05, 0.055, 0.045, 0.05, 0.06], EDGE, 0.01, 1e-6)
    assert (clear.wins, clear.losses, clear.proven) == (8, 0, True)
    # Eight small wins and a spread that the t model does not call: signs alone do not ship it.
    torn = signs_of([0.011, 0.9, 0.011, 0.9, 0.011, 0.011, 0.011, 0.011], EDGE, 0.01, 1e-6)
    assert torn.by_signs and not torn.by_interval and not torn.proven
    few = signs_of([0.05, 0.06, 0.04, 0.05, 0.055, 0.045, 0.05], EDGE, 0.01, 1e-6)
    assert few.by_interval and not few.by_signs and not few.proven


def test_a_block_at_the_margin_or_within_the_metrics_resolution_of_it_is_no_win() -> None:
    assert signs_of([EDGE] * 8, EDGE, 0.01, 1e-6).wins == 0
    assert signs_of([EDGE + 0.004] * 8, EDGE, 0.01, 0.005).wins == 0
    assert signs_of([EDGE + 0.004] * 8, EDGE, 0.01, None).wins == 0


def test_a_lost_block_counts_as_not_above_the_margin() -> None:
    d = [0.05, 0.06, 0.04, 0.05, 0.055, 0.045, 0.05, 0.06]
    s = signs_of(d, EDGE, 0.01, 1e-6, lost=1)
    assert (s.wins, s.losses, s.measured, s.proven) == (8, 1, 8, False)
    assert signs_of([*d, 0.05, 0.05, 0.05], EDGE, 0.01, 1e-6, lost=1).proven


def test_an_error_below_one_percent_takes_more_blocks() -> None:
    d = [0.05, 0.06, 0.04, 0.05, 0.055, 0.045, 0.05, 0.06]
    assert not signs_of(d, EDGE, 0.005, 1e-6).by_signs and signs_of([*d, 0.05, 0.05], EDGE, 0.005, 1e-6).by_signs


def test_what_is_left_to_run_is_told() -> None:
    assert [most_useful(n) for n in (0, 7, 8, 11, 12, 15, 16, 40)] == [0, 0, 8, 8, 12, 12, 16, 16]
    assert least_more(0, 0, 0, 0.01) == 8 and least_more(7, 1, 8, 0.01) == 4 and least_more(14, 2, 16, 0.01) == 0
    one_lost = signs_of([0.05] * 3 + [0.0], EDGE, 0.01, 1e-6)
    assert not one_lost.within_reach(4) and one_lost.within_reach(8)


def two_speeds(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice((-0.03, 0.03), shape)


def test_a_candidate_with_two_speeds_is_proven_in_less_than_one_percent() -> None:
    """Mean and median of its sessions at the margin, everybody else quiet: what fools a t test of three blocks."""
    rng, campaigns = np.random.default_rng(5), 4000
    pick = two_speeds(rng, (campaigns, 16, 2)) + EDGE
    base = rng.standard_normal((campaigns, 16, 2)) * 0.002
    d = pick.mean(axis=2) - base.mean(axis=2)
    wrong = sum(any(signs_of(row[:n], EDGE, 0.01, 1e-9).proven for n in (8, 12, 16)) for row in d)
    assert wrong / campaigns < 0.01


# The floor under a standard error


def test_equal_differences_are_no_certainty() -> None:
    table = {b: {"base": 0.0, "x": 0.02} for b in (1, 2, 3)}
    c = contrasts(table, "base")["x"]
    assert c.se == pytest.approx(0.02 / 18**0.5) and 0.01 < c.p_above(EDGE) < 0.5


def test_one_value_alone_says_nothing() -> None:
    c = contrasts({b: {"base": 0.0, "x": 0.0} for b in (1, 2, 3)}, "base")["x"]
    assert c.p_above(-0.5) == 1.0 and floored_se(0.0, None, 3) == float("inf")


def test_the_step_of_a_metric_is_its_smallest_difference_and_rounding_makes_none() -> None:
    assert step_of([1.0, 1.0 + 1e-12, 1.02, 1.05]) == pytest.approx(0.02) and step_of([1.0, 1.0]) is None


def test_a_fine_metric_is_not_touched_by_the_floor() -> None:
    rng = np.random.default_rng(1)
    y = rng.standard_normal((5, 3)) * 0.01
    c = contrasts({i: dict(zip(("base", "a", "x"), row, strict=True)) for i, row in enumerate(y)}, "base")["x"]
    assert c.se == max(c.own_se or 0.0, c.pooled_se or 0.0)
