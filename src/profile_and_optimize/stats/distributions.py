"""The few distribution functions that we use, bit for bit those of scipy.stats, whose import alone takes half a second.

`scipy.special` is imported by the first that is called: it costs more than all else that a verb without statistics needs.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType


@cache
def _special() -> ModuleType:
    from scipy import special

    return special


def t_sf(x: float, df: float) -> float:
    """P(T > x) of a Student-t."""
    return float(_special().stdtr(df, -x))


def t_ppf(p: float, df: float) -> float:
    """The quantile of a Student-t with `p` below it."""
    return float(_special().stdtrit(df, p))


def t_isf(p: float, df: float) -> float:
    """The quantile of a Student-t with `p` above it."""
    return -t_ppf(p, df)


def normal_ppf(p: float) -> float:
    """The quantile of a standard normal with `p` below it."""
    return float(_special().ndtri(p))


def beta_ppf(p: float, a: float, b: float) -> float:
    """The quantile of a Beta(a, b) with `p` below it."""
    return float(_special().betaincinv(a, b, p))


def binom_ppf(p: float, n: int, share: float) -> int:
    """The smallest k with P(K <= k) >= p of a Binomial(n, share)."""
    k = math.ceil(_special().bdtrik(p, n, share))
    # Rounded up past an exact quantile, the one before is the right one.
    return k - 1 if k > 0 and _special().bdtr(k - 1, n, share) >= p else k
