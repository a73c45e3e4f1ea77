"""Did the server see these prompts before? Repeats inside a run, and between runs of the same load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked, finite, ms
from profile_and_optimize.importers.base import Imported

SHARED = 0.5
# A client that is late moves a TTFT by a fifth on its own; a prefix that is cached takes most of a prefill away.
FASTER = 0.67
FASTER_LEAST_S = 1e-3
# No repeat of one load in one state differs this much, whatever the cause.
ANOTHER_STATE = 1 / 3
DISTINCT_LENGTHS = 4
WHY_STATE = "the two runs met the server in different states (a cached prefix, or one that the first run warmed up): not repeats"
WHY = "with prefix caching a prompt seen before skips its prefill: TTFT and throughput are those of a warm cache, not of the load"


def repeats_inside(run: Imported) -> Iterator[Said]:
    """Prompts that came twice in one run; wrong when the later ones were answered sooner."""
    if run.facts.get("cache_mode") == "warm":
        return
    if (hit := finite(run.facts.get("cache_hit_rate_pct"))) is not None and hit > 0:
        yield Finding(
            "warm-prefix",
            Severity.WEAK,
            run.path,
            f"{hit:g}% of prompt tokens came from the server's cache",
            WHY,
            flags.seed(run),
        )
    if not run.prompts:
        yield from _by_count(run)
        return
    repeated = len(run.prompts) - len(set(run.prompts))
    if repeated:
        first, later = _first_and_later(run)
        warm = first is not None and later is not None and _faster(first, later)
        seen = f"{repeated} of {len(run.prompts)} prompts repeat an earlier one" + _change(
            first, later, "first time", "again"
        )
        yield Finding("warm-prefix", Severity.WRONG if warm else Severity.WEAK, run.path, seen, WHY, flags.seed(run))


def _by_count(run: Imported) -> Iterator[Said]:
    entries, n = run.facts.get("dataset_entries", ""), run.asked
    if entries.isdecimal() and n and int(entries) < n:
        seen = f"{n} requests from {entries} prompts"
        yield Finding("warm-prefix", Severity.WEAK, run.path, seen, WHY, flags.seed(run))
    elif not entries:
        yield Unchecked("warm-prefix", run.path, f"the prompts of {run.unlisted}" if run.unlisted else "the prompts")


def _first_and_later(run: Imported) -> tuple[float | None, float | None]:
    """Median TTFT of prompts when first seen, and when seen again; None where the file cannot say."""
    if len(run.prompts) != len(run.requests):
        return None, None
    seen: set[str] = set()
    first: list[float] = []
    later: list[float] = []
    for prompt, r in zip(run.prompts, run.requests, strict=True):
        if r.ttft_s is not None:
            (later if prompt in seen else first).append(r.ttft_s)
        seen.add(prompt)
    return (float(np.median(first)) if first else None), (float(np.median(later)) if later else None)


def repeats_between(runs: Sequence[Imported]) -> Iterator[Said]:
    """Runs of one load, in order: the same prompts again, and a TTFT that falls."""
    for a, b in pairwise(runs):
        if (
            b.facts.get("cache_mode") == "warm"
            or not (a.completed and b.completed)
            or (a.prompts and not _same_prompts(a, b))
        ):
            continue
        same, was, now = _same_prompts(a, b), runs[0].stat("ttft").p50, b.stat("ttft").p50
        falls = was is not None and now is not None and _faster(was, now)
        change = _change(was, now, "in the first run", "here")
        if same:
            yield Finding(
                "warm-prefix", Severity.WRONG if falls else Severity.WEAK, b.path, f"{same}{change}", WHY, flags.seed(b)
            )
        elif falls and was is not None and now is not None:
            severity = Severity.WRONG if now < ANOTHER_STATE * was else Severity.WEAK
            seen = f"the same load again{change}; the file does not show the prompts"
            yield Finding("warm-prefix", severity, b.path, seen, WHY_STATE, flags.seed(b))


def _same_prompts(a: Imported, b: Imported) -> str | None:
    """How the files show that two runs sent the same prompts; None where they do not."""
    if a.prompts and b.prompts:
        shared = len(set(a.prompts) & set(b.prompts)) / len(set(b.prompts))
        return f"{shared:.0%} of its prompts are those of {a.path}" if shared >= SHARED else None
    pairs = list(zip(a.texts, b.texts, strict=False))
    if pairs and len(set(b.texts)) > len(b.texts) / 2:
        equal = sum(x == y for x, y in pairs) / len(pairs)
        if equal >= SHARED:
            return f"{equal:.0%} of its answers are word for word those of {a.path}, request by request"
    mine, theirs = ([r.input_tokens for r in run.requests] for run in (a, b))
    if mine and mine == theirs and None not in mine and len(set(mine)) >= DISTINCT_LENGTHS:
        return f"its {len(mine)} prompts have, one by one, the lengths of those of {a.path}"
    return None


def _faster(was: float, now: float) -> bool:
    return now < FASTER * was and was - now > FASTER_LEAST_S


def _change(was: float | None, now: float | None, before: str, after: str) -> str:
    return "" if was is None or now is None else f"; TTFT p50 {ms(was)} {before}, {ms(now)} {after}"
