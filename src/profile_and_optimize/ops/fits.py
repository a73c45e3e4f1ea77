"""Does a workload fit into what a model takes at a time? Asked before anything starts, by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.evidence.given import read_given

FLAGS = ("--max-model-len", "--max_model_len", "--context-length")
MOST_BYTES = 16 << 20
_SIZE = re.compile(r"(\d+)([kKmM]?)")
_UNITS = {"": 1, "k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2}


def max_length(model: str, flags: Sequence[str] = ()) -> int | None:
    """Tokens of prompt and answer together, by the engine's flag, else by the model's config.json; None is unknown."""
    by_flag = [_size(value) for option, value in _options(flags) if option in FLAGS]
    if by_flag:
        return by_flag[-1]
    try:
        config: Any = json.loads(read_given(Path(model) / "config.json", MOST_BYTES))
    except (WrongUse, ValueError, RecursionError):
        return None
    inner = config.get("text_config") if isinstance(config, dict) else None
    return _length(inner if isinstance(inner, dict) else config)


def _options(flags: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Every option with what follows it, `--a b` and `--a=b` alike."""
    for flag, after in zip(flags, (*flags[1:], ""), strict=False):
        option, equals, value = flag.partition("=")
        yield option, value if equals else after


def _size(text: str) -> int | None:
    found = _SIZE.fullmatch(text.strip())
    return int(found[1]) * _UNITS[found[2]] if found and int(found[1]) else None


def _length(config: Any) -> int | None:
    """Engines stretch the length of a model with scaled positions, each in its own way: that is unknown here."""
    if not isinstance(config, dict) or config.get("rope_scaling"):
        return None
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def unfit(workloads: Iterable[Workload], limit: int | None) -> tuple[Workload, ...]:
    """Those whose longest request is longer than `limit`."""
    return tuple(w for w in dict.fromkeys(workloads) if limit is not None and w.isl + w.osl > limit)


def require_fit(
    points: Iterable[Point], limit: int | None, where: str, *, take: str = "--suite demo, or one of"
) -> None:
    """Raises WrongUse naming the workloads that do not fit and those that do; `take` says how to take only these."""
    every = tuple(dict.fromkeys(p.workload for p in points))
    wrong = unfit(every, limit)
    if wrong:
        names = ", ".join(f"{w.name} ({w.isl} + {w.osl} tokens)" for w in wrong)
        rest = ",".join(w.name for w in every if w not in wrong)
        then = f"{take} {rest}" if rest else "another suite (pao workloads), or a longer --max-model-len"
        raise WrongUse(f"too long for {limit} tokens: {names}", where=where, next=then)
