"""The records of a trial against the server's own counters over it: tokens, requests, and times it cannot have beaten. Pure.

Exact counts are expected of servers that we started, where nobody else asks anything; of an endpoint of others, only that
it did at least our share. A client sees every token after its server does, so its mean times may not be the shorter ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.engines.prometheus import mean_of, server_tpot
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.stats.summary import NS

PREFIXES = ("vllm:", "sglang:")
REQUESTS = ("request_success_total", "num_requests_total")
# A reading can meet a server between an answer's last byte and its entry in the books.
SHARE, TOKENS, ASKED = 0.005, 8, 1
EARLIER_S, EARLIER_SHARE = 1e-3, 0.02
TPOT_SHARE, TPOT_SPAN_S = 0.25, 0.010


def check_server(t: Judged) -> tuple[Remark, ...]:
    """Everything that the server's counters say otherwise. Nothing where it keeps none."""
    rows, counters = Records.of(t.file.run.records), dict(t.file.counters)
    if not len(rows) or not rows.ok.any():
        return ()
    own = t.file.context.get("engine", {}).get("asked") != "endpoint"
    found = [*_counts(rows, counters, own), *_times(rows, counters, own)]
    return tuple(Remark(trial_path(t.key), text, doubt) for text, doubt in found)


def _counts(rows: Records, counters: Mapping[str, float], own: bool) -> Iterator[tuple[str, bool]]:
    all_ok = bool(rows.ok.all())
    sums = {
        "generation_tokens_total": (_sum(rows, rows.counts.output), TOKENS, "output tokens", False),
        "prompt_tokens_total": (_sum(rows, rows.counts.prompt), TOKENS, "prompt tokens", True),
        **{name: (int(rows.ok.sum()), ASKED, "finished requests", False) for name in REQUESTS},
    }
    for name, (ours, slack, what, doubt) in sums.items():
        theirs = next((counters[p + name] for p in PREFIXES if p + name in counters), None)
        if theirs is None or ours is None:
            continue
        most = slack + SHARE * ours
        if theirs < ours - most or (own and all_ok and theirs > ours + most):
            yield f"the records hold {ours} {what}, the server counted {theirs:.0f}", doubt


def _sum(rows: Records, column: np.ndarray) -> int | None:
    """Over the good requests; None when the server did not say it for every one."""
    known = column[rows.ok]
    return int(known.sum()) if (known != MISSING).all() else None


def _times(rows: Records, counters: dict[str, float], own: bool) -> Iterator[tuple[str, bool]]:
    good = rows.ok
    means = {
        "time_to_first_token_seconds": ("time to first token", (rows.first_ns - rows.sent_ns)[good]),
        "e2e_request_latency_seconds": ("latency", (rows.done_ns - rows.sent_ns)[good]),
    }
    for name, (what, ns) in means.items():
        theirs = next((m for p in PREFIXES if (m := _whole_mean(counters, p + name, len(ns))) is not None), None)
        ours = float(ns.mean()) * NS
        if own and theirs is not None and ours < theirs * (1 - EARLIER_SHARE) - EARLIER_S:
            yield f"mean {what} {ours * 1e3:.2f} ms, shorter than the server's own {theirs * 1e3:.2f} ms", False
    yield from _tpot(rows, counters, own)


def _whole_mean(counters: dict[str, float], histogram: str, count: int) -> float | None:
    """The histogram's mean if it holds exactly so many requests: ours, and all of them."""
    return mean_of(counters, histogram) if counters.get(f"{histogram}_count") == count else None


def _tpot(rows: Records, counters: dict[str, float], own: bool) -> Iterator[tuple[str, bool]]:
    has = ~np.isnan(rows.tpots)
    theirs = server_tpot(counters)
    if not own or theirs is None or not has.any():
        return
    tokens = rows.counts.output[has] - 1
    ours = float(rows.tpots[has].mean())
    off = abs(ours - theirs)
    if off > TPOT_SHARE * theirs and off * float(tokens.mean()) > TPOT_SPAN_S:
        yield f"mean time per output token {ours * 1e3:.2f} ms, the server's own is {theirs * 1e3:.2f} ms", False
