"""Atlas rows as points that can be shown: what they are, what was measured, and why a number is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.analysis.imported import SOURCE as IMPORTED
from profile_and_optimize.core.metrics import METRICS, OUT_RATE, REQ_RATE, TPOT, TTFT
from profile_and_optimize.report.pages.model import rounded
from profile_and_optimize.report.pages.variants import PER_GPU, PER_NODE, Variant, variant_of
from profile_and_optimize.report.words import plain

FULL, PARTIAL, FAILED, RACED, EVICTED = "full", "partial", "failed", "raced", "evicted"
# Not plotted whatever they hold: a failed cell's numbers are no result, a raced one was only explored.
SILENT = frozenset({FAILED, RACED, EVICTED})
UNIT = {PER_GPU: "per GPU", PER_NODE: "per node (CPU)"}
WHOLE_UNIT = "whole deployment, GPUs unknown"


@dataclass(frozen=True, slots=True)
class Value:
    """An estimate with its interval and n; `span` is None from a single block or run."""

    at: float
    span: tuple[float, float] | None
    n: int

    def over(self, divisor: float) -> Value:
        span = None if self.span is None else (rounded(self.span[0] / divisor), rounded(self.span[1] / divisor))
        return Value(rounded(self.at / divisor), span, self.n)

    def inverse(self, scale: float) -> Value:
        """`scale` over it; the ends of the interval change places."""
        span = None if self.span is None else (rounded(scale / self.span[1]), rounded(scale / self.span[0]))
        return Value(rounded(scale / self.at), span, self.n)


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """Closed loops by concurrency first, then open ones by rate."""

    open_loop: bool
    size: float

    @property
    def words(self) -> str:
        return f"{self.size:g} req/s" if self.open_loop else f"C={self.size:g}"

    @property
    def short(self) -> str:
        return f"{self.size:g}/s" if self.open_loop else f"{self.size:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One row. `load` is None where the file does not say it. `output` is divided as its variant's basis says; `user` is
    tokens per second of one user, 1000 / median TPOT in ms. `source` is who measured: "" is our own client in blocks."""

    cell: str
    role: str
    workload: str
    lengths: str
    load: Load | None
    status: str
    reason: str
    source: str
    variant: Variant
    ttft: Value | None
    requests: Value | None
    user: Value | None
    output: Value | None

    @property
    def group(self) -> tuple[str, str]:
        """Points of one group may stand on one page: the same divisor, the same way of measuring."""
        return self.variant.basis, self.source

    @property
    def left(self) -> bool:
        return self.status not in SILENT and self.requests is not None and self.ttft is not None

    @property
    def right(self) -> bool:
        return self.status not in SILENT and self.user is not None and self.output is not None

    @property
    def plotted(self) -> bool:
        return self.left or self.right


def measured(rows: Sequence[Mapping[str, Any]]) -> tuple[Measured, ...]:
    return tuple(_measured(r) for r in rows)


def _measured(row: Mapping[str, Any]) -> Measured:
    variant, metrics = variant_of(row), row["metrics"]
    tpot, output = _value(metrics[TPOT.printed]["p50"]), _value(metrics[OUT_RATE.printed])
    divided = output.over(variant.gpus) if output and variant.basis == PER_GPU and variant.gpus else output
    return Measured(
        cell=plain(row["cell"]), role=plain(row["role"]), workload=plain(row["workload"]), lengths=_lengths(row), load=_load(row),
        status=row["status"], reason=plain(row["reason"]), source=_source(row), variant=variant,
        ttft=_value(metrics[TTFT.printed]["mean"]), requests=_value(metrics[REQ_RATE.printed]),
        user=tpot.inverse(TPOT.scale) if tpot else None, output=divided,
    )  # fmt: skip


def _value(found: Mapping[str, Any] | None) -> Value | None:
    if found is None or not found["estimate"]:
        return None
    low, high = found["lower"], found["upper"]
    span = None if low is None or high is None else (rounded(low), rounded(high))
    return Value(rounded(found["estimate"]), span, found["n"])


def _load(row: Mapping[str, Any]) -> Load | None:
    size = row["concurrency"] if row.get("request_rate") is None else row["request_rate"]
    return None if size is None else Load(row.get("request_rate") is not None, float(size))


def _lengths(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{k.upper()} {row[k]}" for k in ("isl", "osl") if row.get(k) is not None)


def _source(row: Mapping[str, Any]) -> str:
    """Another tool's numbers are never drawn among ours: other clients measure otherwise."""
    if row.get("source") != IMPORTED:
        return ""
    return plain(f"imported from {row.get('tool') or row.get('backend') or 'another tool'}")


def unit_of(basis: str) -> str:
    return UNIT.get(basis, WHOLE_UNIT)


def cell_states(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """full, partial, failed, raced or evicted per cell over all its points; what differs between them is partial."""
    seen: dict[str, set[str]] = {}
    for r in rows:
        seen.setdefault(r["cell"], set()).add(r["status"])
    return {cell: _state(found) for cell, found in seen.items()}


def _state(found: set[str]) -> str:
    return next(iter(found)) if len(found) == 1 else PARTIAL


def plot_ready(rows: Sequence[Mapping[str, Any]], primary: Sequence[str]) -> int:
    """Rows in which every primary metric has an estimate."""
    names = [METRICS[m].printed for m in primary]
    return sum(r["status"] not in SILENT and all(_known(r["metrics"][n]) for n in names) for r in rows)


def _known(metric: Mapping[str, Any] | None) -> bool:
    return metric is not None and metric.get("p50", metric) is not None


def coverage_words(rows: Sequence[Mapping[str, Any]], primary: Sequence[str]) -> str:
    """The coverage block. Evicted cells are no cells of the atlas, they are counted where completeness is told; rows of
    other tools are counted by themselves."""
    ours = [r for r in rows if r.get("source") != IMPORTED]
    foreign = len(rows) - len(ours)
    states = [s for s in cell_states(ours).values() if s != EVICTED]
    full, partial, failed, raced = (states.count(s) for s in (FULL, PARTIAL, FAILED, RACED))
    left = f"{raced} left in the race | " if raced else ""
    more = f" | {foreign} rows of other tools (DRAFT material)" if foreign else ""
    return (
        f"Coverage: {len(states)} atlas cells | {full} full sweeps | {partial} partial sweeps | {failed} failed cells | {left}"
        f"{plot_ready(ours, primary)} plot-ready concurrency points{more}"
    )
