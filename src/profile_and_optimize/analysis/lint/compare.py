"""Results set side by side: were they run so that the difference is theirs, and under the same conditions?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from profile_and_optimize.analysis.lint.cache import repeats_between
from profile_and_optimize.analysis.lint.finding import Finding, Given, Said, Severity, Unchecked, finite
from profile_and_optimize.importers.base import Imported, LoadKind

LENGTHS_DIFFER = 0.05
AB = "pao ab URL_A URL_B interleaves the two and gives one verdict with an interval"
MORE = "run it at least 3 times; against another configuration: " + AB
Load = tuple[str, ...]
# Facts that differ between repeats of one configuration, or that were measured: they say nothing of what it is.
NOT_IDENTITY = frozenset({
    "seed", "random_seed", "command", "warnings", "cancelled", "run_number", "rtfx", "tag", "label", "max_concurrent_requests",
    "iterations_per_request", "tokens_per_request", "tokens_per_chunk", "token_counts", "honesty", "honesty_reasons", "prompts_exact",
    "unreadable_beside", "sweep_failures", "cache_hit_rate_pct", "accept_length", "total_output_tokens_retokenized",
    "total_input_text_tokens", "total_input_vision_tokens", "url", "endpoint_type", "date", "start_time", "end_time", "peak_concurrency",
})  # fmt: skip
MEASURED = (
    "throughput",
    "goodput",
    "per_s",
    "spec_decode_",
    "diffusion_",
    "probe_",
    "tokens_per_",
    "max_output_tokens",
)
# Settings that are no whole number; any other fact with a fraction was measured, unless it is a version.
FRACTIONS = ("burstiness", "ratio", "temperature", "top_p", "rate", "rps", "fraction", "utilization", "version", "mean")


def identity(run: Imported) -> dict[str, str]:
    """What a run says of itself that its repeats must say too: tool, version, model, dataset, engine, flags, lengths."""
    said = {"tool": run.tool, "client version": run.version or ""}
    return said | {name: text for name, text in run.facts.items() if _of_identity(name, text)}


def _of_identity(name: str, text: str) -> bool:
    if name in NOT_IDENTITY or any(word in name for word in MEASURED):
        return False
    fraction = finite(text) is not None and not text.isdecimal()
    return not fraction or any(word in name for word in FRACTIONS)


def load_of(run: Imported) -> Load:
    """Kind of load, concurrency and rate, as the file names them."""
    return (
        run.load.value,
        f"concurrency {run.concurrency or 'none'}",
        "rate none" if run.request_rate is None else f"{run.request_rate:g} req/s",
    )


def words_of(load: Load) -> str:
    return ", ".join(part for part in load if not part.endswith(" none"))


def by_load(runs: Sequence[Imported]) -> dict[Load, list[Imported]]:
    """Runs of one load that agree in what they say of themselves, in order of their start where all of them name it."""
    groups: dict[Load, list[Imported]] = {}
    for run in runs:
        key = (*load_of(run), *(f"{k}={v}" for k, v in sorted(identity(run).items())))
        groups.setdefault(key, []).append(run)
    for group in groups.values():
        if all(r.started for r in group):
            group.sort(key=lambda r: r.started or "")
    return groups


def inside(given: Given) -> Iterator[Said]:
    """What the runs of one argument say about each other."""
    for group in by_load(given.runs).values():
        if len(group) == 1:
            yield Finding(
                "one-run", Severity.WEAK, group[0].path, "1 run at this load",
                "how far a second run would be from it is unknown, so no difference to another result can be told from chance",
                MORE,
            )  # fmt: skip
        yield from repeats_between(group)


def between(givens: Sequence[Given]) -> Iterator[Said]:
    """What the arguments say about each other, at each load that several of them hold."""
    for load in dict.fromkeys(load_of(r) for g in givens for r in g.runs):
        sides = {g.name: [r for r in g.runs if load_of(r) == load] for g in givens}
        sides = {name: runs for name, runs in sides.items() if runs}
        if len(sides) < 2:
            continue
        if load[0] == LoadKind.UNKNOWN:
            yield Unchecked("different-context", " | ".join(sides), "the kind of load of each")
        yield from _context(sides, words_of(load))
        yield from _order(sides, words_of(load))


def _context(sides: Mapping[str, Sequence[Imported]], load: str) -> Iterator[Said]:
    differ = _differing(sides, CONDITIONS)
    differ |= _lengths(sides)
    tokenizer = differ.pop("tokenizer", None)
    if tokenizer and not all(r.facts.get("tokenizer") == r.facts.get("model") for runs in sides.values() for r in runs):
        differ["tokenizer"] = tokenizer
    name = " | ".join(sides)
    if differ:
        seen = f"at {load}, " + "; ".join(f"{what}: {values}" for what, values in differ.items())
        why = "the difference between these numbers is not the difference between the servers alone"
        yield Finding("different-context", Severity.WRONG, name, seen, why, AB)
    compared = _differing(sides, _compared(sides))
    if compared:
        why = "right if that is what is compared, wrong if it is not"
        seen = f"at {load}, " + "; ".join(f"{what}: {values}" for what, values in compared.items())
        yield Finding("different-context", Severity.WEAK, name, seen, why, AB)


def _differing(
    sides: Mapping[str, Sequence[Imported]], conditions: Mapping[str, Callable[[Imported], str | None]]
) -> dict[str, str]:
    """What every side says and not all say alike."""
    texts = {what: [_agreed([of(r) for r in runs]) for runs in sides.values()] for what, of in conditions.items()}
    return {what: " | ".join(str(v) for v in vs) for what, vs in texts.items() if None not in vs and len(set(vs)) > 1}


def _compared(sides: Mapping[str, Sequence[Imported]]) -> dict[str, Callable[[Imported], str | None]]:
    """The model, and whatever else the runs say of themselves that is no condition of measuring."""
    names = dict.fromkeys(["model", *(k for runs in sides.values() for r in runs for k in identity(r))])
    left = [n for n in names if n not in ("tool", "client version", "tokenizer", *FACTS.values())]
    return {n: _fact(n) for n in left}


def _agreed(found: Sequence[str | None]) -> str | None:
    return None if None in found else "/".join(sorted({f for f in found if f is not None}))


def _lengths(sides: Mapping[str, Sequence[Imported]]) -> dict[str, str]:
    """Mean lengths of the sides that are more than 5% apart."""
    differ = {}
    for what in ("input_tokens", "output_tokens"):
        means = [_mean_length(runs, what) for runs in sides.values()]
        known = [m for m in means if m]
        if len(known) == len(means) and max(known) > min(known) * (1 + LENGTHS_DIFFER):
            differ["isl" if what == "input_tokens" else "osl"] = " | ".join(f"{m:.1f}" for m in known)
    return differ


def _mean_length(runs: Sequence[Imported], what: str) -> float | None:
    totals, completed = [getattr(r, what) for r in runs], [r.completed for r in runs]
    if None in totals or None in completed or not sum(c or 0 for c in completed):
        return None
    return float(sum(totals)) / sum(c or 0 for c in completed)


# A condition of measuring -> the fact that tells it.
FACTS = {
    "dataset": "dataset", "backend": "backend", "cache mode": "cache_mode", "tokenizer": "tokenizer", "arrivals": "arrivals",
    "burstiness": "burstiness", "isl asked": "isl_asked", "osl asked": "osl_asked", "random input length": "random_input_len",
    "random output length": "random_output_len", "random range ratio": "random_range_ratio", "ramp up": "ramp_up_strategy",
    "ramp from": "ramp_up_start_rps", "ramp to": "ramp_up_end_rps",
}  # fmt: skip


def _fact(name: str) -> Callable[[Imported], str | None]:
    return lambda r: r.facts.get(name)


CONDITIONS: Mapping[str, Callable[[Imported], str | None]] = {
    "client": lambda r: r.tool if r.version is None else f"{r.tool} {r.version}",
    **{what: _fact(name) for what, name in FACTS.items()},
}


def _order(sides: Mapping[str, Sequence[Imported]], load: str) -> Iterator[Said]:
    """All of one side before all of the other: the machine's drift is then in the difference, whole."""
    if any(r.started is None for runs in sides.values() for r in runs):
        yield Unchecked("order", " | ".join(sides), "when each run started")
        return
    spans = sorted((min(_starts(runs)), max(_starts(runs)), name) for name, runs in sides.items())
    apart = all(a[1] < b[0] for a, b in pairwise(spans))
    if apart and len({r.tool for runs in sides.values() for r in runs}) == 1:
        order = ", then ".join(f"{len(sides[name])} of {name}" for _, _, name in spans)
        many = max(len(runs) for runs in sides.values()) > 1
        yield Finding(
            "order", Severity.WRONG if many else Severity.WEAK, " | ".join(sides), f"at {load}: {order}",
            "whatever changed on the machine meanwhile counts as a difference between the two, and more repeats in this order "
            "make it look surer",
            AB,
        )  # fmt: skip


def _starts(runs: Sequence[Imported]) -> list[str]:
    return [r.started or "" for r in runs]
