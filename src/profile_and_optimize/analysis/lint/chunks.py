"""Are TTFT, ITL and TPOT what their names say in this file? Bunched chunks, empty first chunks, parts that do not add up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked, finite, ms
from profile_and_optimize.importers.base import Imported

TOGETHER_S = 1e-4
TOGETHER_WEAK = 0.10
ITL_OF_TPOT_WRONG = 0.10
ONE_TOKEN = 1.05
AT_ONCE = 0.98
MANY_TOKENS = 8
# Means of products are not products of means: answers of uneven length part them a little, mistakes part them far.
SUM_WEAK, SUM_WRONG = 1.25, 2.0
TPOT_OF_SPAN = 0.25
# A first gap this many times the others is no token's; one chunk more than tokens makes a smaller one suspect.
FIRST_GAP_TIMES, FIRST_GAP_TIMES_EXTRA = 3.0, 1.5


def coalesced_chunks(run: Imported) -> Iterator[Said]:
    """Chunks that arrived together, or that held several tokens: then a gap is not the time of a token."""
    per_chunk, together = tokens_per_chunk(run), _share_together(run)
    if per_chunk is None and together is None:
        yield Unchecked("coalesced-chunks", run.path, f"the gaps between chunks ({flags.detail(run)})")
        return
    found = _at_once(run) or _bunched(run, per_chunk, together) or _several_tokens(run, per_chunk)
    if found:
        severity, seen, why = found
        fix = f"compare TPOT, not ITL; {flags.own_bench(run)} counts bunched reads apart"
        yield Finding("coalesced-chunks", severity, run.path, seen, why, fix)


def _at_once(run: Imported) -> tuple[Severity, str, str] | None:
    """The whole answer in one piece, although it has many tokens."""
    ttft, e2e, osl = run.stat("ttft").p50, run.stat("e2e_latency").p50, _osl(run)
    if not ttft or not e2e or not osl or osl <= MANY_TOKENS or ttft < AT_ONCE * e2e:
        return None
    seen = f"TTFT p50 {ms(ttft)} of E2E p50 {ms(e2e)}: the whole answer of {osl:.0f} tokens arrived at once"
    return (
        Severity.WRONG,
        seen,
        "without a stream there is no TTFT and no TPOT: look for a proxy that buffers, or streaming left off",
    )


def _bunched(run: Imported, per_chunk: float | None, together: float | None) -> tuple[Severity, str, str] | None:
    """Wrong when the median gap itself is one between bunched chunks; weak from a tenth of the gaps."""
    itl, tpot = run.stat("itl").p50, run.stat("tpot").p50
    share = "" if together is None else f"{together:.0%} of gaps are below 0.1 ms"
    why = (
        "the ITL percentiles describe how chunks were bunched, by the server, a proxy or a late client, and not tokens"
    )
    if itl is not None and tpot and per_chunk is not None and per_chunk < ONE_TOKEN and itl < ITL_OF_TPOT_WRONG * tpot:
        seen = f"ITL p50 {ms(itl)} against TPOT p50 {ms(tpot)} at {per_chunk:.2f} tokens a chunk"
        return Severity.WRONG, seen + (f"; {share}" if share else ""), why
    return (Severity.WEAK, share, why) if (together or 0.0) > TOGETHER_WEAK else None


def _several_tokens(run: Imported, per_chunk: float | None) -> tuple[Severity, str, str] | None:
    if per_chunk is None or per_chunk <= ONE_TOKEN:
        return None
    itl, tpot = run.stat("itl").p50, run.stat("tpot").p50
    seen = f"{per_chunk:.2f} tokens a chunk" + (f": ITL p50 {ms(itl)}, TPOT p50 {ms(tpot)}" if itl and tpot else "")
    return (
        Severity.WEAK,
        seen,
        "ITL is then the time of a chunk, not of a token; or the tokens were counted by another tokenizer",
    )


def tokens_per_chunk(run: Imported) -> float | None:
    """Output tokens over chunks, from the listed requests, else from the means; None where neither is there.

    The file cannot tell an empty first chunk, so one chunk more than tokens counts as one token a chunk.
    """
    listed = [(r.output_tokens, len(r.gaps_s) + 1) for r in run.good if r.output_tokens and r.gaps_s is not None]
    if listed:
        return sum(t for t, _ in listed) / sum(min(n, t) if n == t + 1 else n for t, n in listed)
    tokens, iterations = (finite(run.facts.get(k)) for k in ("tokens_per_request", "iterations_per_request"))
    if run.tool == "guidellm" and tokens and iterations:
        # guidellm's iterations hold the usage chunk and the closing line as well.
        return tokens / max(1.0, iterations - 2)
    itl, tpot = run.stat("itl").mean, run.stat("tpot").mean
    return itl / tpot if itl and tpot else None


def _share_together(run: Imported) -> float | None:
    """Share of gaps below 0.1 ms, the first of each request left out: an empty first chunk comes right before its token."""
    gaps = [g for r in run.good for g in (r.gaps_s or ())[1:]]
    return sum(g < TOGETHER_S for g in gaps) / len(gaps) if gaps else None


def _osl(run: Imported) -> float | None:
    return run.output_tokens / run.completed if run.output_tokens and run.completed else None


def adds_up(run: Imported) -> Iterator[Said]:
    """TTFT + TPOT x (OSL - 1) is E2E: one of the figures is not what it says when the two part."""
    ttft, tpot, e2e, osl = (*(run.stat(n) for n in ("ttft", "tpot", "e2e_latency")), _osl(run))
    if not ttft.mean or tpot.mean is None or not e2e.mean or not osl or osl < 2:
        yield Unchecked("latencies-disagree", run.path, "mean TTFT, TPOT, E2E and output tokens together")
        return
    summed = ttft.mean + tpot.mean * (osl - 1)
    off = max(summed / e2e.mean, e2e.mean / summed)
    implied = (e2e.p50 - ttft.p50) / (osl - 1) if e2e.p50 and ttft.p50 else None
    small = implied is not None and tpot.p50 is not None and tpot.p50 < TPOT_OF_SPAN * implied
    if off > SUM_WEAK or small:
        yield Finding(
            "latencies-disagree", Severity.WRONG if off > SUM_WRONG or small else Severity.WEAK, run.path,
            f"TTFT {ms(ttft.mean)} + TPOT {ms(tpot.mean)} x {osl - 1:.0f} tokens = {ms(summed)}, but E2E is {ms(e2e.mean)} (means)"
            + (f"; TPOT p50 {ms(tpot.p50 or 0.0)} where the medians leave {ms(implied or 0.0)} a token" if small else ""),
            "these are parts of one span, so at least one of them is mismeasured, or the token count is not the server's",
            flags.own_bench(run),
        )  # fmt: skip


def role_chunk(run: Imported) -> Iterator[Said]:
    """A TTFT that ends at an empty chunk: the first gap is then the prefill."""
    firsts = [(r.ttft_s, r.gaps_s[0]) for r in run.good if r.ttft_s is not None and r.gaps_s]
    rest = [g for r in run.good for g in (r.gaps_s or ())[1:]]
    if not firsts or not rest:
        yield Unchecked("role-chunk", run.path, f"the gap after the first chunk ({flags.detail(run)})")
        return
    first, ttft, usual = (float(np.median(v)) for v in ([g for _, g in firsts], [t for t, _ in firsts], rest))
    extra = sum(len(r.gaps_s or ()) == r.output_tokens for r in run.good) > 0.9 * len(run.good)
    if first <= max((FIRST_GAP_TIMES_EXTRA if extra else FIRST_GAP_TIMES) * usual, ttft):
        return
    real = float(np.median([t + g for t, g in firsts]))
    yield Finding(
        "role-chunk", Severity.WRONG if extra else Severity.WEAK, run.path,
        f"TTFT p50 {ms(ttft)}, then {ms(first)} to the second chunk where other gaps are {ms(usual)}"
        + (" and every answer has one chunk more than tokens" if extra else "") + f"; to the second chunk it is {ms(real)}",
        "the first chunk was empty, so this TTFT is not the time of a token, and TPOT holds the prefill" if extra
        else "the first chunk may have been an empty one: then this TTFT is not the time of a token",
        f"{flags.own_bench(run)} takes the first chunk with content",
    )  # fmt: skip
