"""Our few distribution functions against scipy.stats: not close, the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from profile_and_optimize.stats.distributions import beta_ppf, binom_ppf, t_isf, t_ppf, t_sf

LEVEL = st.floats(1e-6, 1 - 1e-6)
DF = st.one_of(st.integers(1, 300), st.floats(1.0, 300.0))


@given(st.floats(-60, 60), DF)
def test_student_t_above(x: float, df: float) -> None:
    assert t_sf(x, df) == float(stats.t.sf(x, df))


@given(LEVEL, DF)
def test_student_t_quantiles(p: float, df: float) -> None:
    assert t_ppf(p, df) == float(stats.t.ppf(p, df)) and t_isf(p, df) == float(stats.t.isf(p, df))


@given(LEVEL, st.integers(1, 500), st.integers(1, 500))
def test_beta_quantiles(p: float, a: int, b: int) -> None:
    assert beta_ppf(p, a, b) == float(stats.beta.ppf(p, a, b))


@given(LEVEL, st.integers(1, 2000), st.floats(0.01, 0.99))
def test_binomial_quantiles(p: float, n: int, share: float) -> None:
    """Where a distribution reaches p exactly, as a symmetric one does at a half, rounding decides between two neighbours."""
    ours, theirs = binom_ppf(p, n, share), int(stats.binom.ppf(p, n, share))
    assert ours == theirs or stats.binom.cdf(min(ours, theirs), n, share) == pytest.approx(p, rel=1e-9)
