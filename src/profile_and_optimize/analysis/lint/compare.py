"""Results set side by side: were they run so that the difference is theirs, and under the same conditions?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from profile_and_optimize.analysis.lint.cache import repeats_between
from profile_and_optimize.analysis.lint.finding import Finding, Given, Said, Severity, Unchecked
from profile_and_optimize.importers.base import Imported

LENGTHS_DIFFER = 0.05
AB = "pao ab URL_A URL_B interleaves the two and gives one verdict with an interval"
MORE = "run it at least 3 times; against another configuration: " + AB
Load = tuple[str, ...]


def load_of(run: Imported) -> Load:
    """What makes two runs repeats of each other: load, dataset and lengths as the file names them."""
    asked = (
        run.facts.get(k, "") for k in ("dataset", "isl_asked", "osl_asked", "random_input_len", "random_output_len")
    )
    return (
        f"c={run.concurrency or 'none'}",
        f"rate={'none' if run.request_rate is None else f'{run.request_rate:g}'}",
        *asked,
    )


def by_load(runs: Sequence[Imported]) -> dict[Load, list[Imported]]:
    """Runs of one tool and load together, in order of their start where all of them name it."""
    groups: dict[Load, list[Imported]] = {}
    for run in runs:
        groups.setdefault((run.tool, *load_of(run)), []).append(run)
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
    for load in dict.fromkeys(load_of(r)[:2] for g in givens for r in g.runs):
        sides = {g.name: [r for r in g.runs if load_of(r)[:2] == load] for g in givens}
        sides = {name: runs for name, runs in sides.items() if runs}
        if len(sides) > 1:
            yield from _context(sides, " ".join(load))
            yield from _order(sides, " ".join(load))


def _context(sides: Mapping[str, Sequence[Imported]], load: str) -> Iterator[Said]:
    texts = {what: [_agreed([of(r) for r in runs]) for runs in sides.values()] for what, of in CONDITIONS.items()}
    differ = {what: " | ".join(str(v) for v in vs) for what, vs in texts.items() if None not in vs and len(set(vs)) > 1}
    differ |= _lengths(sides)
    model = differ.pop("model", None)
    name = " | ".join(sides)
    if differ:
        seen = f"at {load}, " + "; ".join(f"{what}: {values}" for what, values in differ.items())
        why = "the difference between these numbers is not the difference between the servers alone"
        yield Finding("different-context", Severity.WRONG, name, seen, why, AB)
    if model:
        why = "right if the checkpoint is what is compared, wrong if it is not"
        yield Finding("different-context", Severity.WEAK, name, f"at {load}, model: {model}", why, AB)


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


CONDITIONS: Mapping[str, Callable[[Imported], str | None]] = {
    "client": lambda r: r.tool if r.version is None else f"{r.tool} {r.version}",
    "dataset": lambda r: r.facts.get("dataset"),
    "backend": lambda r: r.facts.get("backend"),
    "cache mode": lambda r: r.facts.get("cache_mode"),
    "model": lambda r: r.facts.get("model"),
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
