"""The paired t-test behind one effect, every symbol filled in. The values are those of `stats.paired`; here they only get words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from profile_and_optimize.analysis.decide import percent
from profile_and_optimize.campaign.endpoint import signed_log
from profile_and_optimize.campaign.looks import Step
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.explain.number import Cell, Rest, Table, Value, shown
from profile_and_optimize.report.words import count
from profile_and_optimize.report.words import percent as printed_percent
from profile_and_optimize.stats.paired import Contrast
from profile_and_optimize.stats.sequential import SIGN_FLIP_FROM, sign_flip_p

Blocks = Mapping[int, Mapping[str, Mapping[str, Judged]]]


@dataclass(frozen=True)
class Pair:
    """An arm and the baseline in the same blocks. `y` holds every arm of these blocks; `points` and `metrics` are what it
    averages."""

    arm: str
    base: str
    y: Mapping[int, Mapping[str, float]]
    points: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def what(self) -> str:
        signs = [f"{'' if METRICS[m].better == 'higher' else '-'}log({m})" for m in self.metrics]
        if len(self.points) * len(self.metrics) == 1:
            return f"{signs[0]} at {self.points[0]}"
        return f"mean of {' and '.join(signs)} over {count(len(self.points), 'workload')}"

    def used(self, blocks: Blocks) -> tuple[Judged, ...]:
        """The trials that d rests on, of the arm first."""
        return tuple(blocks[b][a][p] for a in (self.arm, self.base) for b in sorted(self.y) for p in self.points)


@dataclass(frozen=True)
class Tested:
    """The t-test of a pair at one look. `holm` and `share` make up the level; None where it has no such part. `margin` is a
    ratio. `steps` are the looks so far: an end of the interval may be that of another one."""

    pair: Pair
    contrast: Contrast
    effect: Effect
    alpha: float
    margin: float
    margin_name: str
    holm: float | None = None
    share: float | None = None
    steps: tuple[Step, ...] = ()

    @property
    def edge(self) -> float:
        return math.log1p(self.margin)

    @property
    def t(self) -> float:
        return self.contrast.quantile(self.effect.level)


def formula(test: Tested, part: str) -> tuple[str, ...]:
    """From the values of the blocks down to the `part` that is asked for."""
    c = test.contrast
    last = {
        "estimate": _estimate, "lower": _lower, "upper": _upper, "coverage": _coverage, "blocks": _n, "needed": _needed,
    }[part](test)  # fmt: skip
    pair = test.pair
    return (
        f"d(b) = y({pair.arm}, b) - y({pair.base}, b) in block b; y = {pair.what}",
        f"m = mean of d over n blocks = {shown(c.mean)}, n = {c.blocks}",
        f"SE = the larger of own and pooled = max({shown(c.own_se)}, {shown(c.pooled_se)}) = {shown(c.se)}",
        "own = sample standard deviation of d / sqrt(n)",
        f"pooled = sqrt(2 x residual mean square of y over n blocks and {c.arms_in_block} arms / n)",
        _level(test),
        f"t = {shown(test.t)}, which a Student-t with {shown(c.df)} degrees of freedom exceeds with probability level",
        *last,
    )


def _level(test: Tested) -> str:
    level = shown(test.effect.level)
    if test.share is None:
        return f"level = alpha = {level}"
    if test.holm is None:
        return f"level = alpha x share of the look = {shown(test.alpha)} x {shown(test.share)} = {level}"
    return f"level = Holm level x share of the look = {shown(test.holm)} x {shown(test.share)} = {level}"


def _estimate(test: Tested) -> Iterator[str]:
    m = test.contrast.mean
    yield f"effect = exp(m) - 1 = exp({shown(m)}) - 1 = {shown(math.expm1(m))} = {percent(m)}"


def _lower(test: Tested) -> Iterator[str]:
    yield _end(test, "lower", "-", test.effect.lower)


def _upper(test: Tested) -> Iterator[str]:
    yield _end(test, "upper", "+", test.effect.upper)


def _end(test: Tested, name: str, sign: str, shown_end: float | None) -> str:
    c = test.contrast
    if shown_end is None:
        return f"{name}: none at this look"
    own = c.mean - test.t * c.se if sign == "-" else c.mean + test.t * c.se
    told = f"{shown(math.expm1(shown_end))} = {percent(shown_end)}"
    if math.isclose(own, shown_end, rel_tol=1e-12):
        return f"{name} = exp(m {sign} t x SE) - 1 = exp({shown(c.mean)} {sign} {shown(test.t)} x {shown(c.se)}) - 1 = {told}"
    blocks = next((s.blocks for s in test.steps if shown_end in _ends(s, test.pair.arm)), None)
    where = "the last planned look" if blocks is None else f"the look after block {blocks}"
    return f"{name} = exp(m {sign} t x SE) - 1 of {where}, where it is narrower (all looks hold together) = {told}"


def _ends(step: Step, arm: str) -> tuple[float | None, float | None]:
    return step.alone[arm].lower, step.alone[arm].upper


def _coverage(test: Tested) -> Iterator[str]:
    error = test.effect.error
    yield f"coverage = 1 - 2 x error on a side over all looks together = 1 - 2 x {shown(error)} = {shown(1 - 2 * error)}"


def _n(test: Tested) -> Iterator[str]:
    yield f"n = {test.contrast.blocks} whole blocks hold both {test.pair.arm} and {test.pair.base} at the look that counts"


def _needed(test: Tested) -> Iterator[str]:
    yield "the least n, in a plan that looks once, with t(n) x SE x sqrt(n now / n) below | |m| - log(1 + margin) |"
    n, c = test.effect.blocks_needed, test.contrast
    if n is not None:
        t = replace(c, blocks=n).quantile(test.effect.level)
        left, right = t * c.se * math.sqrt(c.blocks / n), abs(abs(c.mean) - test.edge)
        yield f"at n = {n}: {shown(t)} x {shown(c.se)} x sqrt({c.blocks} / {n}) = {shown(left)}, below {shown(right)}"


def values(test: Tested) -> tuple[Value, ...]:
    c = test.contrast
    tabled = (
        "n - 1"
        if c.df == c.blocks - 1
        else f"tabled for {c.blocks} blocks of {c.arms_in_block} arms (stats/pooling.json)"
    )
    flips = c.differences if c.mean > 0 else tuple(-d for d in c.differences)
    return (
        Value("n", c.blocks, "whole blocks at this look"),
        Value("m", c.mean, "mean of d"),
        Value("own", c.own_se, "standard error from d alone"),
        Value("pooled", c.pooled_se, "standard error from all arms of the blocks"),
        Value("SE", c.se, "the larger of the two"),
        Value("df", c.df, f"degrees of freedom: {tabled}"),
        Value("alpha", test.alpha, "one-sided error of the campaign (plan.json)"),
        *([Value("Holm", test.holm, f"level of this arm: alpha / {test.alpha / test.holm:g}")] if test.holm else []),
        *([Value("share", test.share, "of that level, for this look (stats/sequential.py)")] if test.share is not None else []),
        Value("level", test.effect.level, "one-sided, on each side of the interval"),
        Value("t", test.t, "quantile of Student-t"),
        Value("margin", test.margin, f"{test.margin_name} (plan.json); log(1 + margin) = {shown(test.edge)}"),
        Value("p", c.p_above(test.edge), "one-sided, that the true ratio is at most 1 + margin"),
        *([Value("sign-flip p", sign_flip_p(flips, test.edge), "must be at most alpha for BETTER or WORSE")]
          if c.blocks >= SIGN_FLIP_FROM else []),
    )  # fmt: skip


def block_table(pair: Pair) -> Table:
    """y of every arm of the blocks, and d."""
    arms = sorted({a for row in pair.y.values() for a in row}, key=lambda a: (a != pair.base, a))
    d = {b: row[pair.arm] - row[pair.base] for b, row in sorted(pair.y.items())}
    rows = tuple((b, *(pair.y[b].get(a) for a in arms), d[b], printed_percent(d[b])) for b in d)
    return Table("y of every arm of the block, and d", ("block", *(f"y({a})" for a in arms), "d", "exp(d) - 1"), rows)


def measured_table(pair: Pair, blocks: Blocks) -> Table:
    """The measured values that d is made of, in printed units."""
    rows = tuple(
        _measured(b, point, m, blocks[b][pair.arm][point], blocks[b][pair.base][point])
        for b in sorted(pair.y) for point in pair.points for m in pair.metrics
    )  # fmt: skip
    heads = ("block", "workload", "metric", pair.arm, pair.base, "log ratio, + is better")
    return Table("d(b) is the mean of the log ratios of block b", heads, rows)


def _measured(block: int, point: str, metric: str, arm: Judged, base: Judged) -> tuple[Cell, ...]:
    m, both = METRICS[metric], [t.summary.value(metric) for t in (arm, base)]
    logs = [signed_log(metric, v) for v in both]
    ratio = logs[0] - logs[1] if logs[0] is not None and logs[1] is not None else None
    return (block, point, m.printed, *(None if v is None else v * m.scale for v in both), ratio)


def looks_table(test: Tested) -> tuple[Table, ...]:
    """What every look said of the arm; nothing where there was one."""
    arm = test.pair.arm
    told = [(s, s.contrasts[arm], s.alone[arm]) for s in test.steps if arm in s.contrasts]
    rows = tuple(
        (s.blocks, c.mean, c.se, s.shares[arm], e.level, _end_words(e.lower), _end_words(e.upper), e.call.value)
        for s, c, e in told
    )
    heads = ("after block", "m", "SE", "share", "level", "lower", "upper", "says")
    return (Table("The looks; the first that answers is the one that counts", heads, rows),) if rows else ()


def held_back(test: Tested) -> Iterator[str]:
    """Looks that would have called the arm BETTER and were not allowed to."""
    for s in test.steps:
        e = s.alone.get(test.pair.arm)
        if e is not None and e.call is Call.UNKNOWN and e.lower is not None and e.lower > test.edge:
            yield f"at the look after block {s.blocks} the interval lay beyond the margin, but: {e.reason}"


def _end_words(log_ratio: float | None) -> str:
    return "no look" if log_ratio is None else percent(log_ratio)


def used_rows(pair: Pair, blocks: Blocks) -> tuple[Rest, ...]:
    return tuple(Rest(trial_path(t.key), value_words(t, pair.metrics)) for t in pair.used(blocks))


def value_words(t: Judged, metrics: Sequence[str]) -> str:
    told = [(METRICS[m], t.summary.value(m)) for m in metrics]
    return ", ".join(f"{m.name} {shown(None if v is None else v * m.scale)} {m.unit}" for m, v in told)
