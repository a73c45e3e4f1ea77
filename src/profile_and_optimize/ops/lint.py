"""pao lint: results that already exist, read as evidence. What is wrong with them, what is weak, what cannot be told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.analysis.lint import lint
from profile_and_optimize.analysis.lint.compare import identity, load_of
from profile_and_optimize.analysis.lint.finding import Finding, Given, Lint, Severity, Unchecked
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.core.metrics import DISTRIBUTIONS
from profile_and_optimize.core.opens import TREE
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.importers import SAYS, read
from profile_and_optimize.importers.base import Imported, LoadKind, Stat
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say

MOST_SHOWN = 4


class LintRequest(Request):
    results: Annotated[tuple[str, ...], TREE] = Field(min_length=1, description="files or folders of results")


def run(req: LintRequest, say: Say) -> Result:
    runs_of_ours = [name for name in req.results if (Path(name) / JOURNAL).exists()]
    named = [name for name in req.results if name not in runs_of_ours]
    if not named:
        raise WrongUse(
            "a run folder carries its own proof", where=runs_of_ours[0], next=f"pao verify {runs_of_ours[0]}"
        )
    givens = sides(named)
    found = lint(givens)
    data = {
        "results": [shown(r) for g in givens for r in g.runs],
        "findings": [_finding(f) for f in found.findings],
        "unchecked": [{"code": u.code, "result": u.result, "lacks": u.lacks} for u in found.unchecked],
        "counts": {s.value: found.count(s) for s in Severity},
    }
    warnings = tuple(f"{name} is a run folder: pao verify {name}" for name in runs_of_ours)
    return Result(data, text_of(givens, found), warnings, _refusal(found))


def sides(names: Sequence[str]) -> tuple[Given, ...]:
    """The sides of a comparison: files of one folder whose names differ only in their numbers are one, and so is a folder.

    Names alone make no repeats: runs at one load that say different things of themselves (model, engine, dataset, ...)
    are sides of their own.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        path = Path(name)
        key = name if path.is_dir() else str(path.with_name(re.sub(r"\d+", "*", path.name)))
        groups.setdefault(key, []).append(name)
    return tuple(
        side for key, paths in groups.items()
        for side in _parted(paths[0] if len(paths) == 1 else key, [r for p in paths for r in read(p)])
    )  # fmt: skip


def _parted(name: str, runs: Sequence[Imported]) -> list[Given]:
    """One side for each thing that the runs say they are, where that differs at a load that they share."""
    alike: dict[tuple[tuple[str, str], ...], list[Imported]] = {}
    for run in runs:
        alike.setdefault(tuple(sorted(identity(run).items())), []).append(run)
    loads = [{load_of(r) for r in group} for group in alike.values()]
    if len(alike) < 2 or not any(a & b for a, b in combinations(loads, 2)):
        return [Given(name, tuple(runs))]
    return [Given(_side_name(name, group, alike), tuple(group)) for group in alike.values()]


def _side_name(name: str, group: Sequence[Imported], alike: Mapping[tuple[tuple[str, str], ...], object]) -> str:
    """The path of a run that is alone; else the argument with what sets this side apart."""
    if len(group) == 1:
        return group[0].path
    own = identity(group[0])
    apart = [f"{k} {v}" for k, v in own.items() if any(dict(other).get(k) != v for other in alike)]
    return f"{name} ({', '.join(apart[:2]) or group[0].path})"


def shown(r: Imported) -> dict[str, Any]:
    """A run in our terms: milliseconds by our names, and which field of the tool each came from."""
    metrics = {m.printed: _stat(r.stat(m.name)) for m in DISTRIBUTIONS}
    return {
        "path": r.path, "tool": r.tool, "version": r.version, "started": r.started, "load": r.load.value,
        "concurrency": r.concurrency, "request_rate": r.request_rate,
        "requests": {"asked": r.asked, "completed": r.completed, "failed": r.failed, "incomplete": r.incomplete},
        "metrics": metrics, "from": dict(r.named), "request_throughput_req_s": r.request_throughput,
        "output_throughput_tok_s": r.output_throughput, "duration_s": r.duration_s,
        "aside": {name: _stat(stat) for name, stat in r.aside.items()}, "not_listed": r.unlisted, "unread": list(r.unread),
    }  # fmt: skip


def _stat(s: Stat) -> dict[str, float | int | None] | None:
    if s.empty:
        return None
    figures = {k: getattr(s, k) for k in ("p50", "p90", "p99", "mean")}
    return {**{k: None if v is None else v * 1e3 for k, v in figures.items()}, "n": s.n}


def _finding(f: Finding) -> dict[str, str]:
    return {
        "code": f.code,
        "severity": f.severity.value,
        "result": f.result,
        "seen": f.seen,
        "why": f.why,
        "fix": f.fix,
    }


def text_of(givens: Sequence[Given], found: Lint) -> str:
    """What was read, every finding once with all the runs it holds for, and what could not be checked."""
    lines = [_heading(r) for g in givens for r in g.runs]
    for same in _alike(found.findings):
        lines += ["", *_block(same)]
    lacking: dict[tuple[str, str], list[Unchecked]] = {}
    for u in found.unchecked:
        lacking.setdefault((u.code, u.lacks), []).append(u)
    runs = sum(len(g.runs) for g in givens)
    lines += [""] if lacking else []
    lines += [f"not checked  {code}: {_of(us, runs)} without {lacks}" for (code, lacks), us in lacking.items()]
    return "\n".join([*lines, "", _verdict(found)])


def _heading(r: Imported) -> str:
    load = f"{r.request_rate:g} req/s" if r.request_rate is not None else r.load.value
    slots = "concurrency" if r.load is LoadKind.CLOSED else "at most"
    load += f", {slots} {r.concurrency}" if r.concurrency else ""
    tool = r.tool if r.version is None else f"{r.tool} {r.version}"
    return f"read  {r.path}  ({tool}, {load}, {_or_unknown(r.completed)} of {_or_unknown(r.asked)} requests)"


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that differ in their run and numbers alone, together."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.code, f.severity, f.why), []).append(f)
    return list(groups.values())


def _block(same: Sequence[Finding]) -> list[str]:
    """One finding: where it holds, with the same numbers said once."""
    first = same[0]
    lines = [f"{first.severity.value.upper():8}{first.code}"]
    where: dict[str, list[str]] = {}
    for f in same:
        where.setdefault(f.seen, []).append(f.result)
    for seen, results in list(where.items())[:MOST_SHOWN]:
        more = f" and {len(results) - MOST_SHOWN} more" if len(results) > MOST_SHOWN else ""
        lines += [f"  in    {', '.join(results[:MOST_SHOWN])}{more}", f"  seen  {seen}"]
    if len(where) > MOST_SHOWN:
        lines.append(f"  and {len(where) - MOST_SHOWN} more results, with numbers of their own (--json has all)")
    return [*lines, f"  why   {first.why}", f"  fix   {first.fix}"]


def _verdict(found: Lint) -> str:
    counts = ", ".join(f"{found.count(s)} {s.value}" for s in Severity)
    if not found.findings:
        return "nothing found"
    return counts if found.count(Severity.WRONG) else f"{counts}: nothing here is known to be wrong"


def _of(us: Sequence[Unchecked], runs: int) -> str:
    return "a file" if runs == 1 else f"{len(us)} of {runs} results"


def _refusal(found: Lint) -> GateRefused | None:
    wrong = sorted({f.code for f in found.findings if f.severity is Severity.WRONG})
    if not wrong:
        return None
    return GateRefused(f"{found.count(Severity.WRONG)} wrong: {', '.join(wrong)}", next="see the fix of each finding")


OP = Op(
    "lint", f"Read results that exist and say what is wrong with them as evidence. Known: {SAYS}.", Safety.READ_ONLY, LintRequest,
    run, positional=("results",), mcp_name="perf_tune_report_lint", acts=reads,
    examples=("pao lint results/run1.json results/run2.json", "pao lint baseline/ candidate/ --json"),
)  # fmt: skip
