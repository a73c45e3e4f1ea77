"""Every kind of fault that `planted_faults.py` plants, by its name."""

from __future__ import annotations

import planted_config
import planted_plain
import planted_weights
from planted_space import Kind

CLEAN = Kind("harmless", "clean", lambda p: (), harmless=True)
_ALL = (CLEAN, *planted_weights.KINDS, *planted_plain.KINDS, *planted_config.KINDS)
KINDS: dict[str, Kind] = {k.name: k for k in _ALL}
assert len(KINDS) == len(_ALL), "two kinds of one name"
