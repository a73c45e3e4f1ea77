"""How far a proof by signs errs when whoever runs it may look at a block and lose it.

Exact, for any noise with independent blocks and a median at the margin: every block is won with probability one half. The
worst operator loses blocks that were not won, as many as he is allowed, and runs fresh ones in their place; running one of
a block's trials again is no better for him. A machine that loses blocks whatever they hold changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from profile_and_optimize.stats.proof import TABLE

# Blocks to how many of them must be won: 8 of 8, 11 of 12 or 14 of 16.
WON_OF = dict(TABLE[:3])


def worst_error(allowed: int, rule: Mapping[int, int] | None = None) -> float:
    """The largest probability of passing at one of the looks of `rule` (blocks: wins that pass) with the median exactly at
    the margin, when up to `allowed` blocks may be lost after they were seen. Raises ValueError for a negative number."""
    if allowed < 0:
        raise ValueError(f"the number of lost blocks must not be negative, got {allowed}")
    wins_at = dict(WON_OF if rule is None else rule)
    last = max(wins_at)

    @cache
    def passes(blocks: int, won: int, losses: int) -> float:
        if won >= wins_at.get(blocks, last + 1):
            return 1.0
        if blocks == last:
            return 0.0
        seen = passes(blocks + 1, won, losses)
        kept = max(seen, passes(blocks, won, losses - 1)) if losses else seen
        return 0.5 * passes(blocks + 1, won + 1, losses) + 0.5 * kept

    return passes(0, 0, allowed)
