"""Which kernels a server says it runs, and where it says that it did not take the one that was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

# vLLM: "Using MarlinNvFp4LinearKernel for NVFP4 GEMM", "Selected X for Y", "Using 'MARLIN' NvFp4 MoE backend".
_NAMED = re.compile(r"\b(?:Using|Selected) '?(\w+Kernel)'? for\b|\bUsing '?([\w.]+)'? (?:\w+ )?MoE backend\b")
_FELL_BACK = re.compile(
    r"(--linear-backend=\S+ (?:has no kernel for this linear layer type|was requested, but no .+? kernel exists for .+?);"
    r".*)"
)


@dataclass(frozen=True, slots=True)
class Kernels:
    """`named` in the order of the log, each once; `fell_back` are the engine's own words, "" where it says nothing of it."""

    named: tuple[str, ...]
    fell_back: str = ""


def kernels_in(log: str) -> Kernels:
    """What the log of a server that started says. A server that names no kernel has none here: which it took is unknown."""
    named = dict.fromkeys(a or b for a, b in _NAMED.findall(log))
    hit = _FELL_BACK.search(log)
    return Kernels(tuple(named), hit.group(1).strip() if hit else "")
