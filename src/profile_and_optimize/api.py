"""The package for notebooks and scripts: `import profile_and_optimize as pao`.

The functions are made from the requests of the ops, so their arguments, defaults and help are those of the command line. They
raise PaoError and never end the process. What a `Run` shows is derived from the records, as `pao verify` does it.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.analysis.tables import (
    MeasuredTrial,
    RequestRow,
    VariantEffect,
    columns,
    effect_rows,
    request_rows,
    trial_rows,
)
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Tier
from profile_and_optimize.evidence.folder import find_run, workspace
from profile_and_optimize.ops.base import Op, Request, Result, advised
from profile_and_optimize.ops.campaigns import intact
from profile_and_optimize.report.text import report as report_text
from profile_and_optimize.report.text import table as effects_table
from profile_and_optimize.report.view import View, view

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("profile_and_optimize")


@dataclass(frozen=True, slots=True)
class Quantiles:
    """One latency over the requests of a run, in milliseconds; `n` requests (gaps, for ITL) have a value."""

    p50: float
    p90: float
    p99: float
    mean: float
    n: int


@dataclass(frozen=True, slots=True, repr=False)
class BenchResult:
    """What `bench` measured. None is unknown. `client` says whether the load generator was in time: valid or degraded; an invalid
    run raises. `data` is all of it, as `pao bench --json` prints it."""

    url: str
    model: str
    requests_completed: int
    requests_failed: int
    output_throughput_tok_s: float | None
    request_throughput_req_s: float | None
    ttft_ms: Quantiles | None
    tpot_ms: Quantiles | None
    itl_ms: Quantiles | None
    e2e_latency_ms: Quantiles | None
    client: str
    warnings: tuple[str, ...]
    data: Mapping[str, Any] = field(compare=False)
    text: str = field(compare=False)

    def __repr__(self) -> str:
        return "\n".join([f"{self.model} at {self.url}", self.text, *(f"warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


@dataclass(frozen=True, slots=True, repr=False)
class DryRun:
    """What a call would do, from `dry_run=True`: nothing was started."""

    data: Mapping[str, Any]
    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The decision of a run. `answer` is the report's first sentence; `effect` that of the picked variant on the primary endpoint,
    None where the baseline is kept; `gates` are all checks, each passed (True), failed (False) or not evaluated (None)."""

    pick: str
    baseline: str
    tier: Tier
    answer: str
    why: str
    effect: VariantEffect | None
    gates: tuple[Gate, ...]

    @property
    def not_passed(self) -> tuple[Gate, ...]:
        return tuple(g for g in self.gates if g.passed is not True)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Run:
    """A finished run, read only. Everything is derived from the records when it is asked for; the files were compared with the
    digests in the run's manifest when it was loaded (`pao verify` compares more)."""

    _ev: Evidence
    _d: Decision
    _view: View

    @property
    def path(self) -> Path:
        return self._ev.run

    @property
    def plan(self) -> Plan:
        """What was fixed before block 1; after a race, with the finalists it chose."""
        return self._ev.plan

    @property
    def verdict(self) -> RunVerdict:
        d = self._d
        picked = next(e for e in self.effects() if e.pick)
        effect = None if d.pick == self.plan.baseline.id else picked
        return RunVerdict(d.pick, self.plan.baseline.id, d.tier, answer_of(self._view), d.why, effect, d.gates)

    def effects(self) -> tuple[VariantEffect, ...]:
        """Every variant against the baseline, the baseline and its A/A control among them."""
        return tuple(effect_rows(self._ev, self._d))

    def trials(self) -> tuple[MeasuredTrial, ...]:
        """Every timed run, those that do not count too."""
        return tuple(trial_rows(self._ev, self._d))

    def requests_rows(self) -> tuple[RequestRow, ...]:
        """Every request of every trial."""
        return tuple(request_rows(self._ev, self._d))

    def requests(self) -> pd.DataFrame:
        """Every request as a pandas DataFrame, a column for each field of `RequestRow`. Raises WrongUse without pandas."""
        try:
            import pandas
        except ImportError as e:
            raise WrongUse(
                "a DataFrame needs pandas, which is not installed", where="Run.requests()",
                next="pip install 'profile-and-optimize[export]'; or Run.requests_rows(), the same as frozen records",
            ) from e  # fmt: skip
        names = columns("requests")
        return pandas.DataFrame.from_records(list(map(attrgetter(*names), self.requests_rows())), columns=list(names))

    @property
    def report(self) -> str:
        """The whole report as text."""
        return report_text(self._view)

    def __repr__(self) -> str:
        return "\n".join([f"{self._view.run_id}: {answer_of(self._view)}", *effects_table(self._view)])

    def _repr_html_(self) -> str:
        return _html(self._view)


def answer_of(v: View) -> str:
    """What to serve, how firmly, and why, in the report's words."""
    h = v.headline
    return f"{h.title} {h.name}".strip() + f" ({h.tier}). {h.sentence}"


def _html(v: View) -> str:
    heads = "".join(f"<th>{h}</th>" for h in ("variant", "call", "effect", "blocks", "why"))
    cells = [(a.id, a.state, a.effect_text, str(a.blocks), a.reason) for a in v.arms]
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in cells)
    return (
        f"<p><b>{escape(answer_of(v))}</b></p><p>{escape(v.endpoint)}; run {escape(v.run_id)}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def load(run: str | Path, campaigns_dir: str | Path | None = None) -> Run:
    """A finished run by its path, id or unique slug in the workspace. Raises Corrupted where a file is not the bytes that the run's
    manifest lists, WrongUse for a run that is not closed or not found."""
    space = workspace(str(campaigns_dir) if campaigns_dir is not None else None)
    ev, d = intact(find_run(str(run), space))
    return Run(ev, d, view(ev, d))


def _bench_result(result: Result) -> BenchResult:
    data, metrics = result.data, result.data["metrics"]
    spread = {name: Quantiles(**values) if values else None for name, values in metrics.items()}
    return BenchResult(
        url=data["url"], model=data["model"], requests_completed=data["requests"]["completed"],
        requests_failed=data["requests"]["failed"], output_throughput_tok_s=data["output_throughput_tok_s"],
        request_throughput_req_s=data["request_throughput_req_s"], **spread, client=data["honesty"]["validity"],
        warnings=result.warnings, data=data, text=result.text,
    )  # fmt: skip


def _run_of(result: Result) -> Run | DryRun:
    """The run that a campaign made. One of a dry run made none."""
    path = result.data.get("path")
    return load(path) if path else DryRun(result.data, result.text)


_RESULTS: dict[str, Callable[[Result], Any]] = {"bench": _bench_result, "ab": _run_of, "optimize": _run_of}


def __getattr__(name: str) -> Any:
    if name not in _RESULTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return function_of(name)


@cache
def function_of(verb: str) -> Callable[..., Any]:
    """The function of a verb: its arguments are the fields of the verb's request."""
    op: Op = import_module(f"profile_and_optimize.ops.{verb}").OP
    names = _options(op.request)

    def call(*args: Any, **fields: Any) -> Any:
        given = signature.bind_partial(*args).arguments | fields
        try:
            return _RESULTS[verb](_succeeded(op.run(_request(op, given, names), log.info)))
        except PaoError as e:
            advised(verb, e)
            raise

    signature = _signature(op, names)
    call.__name__ = call.__qualname__ = verb
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__doc__ = "\n".join([op.help, "", *_help(op.request, names)])
    return call


def _options(request: type[Request]) -> tuple[str, ...]:
    extra = {name: f.json_schema_extra for name, f in request.model_fields.items()}
    return tuple(name for name, e in extra.items() if not (isinstance(e, dict) and e.get("option") is False))


def _signature(op: Op, names: tuple[str, ...]) -> inspect.Signature:
    kinds = {name: inspect.Parameter.POSITIONAL_OR_KEYWORD for name in op.positional}
    ordered = [*op.positional, *(n for n in names if n not in op.positional)]
    fields = op.request.model_fields
    return inspect.Signature([
        inspect.Parameter(
            name, kinds.get(name, inspect.Parameter.KEYWORD_ONLY), annotation=fields[name].annotation,
            default=inspect.Parameter.empty if fields[name].is_required() else fields[name].default,
        )
        for name in ordered
    ])  # fmt: skip


def _help(request: type[Request], names: tuple[str, ...]) -> list[str]:
    return [f"{name}: {request.model_fields[name].description or 'see its default'}" for name in names]


def _request(op: Op, given: Mapping[str, Any], names: tuple[str, ...]) -> Request:
    """Raises WrongUse naming the argument and the rule."""
    unknown = sorted(set(given) - set(names))
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 1)
        told = f"no such argument: {', '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else "")
        raise WrongUse(told, where=f"pao.{op.verb}", next=f"help(pao.{op.verb}) lists them")
    try:
        return op.request(**{name: str(v) if isinstance(v, Path) else v for name, v in given.items()})
    except ValidationError as e:
        first = e.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else op.verb
        raise WrongUse(first["msg"], where=f"pao.{op.verb}, {name}", next=f"help(pao.{op.verb})") from e


def _succeeded(result: Result) -> Result:
    """Raises what the command line would show and leave with; the measured figures are in the traceback."""
    if result.refusal is not None:
        result.refusal.add_note(result.text)
        raise result.refusal
    return result


__all__ = ["BenchResult", "DryRun", "PaoError", "Quantiles", "Run", "RunVerdict", "load"]
