"""What a request does, whatever its verb is called: this decides who is asked before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from profile_and_optimize.core.workload import Point


class Act(StrEnum):
    """The values are read by the person who is asked."""

    WRITES = "writes files"
    SENDS = "sends load to a server"
    LONG = "can take more than a minute"
    STARTS = "starts servers on this machine"
    CODE = "runs code that it brings or names"


Acts = frozenset[Act]
EVERYTHING: Acts = frozenset(Act)
# A person is asked about these.
LOUD: Acts = frozenset({Act.LONG, Act.STARTS, Act.CODE})
SERVING: Acts = frozenset({Act.WRITES, Act.SENDS, Act.LONG, Act.STARTS})
LONGEST_S = 60.0
# Slower than what people serve, so that an estimate errs on the side of asking.
SLOW_TTFT_S, SLOW_TOKEN_S, SLOW_PROMPT_TOKENS_S = 1.0, 0.1, 1000.0


def everything(_: Any) -> Acts:
    """Of a verb that does not say what it does."""
    return EVERYTHING


def reads(_: Any) -> Acts:
    return frozenset()


def writes(_: Any) -> Acts:
    return frozenset({Act.WRITES})


def serves(request: Any) -> Acts:
    """Of a verb that starts servers unless `dry_run` says that it only shows how."""
    return frozenset({Act.WRITES}) if getattr(request, "dry_run", False) else SERVING


def long_if(condition: bool, *others: Act) -> Acts:
    return frozenset({*others, *((Act.LONG,) if condition else ())})


def fetches(points: Iterable[Point]) -> bool:
    """Would the data of one of them be downloaded first? How long that takes, nobody knows."""
    from profile_and_optimize.workloads.data import to_be_fetched

    return any(to_be_fetched(p.workload) for p in points)


def answer_s(isl: int, osl: int) -> float:
    """Seconds that a slow server takes for one answer."""
    return SLOW_TTFT_S + isl / SLOW_PROMPT_TOKENS_S + osl * SLOW_TOKEN_S


def closed_loop_s(requests: int, slots: int, isl: int, osl: int) -> float:
    """Seconds of a closed loop with a slow server."""
    return math.ceil(requests / slots) * answer_s(isl, osl)
