"""The measured numbers of an arm at a point: over its blocks, with the value of every block they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from profile_and_optimize.analysis.atlas import LEVEL, Logs, logs_of, over_blocks
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.metrics import DISTRIBUTIONS, ITL, OUT_RATE, REQ_RATE, Metric
from profile_and_optimize.core.workload import Point
from profile_and_optimize.report.arms import ArmView
from profile_and_optimize.report.explain.effects import nothing
from profile_and_optimize.report.explain.number import (
    Case,
    Cell,
    Key,
    Number,
    Place,
    Story,
    Table,
    Value,
    left_out,
    rests,
    shown,
)
from profile_and_optimize.report.explain.records import first_records
from profile_and_optimize.report.words import UNKNOWN, number
from profile_and_optimize.report.workloads import COLUMNS, SHORT, Figure, WorkloadRow, used_of

ATLAS = "atlas.jsonl"
QUANTILES = ("p50", "p90", "p99", "mean")
WORDS = {"p50": "median", "p90": "90th percentile", "p99": "99th percentile", "mean": "mean"}


@dataclass(frozen=True)
class Series:
    """One metric of an arm at a point, `q` of its distribution ("" for a rate), a value per block in printed units."""

    arm: ArmView
    point: Point
    metric: Metric
    q: str
    used: tuple[Judged, ...]

    @property
    def name(self) -> str:
        return f"cells.{self.arm.id}.{self.point.key}.{self.metric.printed}" + (f".{self.q}" if self.q else "")

    @property
    def words(self) -> str:
        return f"{WORDS[self.q]} {SHORT[self.metric.name]}" if self.q else f"{SHORT[self.metric.name].lower()}"

    @property
    def values(self) -> tuple[float | None, ...]:
        return tuple(value_of(t, self.metric, self.q) for t in self.used)


def value_of(t: Judged, m: Metric, q: str) -> float | None:
    """A trial's own number in printed units: `q` of the distribution, or the rate."""
    if not q:
        rate = t.summary.value(m.name)
        return None if rate is None else rate * m.scale
    dist = t.summary.dists[m.name]
    return getattr(dist, q) * m.scale if dist else None


def numbers(case: Case) -> Iterator[Number]:
    arms = {a.id: a for a in case.view.arms}
    for point, shown_point in zip(case.ev.plan.points, case.view.workloads, strict=True):
        for row in shown_point.rows:
            arm, used = arms[row.arm], used_of(case.d, row.arm, point.key)
            if not used:
                yield from _unmeasured(case, arm, point, row)
                continue
            for m, figure in zip(COLUMNS, row.figures, strict=True):
                for q in QUANTILES if m in DISTRIBUTIONS else ("",):
                    yield from _family(case, Series(arm, point, m, q, used), figure)
            yield from _counts(case, arm, point, row, used)


def _unmeasured(case: Case, arm: ArmView, point: Point, row: WorkloadRow) -> Iterator[Number]:
    for m in COLUMNS:
        series = Series(arm, point, m, "p50" if m in DISTRIBUTIONS else "", ())
        keys = ("metrics", m.printed, *((series.q,) if series.q else ()))
        stored = (Place(ATLAS, (*_row(arm, point), *keys), None),)
        yield Number(series.name, UNKNOWN, row.note, partial(nothing, case, arm), stored, fine=True)


def _family(case: Case, s: Series, figure: Figure) -> Iterator[Number]:
    """The estimate as the report prints it, and the ends of its interval. The p90 and the mean stand in the atlas alone."""
    decimals = len(figure.text.partition(".")[2])
    tell, printed = partial(partial, _story, case, s), s.q in ("p50", "")
    what = f"{s.words}, {s.metric.unit}"
    found = over_blocks(s.values) or {"estimate": None}
    for part in ("estimate", "lower", "upper"):
        if part != "estimate" and found.get(part) is None:
            continue
        meaning = what if part == "estimate" else f"its {part} end ({LEVEL:.0%})"
        fine = not (printed or (s.q == "p99" and part == "estimate"))
        ending = "" if part == "estimate" else f".{part}"
        marks = None if fine else (s.arm.id,)
        text = number(found[part], decimals)
        yield Number(
            s.name + ending, text, meaning, tell(part), _stored(s, part, found[part]), marks, fine=fine, stored=fine
        )


def _stored(s: Series, part: str, value: float | None) -> tuple[Place, ...]:
    return (Place(ATLAS, (*_row(s.arm, s.point), "metrics", s.metric.printed, *((s.q,) if s.q else ()), part), value),)


def _row(arm: ArmView, point: Point) -> tuple[Key, ...]:
    load: Key = (
        ("concurrency", point.concurrency) if point.request_rate is None else ("request_rate", point.request_rate)
    )
    return (("cell", arm.id), ("workload", point.workload.name), load)


def _story(case: Case, s: Series, part: str) -> Story:
    m, found = s.metric, logs_of(s.values)
    rows = tuple((t.key.block, v, *_basis(s, t)) for t, v in zip(s.used, s.values, strict=True))
    heads = ("block", f"x(b) [{m.unit}]", *(("values", "left out first") if s.q else ("window", "seconds")))
    return Story(
        formula=(f"{m.name} [{m.unit}, {m.better} is better] = {m.formula}", _inside(s), *_over(s, found, part)),
        values=_values(found), tables=(Table("x(b), the trial's own value in every block", heads, rows),),
        trials=rests(s.used, lambda t: f"{s.words} {shown(value_of(t, m, s.q))} {m.unit}"),
        unused=left_out(case, lambda t: (t.key.arm, t.key.point) == (s.arm.id, s.point.key)),
        records=first_records(s.used[0], (m,)), files=("plan.json",), arms=(s.arm.id,), points=(s.point.key,),
        see=tuple(f"trials.{s.arm.id}.{t.key.name}.{m.printed}" + (f".{s.q}" if s.q else "") for t in s.used),
    )  # fmt: skip


def _basis(s: Series, t: Judged) -> tuple[Cell, Cell]:
    """How many values the trial's quantile is of, and how many first requests are left out; of a rate, its window."""
    if s.q:
        dist = t.summary.dists[s.metric.name]
        return (dist.n if dist else 0), t.summary.dropped
    if s.metric is OUT_RATE:
        return t.summary.window, t.summary.window_s
    return "whole run", t.summary.wall_s


def _inside(s: Series) -> str:
    if s.metric is OUT_RATE:
        return "x(b) = tokens that arrived inside the window / its seconds, of the trial in block b"
    if s.metric is REQ_RATE:
        return "x(b) = completed requests / run time, of the trial in block b"
    over = "gaps of its" if s.metric is ITL else "trial's"
    return f"x(b) = {WORDS[s.q]} over the {over} good requests in block b, without the first ones that are left out"


def _over(s: Series, found: Logs | None, part: str) -> Iterator[str]:
    if found is None:
        yield f"unknown in at least one block: {s.metric.undefined}"
        return
    est = over_blocks(s.values) or {}
    mean, told = shown(found.mean), f"{shown(est[part])} {s.metric.unit}"
    if part == "estimate":
        yield f"estimate = exp(mean of log x(b)) = exp({mean}) = {told}"
    if found.quantile is None:
        yield "no interval: a single block does not tell how far blocks lie apart"
    elif part != "estimate":
        sign = "-" if part == "lower" else "+"
        sums = f"{mean} {sign} {shown(found.quantile)} x {shown(found.sd)} / sqrt({found.n})"
        yield f"{part} = exp(mean {sign} t x sd / sqrt(n)) = exp({sums}) = {told}"


def _values(found: Logs | None) -> tuple[Value, ...]:
    if found is None:
        return ()
    mean = Value("mean", found.mean, "of log x(b) over the blocks")
    if found.quantile is None:
        return (Value("n", found.n, "blocks"), mean)
    t = f"Student-t with {found.n - 1} degrees of freedom, {LEVEL:.0%} two-sided"
    return (
        Value("n", found.n, "blocks"), mean, Value("sd", found.sd, "sample standard deviation of log x(b)"),
        Value("t", found.quantile, t),
    )  # fmt: skip


_MEAN = "of the good requests of a trial, by the server's usage; over the trials from least to largest"
_COUNTS: dict[str, tuple[str, str, Callable[[Judged], str]]] = {
    "blocks": ("n", "n = whole blocks that hold the arm", lambda t: f"block {t.key.block}"),
    "isl": ("prompt tokens, mean", f"isl = mean prompt tokens {_MEAN}", lambda t: f"isl {shown(t.summary.isl_observed)}"),
    "osl": ("output tokens, mean", f"osl = mean output tokens {_MEAN}", lambda t: f"osl {shown(t.summary.osl_observed)}"),
    "failed": (
        "requests that failed", "failed = asked - completed, over all trials that count",
        lambda t: f"{t.summary.failed} of {t.summary.asked} failed",
    ),
}  # fmt: skip


def _counts(case: Case, arm: ArmView, point: Point, row: WorkloadRow, used: tuple[Judged, ...]) -> Iterator[Number]:
    """What stands beside the metrics: blocks, lengths, failed requests."""
    texts = {"blocks": str(row.n), "isl": row.isl, "osl": row.osl, "failed": row.failed}
    for ending, (meaning, formula, note) in _COUNTS.items():
        story = partial(_count_story, case, arm, point, used, f"{formula}: {texts[ending]}", note)
        name = f"cells.{arm.id}.{point.key}.{ending}"
        failed = sum(t.summary.failed for t in used)
        stored = (Place(ATLAS, (*_row(arm, point), "requests_failed"), failed),) if ending == "failed" else ()
        yield Number(name, texts[ending], meaning, story, stored, None if ending == "blocks" else (arm.id,))


def _count_story(
    case: Case, arm: ArmView, point: Point, used: tuple[Judged, ...], formula: str, note: Callable[[Judged], str]
) -> Story:
    return Story(
        (formula,), trials=rests(used, note), unused=left_out(case, lambda t: (t.key.arm, t.key.point) == (arm.id, point.key)),
        records=first_records(used[0], (), 1), arms=(arm.id,), points=(point.key,),
    )  # fmt: skip
