"""The folder of `vllm bench sweep serve` and `serve_workload`, and any folder laid out like it.

    OUT/<experiment>/SERVE--<server>-BENCH--<load>-WL--<variable>=<value>/{run=K,warmup,summary}.json, run=K.failure.json

A part that was not swept is left out of the name. `summary.json` repeats the combination's runs as a list; `summary.csv`
above repeats all of them. A run's file is the flat JSON of `vllm bench serve` with the swept keys added, so it is read by
`vllm_bench`; aiperf's artifact folder stands where a run's file would. A warm-up is no run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.importers import aiperf, sglang, vllm_bench
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.importers.reading import Looked, files_under, printable, read_values, short_error
from profile_and_optimize.importers.relatives import relative_of

SUMMARY, WARMUP, FAILURE = "summary.json", "warmup.json", "failure.json"
_RUN = re.compile(r"run=(\d+)\.jsonl?")
_NAME = re.compile(r"(?:SERVE--(?P<serve>.+?))?-?(?:BENCH--(?P<bench>.+?))?-?(?:WL--(?P<var>\w+)=(?P<value>[\d.]+))?")


@dataclass(frozen=True, slots=True)
class Combination:
    """What the name of a combination's folder says; "" and None for a part that was not swept."""

    serve: str = ""
    bench: str = ""
    variable: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One timed run. `path` is relative to the folder that was read, `number` counts the runs of its combination from 0."""

    combination: Combination
    path: str
    number: int
    result: Imported


@dataclass(frozen=True, slots=True)
class Lost:
    """A run that died or a file that cannot be read, with the reason."""

    combination: Combination
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sweep:
    runs: tuple[SweepRun, ...]
    lost: tuple[Lost, ...]


def combination_of(name: str) -> Combination:
    """Of a folder's name. A name of another pattern says nothing."""
    hit = _NAME.fullmatch(name)
    if hit is None:
        return Combination()
    value = float(hit["value"]) if hit["value"] else None
    return Combination(hit["serve"] or "", hit["bench"] or "", hit["var"] or "", value)


def read_sweep(folder: Path) -> Sweep:
    """Every run below a folder, in the order of its paths; nothing of it is followed out of the folder.

    Raises WrongUse when the folder cannot be listed. A file that is no result is among `lost`, never a crash.
    """
    runs: list[SweepRun] = []
    lost: list[Lost] = []
    for file in _worth_reading(files_under(folder)):
        place = combination_of(file.parent.name)
        rel = printable(file.relative_to(folder).as_posix())
        try:
            if file.name.endswith(FAILURE):
                lost.append(Lost(place, rel, _why(file)))
            else:
                runs += _runs(file, rel, place)
        except (WrongUse, ValueError) as e:
            lost.append(Lost(place, rel, printable(getattr(e, "message", "") or str(e))))
    return Sweep(tuple(runs), tuple(lost))


def _worth_reading(files: list[Path]) -> list[Path]:
    """Run files, aiperf's summaries, failures, and a combination's summary where its run files are gone."""
    with_runs = {f.parent for f in files if _RUN.fullmatch(f.name)}
    return [
        f for f in files
        if _RUN.fullmatch(f.name) or f.name == aiperf.SUMMARY or f.name.endswith(FAILURE)
        or (f.name == SUMMARY and f.parent not in with_runs)
    ]  # fmt: skip


def _runs(file: Path, rel: str, place: Combination) -> list[SweepRun]:
    values = read_values(file)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not values:
        raise WrongUse("holds no run", where=rel)
    first = int(hit[1]) if (hit := _RUN.fullmatch(file.name)) else 0
    names = [rel if len(values) == 1 else f"{rel}#{i + 1}" for i in range(len(values))]
    return [
        SweepRun(place, name, first + i, _result(v, name, file.parent))
        for i, (v, name) in enumerate(zip(values, names, strict=True))
    ]


def _result(value: Any, name: str, folder: Path) -> Imported:
    """By what the object is, not by where it lies: SGLang's lines may stand in the same layout."""
    if relative := relative_of(value):
        raise WrongUse(f"a result of {relative}: not read here", where=name)
    if aiperf.claims(value):
        return aiperf.of(value, name, folder)
    for module in (sglang, vllm_bench):
        if module.claims(value):
            found: Imported = module.of(value, name)
            return found
    raise WrongUse("no result that is known here", where=name)


def _why(file: Path) -> str:
    """The reason that a sweep wrote down for a run that died."""
    told = Looked(read_values(file)[0], file.name)
    kind, text = told.text("error_type") or "", short_error(told.text("error") or "")
    return f"{kind}: {text}".strip(": ")
