"""The few distribution functions that we use, bit for bit those of scipy.stats, whose import alone takes half a second."""

from __future__ import annotations

import math

from scipy.special import bdtr, bdtrik, betaincinv, stdtr, stdtrit


def t_sf(x: float, df: float) -> float:
    """P(T > x) of a Student-t."""
    return float(stdtr(df, -x))


def t_ppf(p: float, df: float) -> float:
    """The quantile of a Student-t with `p` below it."""
    return float(stdtrit(df, p))


def t_isf(p: float, df: float) -> float:
    """The quantile of a Student-t with `p` above it."""
    return -t_ppf(p, df)


def beta_ppf(p: float, a: float, b: float) -> float:
    """The quantile of a Beta(a, b) with `p` below it."""
    return float(betaincinv(a, b, p))


def binom_ppf(p: float, n: int, share: float) -> int:
    """The smallest k with P(K <= k) >= p of a Binomial(n, share)."""
    k = math.ceil(bdtrik(p, n, share))
    # Rounded up past an exact quantile, the one before is the right one.
    return k - 1 if k > 0 and bdtr(k - 1, n, share) >= p else k
