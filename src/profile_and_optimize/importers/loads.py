"""The kind of load that vLLM's and SGLang's results name: a rate, a cap, and what the two mean together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from profile_and_optimize.importers.base import LoadKind
from profile_and_optimize.importers.reading import Looked

INFINITE = ("inf", "infinity", "+inf")
RATE, CAP = "request_rate", "max_concurrency"


@dataclass(frozen=True, slots=True)
class LoadSaid:
    kind: LoadKind
    rate: float | None
    cap: int | None


def load_said(d: Looked, *, changing: bool = False, trace: bool = False) -> LoadSaid:
    """`changing` and `trace`: the file says elsewhere that the rate changes or that times were recorded.

    An infinite rate with a cap is a closed loop of so many slots, without one everything at once; both only where the
    file has the field: one that lacks it, or has null for a rate, does not say.
    """
    infinite = _infinite(d.data.get(RATE))
    word = isinstance(d.data.get(RATE), str)
    rate = None if infinite or word else d.number(RATE)
    cap = d.positive(CAP)
    trace = trace or d.data.get(RATE) == "trace"
    if word and not infinite and not trace:
        d.note(RATE, f"{d.text(RATE)!r} is neither a rate nor inf")
    if changing or trace:
        return LoadSaid(LoadKind.CHANGING if changing else LoadKind.TRACE, None, cap)
    if rate:
        return LoadSaid(LoadKind.OPEN, rate, cap)
    if rate == 0:
        d.note(RATE, "0 requests a second is not a rate")
    return LoadSaid(_without_rate(d, infinite=infinite, cap=cap), None, cap)


def _without_rate(d: Looked, *, infinite: bool, cap: int | None) -> LoadKind:
    if not infinite:
        return LoadKind.UNKNOWN
    if cap:
        return LoadKind.CLOSED
    return LoadKind.BURST if CAP in d.data and d.data[CAP] is None else LoadKind.UNKNOWN


def _infinite(found: object) -> bool:
    if isinstance(found, str):
        return found.strip().lower() in INFINITE
    return isinstance(found, float) and math.isinf(found) and found > 0
