"""Every kind of fault that `planted_faults.py` plants, by its name."""

from __future__ import annotations

import planted_codes
import planted_config
import planted_files
import planted_plain
import planted_records
import planted_scales
from planted_space import Kind

CLEAN = Kind("harmless", "clean", lambda p: (), harmless=True)
_FILES = (planted_codes, planted_scales, planted_plain, planted_files, planted_config, planted_records)
_ALL = (CLEAN, *(kind for file in _FILES for kind in file.KINDS))
KINDS: dict[str, Kind] = {k.name: k for k in _ALL}
assert len(KINDS) == len(_ALL), "two kinds of one name"
