"""The test behind the calls: known answers, laws, and its false-alarm rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as sps

from profile_and_optimize.core.verdict import Call
from profile_and_optimize.stats.paired import blocks_needed, calls, contrasts, effective_df, holm_levels, single
from profile_and_optimize.stats.simulate import Truth, draw, t_statistics

CANDIDATES = ("one", "two")
ARMS = ("baseline", "aa", *CANDIDATES)


def table(y: np.ndarray) -> dict[int, dict[str, float]]:
    return {b + 1: dict(zip(ARMS[: y.shape[1]], map(float, row), strict=True)) for b, row in enumerate(y)}


def test_two_arms_are_the_paired_t_test_of_scipy() -> None:
    y = np.array([[0.0, 0.11], [0.5, 0.62], [0.2, 0.29], [0.1, 0.24]])
    c = contrasts(table(y), "baseline")["aa"]
    expected = sps.ttest_rel(y[:, 1], y[:, 0], alternative="greater")
    assert (c.mean / c.se, c.p_above(0.0)) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))


def test_pooling_never_uses_less_than_the_arms_own_variance() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(0, 0.01, (5, 4))
    y[:, 3] += rng.normal(0, 0.2, 5)
    c = contrasts(table(y), "baseline")["two"]
    own = np.std(y[:, 3] - y[:, 0], ddof=1) / math.sqrt(5)
    assert c.se >= own * (1 - 1e-12)


def test_block_effects_cancel() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(0, 0.01, (4, 4))
    shifted = y + rng.normal(0, 3.0, (4, 1))
    for arm, c in contrasts(table(y), "baseline").items():
        other = contrasts(table(shifted), "baseline")[arm]
        assert (other.mean, other.se) == (pytest.approx(c.mean), pytest.approx(c.se))


def test_a_block_that_lacks_an_arm_is_dropped_for_all() -> None:
    rows = table(np.zeros((4, 4)) + np.arange(4)[:, None])
    del rows[2]["one"]
    assert {c.blocks for c in contrasts(rows, "baseline").values()} == {3}


def test_tabled_degrees_of_freedom_lie_between_unpooled_and_pooled() -> None:
    for arms in (3, 4):
        for n in range(2, 13):
            assert n - 1 <= effective_df(n, arms) <= (n - 1) * (arms - 1)
    assert effective_df(5, 2) == 4.0
    assert effective_df(100, 4) == 99.0


def test_holm_steps_down_and_stops() -> None:
    levels = holm_levels({"a": 0.001, "b": 0.02, "c": 0.004}, alpha=0.01)
    assert levels == {"a": pytest.approx(0.01 / 3), "c": pytest.approx(0.005), "b": pytest.approx(0.01)}
    stopped = holm_levels({"a": 0.004, "b": 0.0041, "c": 0.5}, alpha=0.01)
    assert list(stopped.values()) == pytest.approx([0.01 / 3] * 3)


def effect_of(gain: float, sd: float, blocks: int, seed: int = 3):
    rng = np.random.default_rng(seed)
    y = draw(Truth((0.0, 0.0, math.log1p(gain), 0.0), (sd,) * 4), blocks, 1, rng)[0]
    return calls(contrasts(table(y), "baseline"), CANDIDATES, alpha=0.01, margin=0.01)["one"]


def test_calls_follow_the_interval() -> None:
    assert effect_of(0.20, 0.005, 4).call is Call.BETTER
    assert effect_of(-0.20, 0.005, 4).call is Call.WORSE
    assert effect_of(0.0, 0.0005, 6).call is Call.SAME
    unknown = effect_of(0.02, 0.02, 3)
    assert unknown.call is Call.UNKNOWN and "blocks" in unknown.reason


def test_without_two_blocks_the_answer_is_unknown_with_no_number() -> None:
    e = calls(contrasts(table(np.zeros((1, 4))), "baseline"), CANDIDATES, alpha=0.01, margin=0.01)["one"]
    assert (e.call, e.estimate, e.lower) == (Call.UNKNOWN, None, None)


def test_blocks_needed_would_suffice_at_the_observed_noise() -> None:
    rng = np.random.default_rng(5)
    c = contrasts(table(draw(Truth((0, 0, 0.03, 0), (0.02,) * 4), 3, 1, rng)[0]), "baseline")["one"]
    n = blocks_needed(c, 0.005, math.log1p(0.01))
    assert n is None or n > 3


@given(st.integers(0, 2**31), st.integers(2, 8))
def test_swapping_the_sides_flips_the_effect(seed: int, blocks: int) -> None:
    y = draw(Truth((0.0, 0.05), (0.01, 0.01)), blocks, 1, np.random.default_rng(seed))[0]
    there = contrasts({b: {"a": r[0], "b": r[1]} for b, r in enumerate(y)}, "a")["b"]
    back = contrasts({b: {"a": r[0], "b": r[1]} for b, r in enumerate(y)}, "b")["a"]
    assert (there.mean, there.se) == (pytest.approx(-back.mean), pytest.approx(back.se))
    flipped = {Call.BETTER: Call.WORSE, Call.WORSE: Call.BETTER}
    e, f = (single(c, "x", alpha=0.01, margin=0.01) for c in (there, back))
    assert f.call is flipped.get(e.call, e.call)


@pytest.mark.parametrize("sds", [(1, 1, 1, 1), (1, 1, 1, 3), (3, 1, 1, 1), (1, 1, 3, 3)])
@pytest.mark.parametrize("drift", [0.0, 0.6])
def test_a_against_a_stays_under_its_alpha(sds: tuple[int, ...], drift: float) -> None:
    """4,000 campaigns without effect, 3 and 6 blocks: false alarms of one contrast at 1% stay below 1.4% (3 sd above)."""
    for blocks in (3, 6):
        t = t_statistics(draw(Truth((0.0,) * 4, sds, drift), blocks, 4000, np.random.default_rng(blocks)))[:, -1]
        rate = float(np.mean(t > sps.t.isf(0.01, effective_df(blocks, 4))))
        assert rate < 0.014
