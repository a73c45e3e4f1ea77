"""Looking after every block: shares of the error, sign flips, and that they hold where they are meant to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs
from scipy import stats as sps

from profile_and_optimize.stats.paired import calls, contrasts, effective_df
from profile_and_optimize.stats.sequential import PLANNED, share_of_look, sign_flip_agrees, sign_flip_p
from profile_and_optimize.stats.simulate import Truth, draw, t_at_looks, t_statistics


def test_there_is_no_look_before_block_three_and_one_at_the_end_of_a_short_plan() -> None:
    assert [share_of_look(n, 8, 4) for n in (1, 2)] == [0.0, 0.0]
    assert [share_of_look(n, 3, 4) for n in (2, 3)] == [0.0, PLANNED]
    assert share_of_look(2, 2, 4) == PLANNED


@pytest.mark.parametrize("arms", [2, 3, 4])
@pytest.mark.parametrize("planned", [3, 4, 5, 8, 12, 20])
def test_early_looks_get_little_and_every_look_at_least_its_spending_increment(planned: int, arms: int) -> None:
    shares = [share_of_look(n, planned, arms) for n in range(3, planned + 1)]
    spent = [0.0, *((n / planned) ** 3 for n in range(3, planned + 1))]
    increments = [PLANNED * (b - a) for a, b in itertools.pairwise(spent)]
    assert all(s >= i * (1 - 5e-3) for s, i in zip(shares, increments, strict=True))
    assert all(0 < s <= PLANNED for s in shares) and shares[0] <= shares[-1]


def test_added_blocks_share_what_was_kept_back_however_many_there_are() -> None:
    total = sum(share_of_look(n, 8, 4) for n in range(9, 200_000))
    assert total == pytest.approx(1 - PLANNED, rel=1e-3) and total < 1 - PLANNED


def test_sign_flips_by_hand_and_against_scipy() -> None:
    assert sign_flip_p([0.1] * 7, 0.0) == 1 / 128
    assert sign_flip_p([0.1, 0.1, -0.1], 0.0) == pytest.approx(4 / 8)  # sums 3, 1, 1, 1 of eight reach 1
    x = [0.031, 0.012, -0.004, 0.022, 0.017, 0.009, 0.041]
    ours = sign_flip_p(x, 0.005)
    theirs = sps.permutation_test(
        (np.array(x) - 0.005,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert ours == pytest.approx(theirs.pvalue)


def test_the_edge_counts_and_few_blocks_are_not_asked() -> None:
    assert not sign_flip_agrees([0.02] * 6 + [-0.05], 0.0, 0.01) and sign_flip_agrees([0.02] * 6, 0.05, 0.01)
    assert sign_flip_agrees([0.02] * 7, 0.01, 0.01) and not sign_flip_agrees([0.02] * 7, 0.021, 0.01)


@given(hs.lists(hs.floats(-1, 1), min_size=1, max_size=20))
def test_a_sign_flip_p_lies_between_one_pattern_and_all(x: list[float]) -> None:
    assert 0 < sign_flip_p(x, 0.0) <= 1


def test_looks_computed_at_once_are_those_of_the_product() -> None:
    y = draw(Truth((0.0, 0.0, 0.02, 0.05), (0.01,) * 4, 0.006, 3.0, 0.002), 7, 5, np.random.default_rng(3))
    t = t_at_looks(y, 3)
    assert t[:, -1] == pytest.approx(t_statistics(y))
    for c, n in itertools.product(range(5), range(3, 8)):
        found = contrasts({b: dict(zip("abcd", y[c, b], strict=True)) for b in range(n)}, "a")
        assert [found[a].mean / found[a].se for a in "bcd"] == pytest.approx(list(t[c, n - 3]), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("truth", [
    Truth((0.0,) * 4, (0.01,) * 4, 0.006), Truth((0.0,) * 4, (0.01, 0.01, 0.01, 0.03)), Truth((0.0,) * 4, (0.01,) * 4, 0.0, 3.0),
])  # fmt: skip
def test_looking_after_every_block_keeps_the_error(truth: Truth) -> None:
    """8 planned blocks, 6 looks: some look calls an equal arm better in at most 1% of campaigns (4 sd of slack)."""
    campaigns, planned, alpha = 40_000, 8, 0.01
    t = t_at_looks(draw(truth, planned, campaigns, np.random.default_rng(11)), 3)[:, :, -1]
    limits = [sps.t.isf(alpha * share_of_look(n, planned, 4), effective_df(n, 4)) for n in range(3, planned + 1)]
    wrong = (t > np.array(limits)).any(axis=1).mean()
    assert wrong <= alpha + 4 * np.sqrt(alpha / campaigns)
    # The same looks at the full level each are what peeking does: this test can fail.
    naive = [sps.t.isf(alpha, effective_df(n, 4)) for n in range(3, planned + 1)]
    if truth.tails is None and truth.sds[3] > truth.sds[0]:
        assert (t > np.array(naive)).any(axis=1).mean() > 1.5 * alpha


def test_an_arm_that_won_earlier_hands_its_level_on() -> None:
    y = draw(Truth((0.0, 0.0, 0.3, 0.03), (0.005,) * 4), 5, 1, np.random.default_rng(5))[0]
    found = contrasts({b: dict(zip(("base", "aa", "x", "y"), r, strict=True)) for b, r in enumerate(y)}, "base")
    shares = dict.fromkeys("xy", 0.5)
    alone = calls(found, "xy", alpha=0.01, margin=0.01, shares=shares, won=["x"])["y"]
    assert alone.level == pytest.approx(0.005)
    unseen = calls({"y": found["y"]}, "xy", alpha=0.01, margin=0.01, shares=shares)["y"]
    assert unseen.level == pytest.approx(0.0025)
