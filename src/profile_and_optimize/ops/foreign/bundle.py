"""A folder that a variant A/B left: arms.tsv, and for every arm its result files, one for each load.

A file belongs to the arm whose name is its folder, or begins its own name: `fast/c8.json`, `fast-c8.json`, `fast.c8.jsonl`,
`fast-c8/profile_export_aiperf.json`. Of two arms that fit, the longer name counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.importers import aiperf, sglang, vllm_bench
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.importers.reading import files_under, read_values
from profile_and_optimize.importers.relatives import relative_of
from profile_and_optimize.optimize.arms_tsv import MOST_BYTES, parse_arms

ARMS = "arms.tsv"
TOOLS = {"vllm": "vllm bench", "sglang": "sglang bench_serving", "aiperf": "aiperf"}


@dataclass(frozen=True, slots=True)
class Given:
    """One run of one arm. `files` are what is kept of it: name and bytes, the first is the one that holds the figures."""

    arm: str
    origin: str
    files: tuple[tuple[str, bytes], ...]
    result: Imported


def read_bundle(folder: Path) -> tuple[tuple[Arm, ...], tuple[Given, ...]]:
    """Raises WrongUse for a folder without arms.tsv, a result of no arm, and what no importer knows."""
    table = folder / ARMS
    if not table.is_file():
        raise WrongUse(f"holds no {ARMS}", where=str(folder), next="give the folder of a variant A/B")
    arms = tuple(a for a in parse_arms(read_given(table, MOST_BYTES), ARMS) if a.role is not Role.AA)
    found = [g for file in files_under(folder) if _is_result(file) for g in _runs(file, folder, arms)]
    if not found:
        raise WrongUse("holds no result", where=str(folder), next="one .json or .jsonl for each arm and concurrency")
    return arms, tuple(found)


def _is_result(file: Path) -> bool:
    """Not what only lies beside a result: aiperf's records and prompts, a sweep's summaries and warm-ups."""
    beside = (aiperf.INPUTS, aiperf.RECORDS, "summary.json", "warmup.json")
    return file.suffix in (".json", ".jsonl") and file.name not in beside and not file.name.endswith("failure.json")


def _runs(file: Path, folder: Path, arms: Sequence[Arm]) -> list[Given]:
    """Of one file; one whose lines are runs, as SGLang appends them, is taken apart by lines."""
    rel = file.relative_to(folder).as_posix()
    arm = arm_of(rel, arms)
    values = read_values(file)
    data = file.read_bytes()
    if isinstance(values[0], list):
        raise WrongUse("a list of runs", where=rel, next="give the files of the single runs")
    lines = [data] if len(values) == 1 else [x + b"\n" for x in data.splitlines() if x.strip()]
    return [
        Given(arm, rel, _kept(value, file, line), _result(value, rel, file.parent))
        for value, line in zip(values, lines, strict=True)
    ]


def _kept(value: object, file: Path, data: bytes) -> tuple[tuple[str, bytes], ...]:
    if not aiperf.claims(value):
        return (("run.jsonl" if file.suffix == ".jsonl" else "run.json", data),)
    beside = [file.parent / name for name in (aiperf.RECORDS, aiperf.INPUTS)]
    return ((aiperf.SUMMARY, data), *((f.name, f.read_bytes()) for f in beside if f.is_file() and not f.is_symlink()))


def _result(value: object, rel: str, folder: Path) -> Imported:
    if relative := relative_of(value):
        raise WrongUse(f"a result of {relative}: not read here", where=rel)
    if aiperf.claims(value):
        return aiperf.of(value, rel, folder)
    for module in (sglang, vllm_bench):
        if module.claims(value):
            found: Imported = module.of(value, rel)
            return found
    raise WrongUse("no result that is known here", where=rel, next="vllm bench serve, sglang bench_serving or aiperf")


def arm_of(rel: str, arms: Sequence[Arm]) -> str:
    """The arm a file belongs to. Raises WrongUse when it is none's."""
    parts = rel.split("/")
    for name in sorted((a.id for a in arms), key=len, reverse=True):
        if any(part == name or part.startswith(tuple(name + mark for mark in "-_.")) for part in parts):
            return name
    raise WrongUse(
        f"of none of the arms {', '.join(a.id for a in arms)}", where=rel, next=f"name it as its arm in {ARMS}"
    )
