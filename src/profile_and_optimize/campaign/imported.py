"""Results of other tools in a run: what was asked of the tool, what it left, and how far it got. DRAFT material.

    cells/<cell>/raw/<backend>/r1/asked.json     before the tool was started
    cells/<cell>/raw/<backend>/r1/BENCH--<point>/...   its own files
    cells/<cell>/raw/<backend>/r1/seen.json      after it ended; missing where it was killed

Nothing here is a trial: it has no records of ours and no block, it is never pooled and never compared. Everything is read
back from the raw files each time, so there is no second copy that could say something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.context import context_from_json
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.metrics import TPOT
from profile_and_optimize.core.names import checked_id
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.importers.base import Imported, LoadKind
from profile_and_optimize.importers.vllm_sweep import Lost, SweepRun, read_sweep

ASKED, SEEN = "asked.json", "seen.json"
IMPORTED = "imported"
# aiperf, or an engine with a benchmark of its own: vllm-sweep, sglang-sweep.
_BACKEND = r"aiperf|[a-z0-9]+-sweep"
_ASKED_AT = re.compile(rf"cells/([^/]+)/raw/({_BACKEND})/r(\d+)/asked\.json")


def _texts(*values: object) -> None:
    if not all(isinstance(v, str) for v in values):
        raise ValueError("a name or a reason is not text")


@dataclass(frozen=True, slots=True)
class Asked:
    """One load that a tool was to make: `requests` in all, `concurrency` at once, None where the tool chose it or nobody
    says. `words` is the workload as a trial's context would have it."""

    key: str
    workload: str
    words: str
    isl: int | None
    osl: int | None
    concurrency: int | None
    requests: int | None

    def __post_init__(self) -> None:
        counts = (self.isl, self.osl, self.concurrency, self.requests)
        if any(type(n) is not int or n < 1 for n in counts if n is not None):
            raise ValueError(
                f"input length, output length, concurrency and requests must be whole numbers above 0, got {counts}"
            )
        _texts(self.key, self.workload, self.words)

    @staticmethod
    def of(point: Point, prompts: str) -> Asked:
        """`prompts` says whose they are."""
        w = point.workload
        return Asked(point.key, w.name, f"{w.asked} ({prompts})", w.isl, w.osl, point.concurrency, point.requests)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one attempt was asked for. `url` is "" where the tool or we started the server; `levels` above 0: the tool
    itself chose so many concurrencies for every workload. `by_usage`: the tool was given a stand-in for a tokenizer, so
    tokens that the server did not count are not known. `context` are the asked fields."""

    cell: str
    backend: str
    attempt: int
    engine: str
    role: str
    tool: str
    tool_version: str
    url: str
    model: str
    points: tuple[Asked, ...]
    levels: int = 0
    by_usage: bool = False
    context: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_id(self.cell, "cell id")
        checked_id(self.engine, "engine")
        Role(self.role)
        context_from_json(self.context)
        _texts(self.tool, self.tool_version, self.url, self.model)
        if not re.fullmatch(_BACKEND, self.backend) or self.attempt < 1 or self.levels < 0:
            raise ValueError(
                f"backend {self.backend!r}, attempt {self.attempt!r} or levels {self.levels!r} is not valid"
            )
        if len({p.key for p in self.points}) < len(self.points):
            raise ValueError("a point stands twice among those that were asked for")

    @property
    def folder(self) -> str:
        return attempt_folder(self.cell, self.backend, self.attempt)

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self), "context": {k: dict(v) for k, v in self.context.items()}}


@dataclass(frozen=True, slots=True)
class Seen:
    """How an attempt ended. `reason` is "" where all went well; `explored`: the tool that chose its levels came to its end."""

    started_at: float | None
    ended_at: float | None
    reason: str
    explored: bool = False
    context: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        context_from_json(self.context)
        _texts(self.reason)

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self), "context": {k: dict(v) for k, v in self.context.items()}}


CUT_SHORT = Seen(None, None, "cut short: it never came to write down how it ended")


@dataclass(frozen=True, slots=True)
class Attempt:
    ask: Ask
    seen: Seen
    runs: tuple[SweepRun, ...]
    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class ImportedCell:
    """Everything that one backend left of one cell, over its attempts."""

    cell: str
    backend: str
    attempts: tuple[Attempt, ...]

    @property
    def last(self) -> Ask:
        return self.attempts[-1].ask


def attempt_folder(cell: str, backend: str, attempt: int) -> str:
    return f"cells/{cell}/raw/{backend}/r{attempt}"


def imported_path(cell: str, backend: str) -> str:
    """Where the normalized rows lie; they follow from the raw files."""
    return f"cells/{cell}/{IMPORTED}/{backend}.json"


def load_imported(run: Path, paths: Iterable[str]) -> tuple[tuple[ImportedCell, ...], tuple[str, ...]]:
    """(cells, damage) of a run whose journal has these paths. A hostile or damaged file is a line of damage, never a crash."""
    found: dict[tuple[str, str], list[Attempt]] = {}
    damaged = []
    known = set(paths)
    for path in sorted(known, key=_in_order):
        hit = _ASKED_AT.fullmatch(path)
        if hit is None:
            continue
        try:
            attempt = _attempt(run, path, known, (hit[1], hit[2], int(hit[3])))
            found.setdefault((hit[1], hit[2]), []).append(attempt)
        except (Corrupted, WrongUse, TypeError, ValueError, KeyError, AttributeError) as e:
            damaged.append(f"{path}: {getattr(e, 'message', '') or e}")
    cells = tuple(ImportedCell(cell, backend, tuple(a)) for (cell, backend), a in sorted(found.items()))
    return cells, tuple(damaged)


def _in_order(path: str) -> tuple[str, int]:
    hit = _ASKED_AT.fullmatch(path)
    return (path, 0) if hit is None else (f"cells/{hit[1]}/raw/{hit[2]}", int(hit[3]))


def _attempt(run: Path, path: str, known: set[str], place: tuple[str, str, int]) -> Attempt:
    ask = ask_from_json(read_json(run / path))
    if (ask.cell, ask.backend, ask.attempt) != place:
        raise ValueError(f"is of {ask.folder}")
    at_end = f"{ask.folder}/{SEEN}"
    seen = seen_from_json(read_json(run / at_end)) if at_end in known else CUT_SHORT
    sweep = read_sweep(run / ask.folder)
    # A file that no journal entry covers is not evidence; the manifest names it as a stranger.
    runs = tuple(_as_asked(r, ask) for r in sweep.runs if f"{ask.folder}/{r.path.split('#')[0]}" in known)
    return Attempt(ask, seen, runs, sweep.lost)


def _as_asked(run: SweepRun, ask: Ask) -> SweepRun:
    """With the number of requests and slots that were asked for, where the tool's file does not name them; without what
    rests on a stand-in's count of tokens."""
    point = next((p for p in ask.points if p.key == run.combination.bench), None)
    r = run.result
    if ask.by_usage and r.facts.get("token_counts") != "server":
        r = without_tokens(r)
    if point is not None:
        asked = point.requests if r.asked is None else r.asked
        closed = r.load in (LoadKind.CLOSED, LoadKind.UNKNOWN)
        slots = point.concurrency if r.concurrency is None and closed else r.concurrency
        r = replace(r, asked=asked, concurrency=slots)
    return replace(run, result=r)


def without_tokens(r: Imported) -> Imported:
    """A result whose tokens nobody counted: TPOT, output rate and lengths are unknown."""
    metrics = {name: stat for name, stat in r.metrics.items() if name != TPOT.name}
    return replace(r, metrics=metrics, output_throughput=None, input_tokens=None, output_tokens=None)


def ask_from_json(data: Mapping[str, Any]) -> Ask:
    """The inverse of `Ask.to_json`. Raises ValueError or TypeError for anything else."""
    body = _body(data)
    points = tuple(Asked(**p) for p in body.pop("points"))
    return Ask(points=points, **body)


def seen_from_json(data: Mapping[str, Any]) -> Seen:
    return Seen(**_body(data))


def _body(data: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(data)
    if body.pop("schema", None) != 1:
        raise ValueError("another schema than 1")
    return body


def attempts_of(cells: Sequence[ImportedCell], cell: str, backend: str) -> tuple[Attempt, ...]:
    return next((c.attempts for c in cells if (c.cell, c.backend) == (cell, backend)), ())
