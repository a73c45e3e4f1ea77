"""What a file says of itself, held against itself, before anyone uses it.

A list of requests that is not the whole run is left out with the reason; a latency of exactly zero is a placeholder;
figures that the same file disproves are named. Every importer ends here, so that no rule has to ask again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from profile_and_optimize.importers.base import FIGURES, Imported, RequestSeen, Stat

# The file's mean and that of its own list are one sum over one set; a tool that rounds what it lists stays within this.
SAME_MEAN = 2e-3
SAME_RATE = 0.02
SAME_SPAN, SAME_SPAN_S = 0.05, 0.2
ABOVE = 1.001
# Their lists hold a number for every request: an answer without a first token is one where they wrote 0.
COUNT_BLANKS = ("vllm", "sglang")
E2E_OVER_TOKENS = "tpot, which is e2e_latency / (osl - 1) here"


def settled(
    run: Imported, *, listed: Collection[str] = (), beside: bool = False, rates: bool = True, fills: bool = True,
    counted: Collection[str] = (),
) -> Imported:  # fmt: skip
    """`listed` are the metrics that the list of requests gives by the tool's own formula, and `fills` says whether by its
    own percentiles too. `beside`: the list is another file, which may be of another run. `rates`: the tool's rates are
    counts over its duration. `counted` are fields that were counted from the list, and go with it."""
    wrong = () if run.unlisted else _listing(run, listed, beside=beside)
    if run.unlisted or wrong:
        run = without_list(run, run.unlisted or wrong[0], counted)
    run = _zeros(replace(run, metrics=_filled(run, listed if fills else ())))
    said = (
        *run.contradicts,
        *(() if beside else wrong[1:]),
        *(_rates(run) if rates else ()),
        *_order(run.metrics),
        *_counts(run),
    )
    return _silent(replace(run, contradicts=said))


def without_list(run: Imported, why: str, counted: Collection[str]) -> Imported:
    """The same with its aggregates alone."""
    return replace(
        run, requests=(), records=(), prompts=(), texts=(), send_lag_s=(), unlisted=why,
        asked=None if "asked" in counted else run.asked, failed=None if "failed" in counted else run.failed,
        errors=() if "errors" in counted else run.errors,
    )  # fmt: skip


def _listing(run: Imported, listed: Collection[str], *, beside: bool) -> tuple[str, ...]:
    """Why the requests that are listed are not those of the run, first for a reader of checks; () where they are.
    What follows contradicts the file itself."""
    if not run.requests:
        return ()
    good, bad = len(run.good), len(run.requests) - len(run.good)
    pairs = (
        ("completed", good, run.completed),
        ("failed", bad, _not_completed(run)),
        ("asked for", len(run.requests), run.asked),
    )
    for word, there, stated in pairs:
        if stated is not None and there != stated:
            return (f"every request: the file lists {there} of {stated} {word}",)
    if run.completed is None:
        return ("every request: the file does not say how many there were beside those it lists",)
    return _figures(run, listed) or (_span(run) if beside else ())


def _not_completed(run: Imported) -> int | None:
    """Listed without an answer: failed ones and those that were still running."""
    return None if run.failed is None else run.failed + (run.incomplete or 0)


def _figures(run: Imported, listed: Collection[str]) -> tuple[str, ...]:
    for name in listed:
        stated, values = run.stat(name).mean, observed(run.requests, name)
        if stated is None or not values or _blank(run, name):
            continue
        mean = sum(values) / len(values)
        if abs(stated - mean) > max(SAME_MEAN * mean, 1e-6):
            seen = f"mean {name} {stated * 1e3:.3f} ms stated, {mean * 1e3:.3f} ms by its list of requests"
            return (f"requests that belong to these figures: {seen}", seen)
    return ()


def _blank(run: Imported, name: str) -> bool:
    """Whether answers without a first token are in the file's mean of it."""
    return name == "ttft" and any(r.ttft_s is None for r in run.good)


def _span(run: Imported) -> tuple[str, ...]:
    """Another run's records may agree in number: their time must fit the duration as well."""
    ends = [(r.sent_s, r.sent_s + r.e2e_s) for r in run.good if r.sent_s is not None and r.e2e_s is not None]
    if not run.duration_s or not ends:
        return ()
    span = max(e for _, e in ends) - min(s for s, _ in ends)
    if span - run.duration_s > SAME_SPAN * run.duration_s + SAME_SPAN_S:
        return (f"requests that belong to these figures: {run.duration_s:.1f} s stated, the records span {span:.1f} s",)
    return ()


def observed(requests: Sequence[RequestSeen], name: str) -> list[float]:
    """Observations of a metric over the answered requests, in seconds."""
    good = [r for r in requests if r.ok]
    if name == "ttft":
        return [r.ttft_s for r in good if r.ttft_s is not None]
    if name == "itl":
        return [g for r in good for g in r.gaps_s or ()]
    return [r.e2e_s for r in good if r.e2e_s is not None]


def _filled(run: Imported, listed: Collection[str]) -> dict[str, Stat]:
    """What the file did not print, from its own list, and how many observations there were."""
    found = dict(run.metrics)
    for name in listed:
        if run.requests and not _blank(run, name):
            found[name] = run.stat(name).filled(Stat.of(observed(run.requests, name)))
    return {name: stat for name, stat in found.items() if not stat.empty}


def _zeros(run: Imported) -> Imported:
    """Latencies of exactly zero are what a tool writes where it measured nothing: unknown, and named.

    A median or mean of zero takes the whole metric: the others are over measurements and placeholders alike. Gaps alone
    can have a median of zero beside real ones, of chunks that came together.
    """
    zeros = {name: tuple(k for k in FIGURES if getattr(stat, k) == 0.0) for name, stat in run.metrics.items()}
    zeros = {name: figures for name, figures in zeros.items() if figures}
    blank = sum(r.ttft_s is None for r in run.good) if run.tool in COUNT_BLANKS else 0
    metrics = {
        name: _less(name, stat, zeros[name]) if name in zeros else stat
        for name, stat in run.metrics.items() if not (name == "ttft" and blank)
    }  # fmt: skip
    aside = dict(run.aside)
    if blank:
        zeros["ttft"] = (f"{blank} of {len(run.good)} answers",)
        metrics["ttft"] = Stat.of(observed(run.requests, "ttft"))
    if "ttft" in zeros and (blank or metrics["ttft"].empty) and "tpot" in metrics:
        aside[E2E_OVER_TOKENS] = metrics.pop("tpot")
    run = replace(run, metrics={n: s for n, s in metrics.items() if not s.empty}, zeros=zeros, aside=aside)
    # SGLang's tokens of an answer that showed none are those that were asked for.
    return replace(run, output_tokens=None, output_throughput=None) if blank and run.tool == "sglang" else run


def _less(name: str, stat: Stat, zeros: Sequence[str]) -> Stat:
    whole = stat.mean == 0.0 if name == "itl" else stat.p50 == 0.0 or stat.mean == 0.0
    return Stat() if whole or stat.without(zeros).empty else stat.without(zeros)


def _rates(run: Imported) -> tuple[str, ...]:
    """Rates that are not their own count over their own duration."""
    said = []
    pairs = (
        ("request throughput", run.request_throughput, run.completed, "requests"),
        ("output throughput", run.output_throughput, run.output_tokens, "tokens"),
    )
    for word, rate, count, of in pairs:
        if rate is None or count is None or not run.duration_s:
            continue
        by_count = count / run.duration_s
        if abs(rate - by_count) > SAME_RATE * max(rate, by_count):
            said.append(f"{word} {rate:g}/s stated, {count} {of} in {run.duration_s:g} s are {by_count:g}/s")
    return tuple(said)


def _order(metrics: Mapping[str, Stat]) -> tuple[str, ...]:
    said = []
    for name, s in metrics.items():
        known = [(k, v) for k in ("p50", "p90", "p99") if (v := getattr(s, k)) is not None]
        for (a, low), (b, high) in pairwise(known):
            if low > high * ABOVE:
                said.append(f"{name} {a} {low * 1e3:g} ms is above its {b} {high * 1e3:g} ms")
    return tuple(said)


def _counts(run: Imported) -> tuple[str, ...]:
    if (
        run.asked is None
        or run.completed is None
        or run.completed + (run.failed or 0) + (run.incomplete or 0) <= run.asked
    ):
        return ()
    return (f"{run.completed} completed and {run.failed or 0} failed of {run.asked} asked for",)


def _silent(run: Imported) -> Imported:
    """Requests counted as completed that brought no answer: no latency of these is one, and no rate."""
    own = run.facts.get("total_output_tokens_retokenized")
    if run.completed and own == "0":
        why = f"{run.completed} requests are counted as completed, and its own count of the text that came is 0 tokens"
    elif run.completed and run.output_tokens == 0:
        why = f"{run.completed} requests completed with no output token"
    else:
        return run
    return replace(
        run, silent=why, metrics={}, aside={}, output_tokens=None, output_throughput=None, request_throughput=None
    )
