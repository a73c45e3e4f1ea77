"""Numbers and outside text as a reader sees them. One place, so that page, terminal and Markdown agree to the digit."""

from __future__ import annotations

import math
import shlex
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from profile_and_optimize.analysis.decide import percent as decided_percent
from profile_and_optimize.analysis.decide import ratio_words
from profile_and_optimize.core.verdict import Effect

UNKNOWN = "unknown"

# Control characters and format characters (bidi overrides, zero width) can forge what a terminal or a page shows.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: object) -> str:
    """`text` on one line without control and format characters; line breaks and tabs become spaces."""
    spaced = "".join(" " if c in "\n\r\t\u2028\u2029" else c for c in str(text))
    return "".join(c for c in spaced if unicodedata.category(c) not in _HIDDEN).strip()


def verify_command(run: str) -> str:
    """What a reader may paste: a run's folder can be named anything."""
    return f"pao verify {shlex.quote(plain(run))}"


def stamp_words(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def number(value: float | None, decimals: int | None = None) -> str:
    """Four significant digits, or the decimals given; "unknown" for None."""
    if value is None:
        return UNKNOWN
    return f"{value:.{decimals_for([value]) if decimals is None else decimals}f}"


def decimals_for(values: Sequence[float | None]) -> int:
    """Decimals that give the smallest of a column four significant digits, so that its numbers line up."""
    sizes = [abs(v) for v in values if v]
    return max(0, 3 - _magnitude(min(sizes))) if sizes else 0


def _magnitude(size: float) -> int:
    return math.floor(math.log10(size))


def interval_words(estimate: Mapping[str, Any] | None, decimals: int) -> tuple[str, str]:
    """(value, interval) of an atlas estimate. Without one it says so; a single block has a value and no interval."""
    if estimate is None:
        return UNKNOWN, ""
    lower, upper = estimate["lower"], estimate["upper"]
    known = lower is not None and upper is not None
    words = f"{number(lower, decimals)} to {number(upper, decimals)}" if known else f"no interval (n={estimate['n']})"
    return number(estimate["estimate"], decimals), words


def percent(log_ratio: float | None) -> str:
    return UNKNOWN if log_ratio is None else decided_percent(log_ratio)


def effect_words(effect: Effect | None) -> str:
    """The decision's own words for an effect, so that every page prints the same digits."""
    return UNKNOWN if effect is None else ratio_words(effect)


def effect_parts(effect: Effect | None) -> tuple[str, str]:
    """`effect_words` as value and interval: ("+11.0%", "+9.9% to +12.2%"), ("unknown", "")."""
    value, _, interval = effect_words(effect).partition(" (")
    return value, interval.rstrip(")")


def coverage(effect: Effect | None) -> str:
    """The two-sided coverage of an effect's interval, over all looks together: Holm gives every arm its own."""
    return UNKNOWN if effect is None or effect.lower is None else f"{100 * (1 - 2 * effect.error):.4g}%"


def span(values: list[float | None], decimals: int = 1) -> str:
    """ "36.0", "35.9 to 36.2", or "unknown" where any is."""
    known = [v for v in values if v is not None]
    if not known or len(known) != len(values):
        return UNKNOWN
    low, high = f"{min(known):.{decimals}f}", f"{max(known):.{decimals}f}"
    return low if low == high else f"{low} to {high}"


def count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def width(text: str) -> int:
    """Columns a terminal gives the text; wide East Asian characters take two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
