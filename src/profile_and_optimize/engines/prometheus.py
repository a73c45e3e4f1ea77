"""The few lines of Prometheus text we read: sums and counts of histograms, counters and gauges, labels summed over."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.engines.base import Counters

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?\s+(\S+)$")


def parse(text: str) -> dict[str, float]:
    """Metric name to value summed over its labels; buckets and comments are left out, as is what is not a finite number."""
    values: dict[str, float] = {}
    for line in text.splitlines():
        hit = _LINE.match(line.strip())
        if not hit or hit.group(1).endswith(("_bucket", "_created")):
            continue
        try:
            number = float(hit.group(2))
        except ValueError:
            continue
        if math.isfinite(number):
            values[hit.group(1)] = values.get(hit.group(1), 0.0) + number
    return values


def scrape(url: str, headers: tuple[tuple[str, str], ...] = ()) -> Counters:
    """The counters behind url/metrics; empty when there are none to read."""
    # Imported here: it brings an HTTP library, and most who use this module read what was kept.
    from profile_and_optimize.engines.calls import get

    try:
        answer = get(f"{url}/metrics", headers)
    except Unreachable:
        return Counters({})
    return Counters(parse(answer.text) if answer.status == 200 else {})


def mean_of(delta: Mapping[str, float], histogram: str) -> float | None:
    """Mean of a histogram over a window, in its unit; None when nothing was counted."""
    count = delta.get(f"{histogram}_count", 0.0)
    return delta[f"{histogram}_sum"] / count if count > 0 and f"{histogram}_sum" in delta else None


# SGLang's name until 0.5 is the last one.
TPOT_HISTOGRAMS = (
    "vllm:request_time_per_output_token_seconds",
    "sglang:request_time_per_output_token_seconds",
    "sglang:time_per_output_token_seconds",
)


def server_tpot(delta: Mapping[str, float]) -> float | None:
    """The server's own mean time per output token over a window, by whichever histogram it keeps."""
    found = (mean_of(delta, name) for name in TPOT_HISTOGRAMS)
    return next((v for v in found if v is not None), None)


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Prompt tokens that were looked up in the prefix cache over a window, and those of them that it held."""

    queried: float
    hit: float

    @property
    def share(self) -> float | None:
        """None when nothing was looked up."""
        return self.hit / self.queried if self.queried > 0 else None


# (looked up, held) per engine. vLLM 0.32 counts a look-up per request that is scheduled, with caching on alone; what a
# connector (LMCache and the like) held comes on top. SGLang counts the tokens of all prompts.
CACHE_COUNTERS = (
    ("vllm:prefix_cache_queries_total", ("vllm:prefix_cache_hits_total", "vllm:external_prefix_cache_hits_total")),
    ("sglang:prompt_tokens_total", ("sglang:cached_tokens_total",)),
)
# SGLang's counter of cached tokens is not there before the first hit; these two (all, computed) are, from the first answer.
_SGLANG_ALL, _SGLANG_FRESH = "sglang:prompt_tokens_histogram_sum", "sglang:uncached_prompt_tokens_histogram_sum"


def cache_use(delta: Mapping[str, float]) -> CacheUse | None:
    """The prefix cache over a window as the server counts it; None where it keeps no such counters."""
    if _SGLANG_ALL in delta and _SGLANG_FRESH in delta:
        return CacheUse(delta[_SGLANG_ALL], delta[_SGLANG_ALL] - delta[_SGLANG_FRESH])
    for queried, (held, *more) in CACHE_COUNTERS:
        if queried in delta and held in delta:
            return CacheUse(delta[queried], delta[held] + sum(delta.get(name, 0.0) for name in more))
    return None
