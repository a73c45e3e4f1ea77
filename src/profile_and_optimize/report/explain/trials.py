"""The numbers of single trials, the last step before the records."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.metrics import DISTRIBUTIONS, ITL, OUT_RATE, REQ_RATE, Metric
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.explain.cells import QUANTILES, WORDS, value_of
from profile_and_optimize.report.explain.number import Case, Number, Place, Rest, Story, Table, Value, shown
from profile_and_optimize.report.explain.records import first_records, tokens_in, window
from profile_and_optimize.report.words import number, plain
from profile_and_optimize.report.workloads import COLUMNS, SHORT, TrialRow, used_of
from profile_and_optimize.stats.summary import samples

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def numbers(case: Case) -> Iterator[Number]:
    """`trials.<arm>.<name of the file>.<metric>`; all fine, since there are many."""
    for point, shown_point in zip(case.ev.plan.points, case.view.workloads, strict=True):
        rows = {t.source: t for t in shown_point.trials}
        for arm in case.view.arms:
            for t in used_of(case.d, arm.id, point.key):
                yield from _trial(t, rows[trial_path(t.key)])


def _trial(t: Judged, row: TrialRow) -> Iterator[Number]:
    name, at = f"trials.{t.key.arm}.{t.key.name}", f"of {t.key.arm} at {t.key.point} in block {t.key.block}"
    for m, text in zip(COLUMNS, row.values, strict=True):
        for q in QUANTILES if m in DISTRIBUTIONS else ("",):
            words = f"{WORDS[q]} {SHORT[m.name]}" if q else SHORT[m.name].lower()
            told = text if q in ("p50", "") else number(value_of(t, m, q), len(text.partition(".")[2]))
            ending = f".{m.printed}" + (f".{q}" if q else "")
            printed = q in ("p50", "")
            marks = (trial_path(t.key),) if printed else None
            yield Number(
                name + ending,
                told,
                f"{words} [{m.unit}] {at}",
                partial(_story, t, m, q),
                _stored(t, m, q),
                marks,
                fine=True,
            )
    file, one = f"cells/{t.key.arm}/normalized.json", ("source", trial_path(t.key))
    for ending, text, words, value, keys in (
        ("isl", row.isl, "prompt tokens, mean", t.summary.isl_observed, ("isl_observed_mean",)),
        ("osl", row.osl, "output tokens, mean", t.summary.osl_observed, ("osl_observed_mean",)),
        ("failed", row.failed, "requests that failed", t.summary.failed, ("requests", "failed")),
    ):
        stored = (Place(file, ("trials", one, *keys), value),)
        yield Number(f"{name}.{ending}", text, f"{words} {at}", partial(_counts, t, ending), stored, fine=True)


def _stored(t: Judged, m: Metric, q: str) -> tuple[Place, ...]:
    end = ("metrics", m.printed, q) if q else (m.printed,)
    return (
        Place(f"cells/{t.key.arm}/normalized.json", ("trials", ("source", trial_path(t.key)), *end), value_of(t, m, q)),
    )


def _story(t: Judged, m: Metric, q: str) -> Story:
    how, values = _quantile(t, m, q) if q else _output(t) if m is OUT_RATE else _requests(t)
    return Story(
        formula=(f"{m.name} [{m.unit}, {m.better} is better] = {m.formula}", *how), values=values, trials=(_rest(t),),
        records=first_records(t, (m,)), arms=(t.key.arm,), points=(t.key.point,),
    )  # fmt: skip


def _rest(t: Judged) -> Rest:
    return Rest(
        trial_path(t.key), f"{t.summary.completed} of {t.summary.asked} requests, client {t.honesty.validity.value}"
    )


def _quantile(t: Judged, m: Metric, q: str) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    run = t.file.run
    found = samples(run.records, t.summary.dropped, run.open_loop)[m.name]
    # What the client did not tell is no value, though the records hold one.
    ordered = sorted(float(v) * m.scale for v in found) if t.summary.dists[m.name] else []
    n, told = len(ordered), f"{shown(value_of(t, m, q))} {m.unit}"
    of = "gaps" if m is ITL else "requests"
    left = f"first requests left out, as in all arms of block {t.key.block}"
    base = (Value("N", n, f"good {of} with a value"), Value("dropped", t.summary.dropped, left))
    if not n:
        return (f"unknown: {m.undefined}",), base
    if q == "mean":
        return (f"mean = sum of the N values / N = {shown(sum(ordered))} / {n} = {told}",), base
    at = SHARES[q] * (n - 1)
    low, high = int(at), min(int(at) + 1, n - 1)
    ends = tuple(Value(f"v{i + 1}", ordered[i], f"number {i + 1} in order") for i in sorted({low, high}))
    how = (
        f"{q} = between the values in order, at place 1 + {SHARES[q]:g} x (N - 1) = {shown(1 + at)}",
        f"= v{low + 1} + {shown(at - low)} x (v{high + 1} - v{low + 1}) = {told}",
    )
    return how, (*base, *ends)


def _output(t: Judged) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    s, at = t.summary, window(t)
    told = f"{shown(s.output_throughput)} {OUT_RATE.unit}"
    if s.output_throughput is None:
        return (f"unknown: {OUT_RATE.undefined}",), ()
    if at is None:
        wall = f"{shown(s.wall_s)} s, the whole run (the client told only the ends of every stream)"
        return (f"rate = output tokens / run time = {told}; run time {wall}",), (
            Value("run time", s.wall_s, "seconds"),
        )
    tokens = tokens_in(t, at)
    return (
        f"a chunk counts its request's tokens / its chunks; window: {at.name}, from {at.start} to {at.end} ns",
        f"rate = tokens inside / seconds = {shown(tokens)} / {shown(s.window_s)} = {told}",
    ), (Value("tokens", tokens, "that arrived inside the window"), Value("seconds", s.window_s, "length of the window"))


def _requests(t: Judged) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    s = t.summary
    told = f"{shown(s.request_throughput)} {REQ_RATE.unit}"
    how = f"rate = completed / (last done - first sent) = {s.completed} / {shown(s.wall_s)} = {told}"
    return (how,), (Value("completed", s.completed, "good requests"), Value("run time", s.wall_s, "seconds"))


def _counts(t: Judged, what: str) -> Story:
    s = t.summary
    lines = {
        "isl": f"isl = mean prompt tokens of the good requests, by the server's usage = {shown(s.isl_observed)}",
        "osl": f"osl = mean output tokens of the good requests, by the server's usage = {shown(s.osl_observed)}",
        "failed": f"failed = asked - completed = {s.asked} - {s.completed} = {s.failed}",
    }
    errors = (
        (Table("Errors", ("requests", "error"), tuple((n, plain(error)) for error, n in s.errors)),) if s.errors else ()
    )
    return Story(
        (lines[what],), tables=errors if what == "failed" else (), trials=(_rest(t),), records=first_records(t, (), 1),
        arms=(t.key.arm,), points=(t.key.point,),
    )  # fmt: skip
